//! IQ2_XXS: 256 weights, eights of a grid of 256 points with seven signs each, a scale of 4 bits for each 32:
//! `w = ± d (1 + 2 s) / 8 · point`.

use super::grids::{IQ2_XXS, eight, even_signs, of_eights};
use super::{Elements, Format, Scales, Sub, even, f16_at, u32_at};

pub(super) const FORMAT: Format = Format {
    ggml: 16,
    block_len: 256,
    block_bytes: 2 + 64,
    scales: Scales::F16(&[0]),
    elements: Elements::Blocks(unpack),
    body: &[(2, 66)],
    head: &[(0, 2)],
    two_scales: false,
    grid: &IQ2_XXS,
};

fn unpack(block: &[u8], sub: usize) -> Sub {
    let at = 2 + 8 * sub;
    // Four times seven signs, then the scale.
    let word = u32_at(block, at + 4);
    let q = of_eights(|i| eight(IQ2_XXS[usize::from(block[at + i])], even_signs(word >> (7 * i))));
    even(q, f16_at(block, 0) * (0.125 + 0.25 * (word >> 28) as f32), 0.0)
}
