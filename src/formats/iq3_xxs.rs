//! IQ3_XXS: 256 weights, fours of a grid of 256 points, seven signs for each eight, a scale of 4 bits for each 32:
//! `w = ± d (1 + 2 s) / 4 · point`.

use super::grids::{IQ3_XXS, even_signs, fours_xxs, of_eights};
use super::{Elements, Format, Scales, Sub, bytes_at, even, f16_at, u32_at};

pub(super) const FORMAT: Format = Format {
    ggml: 18,
    block_len: 256,
    block_bytes: 2 + 64 + 32,
    scales: Scales::F16(&[0]),
    elements: Elements::Blocks(unpack),
    body: &[(2, 98)],
    head: &[(0, 2)],
    two_scales: false,
    grid: &IQ3_XXS,
};

fn unpack(block: &[u8], sub: usize) -> Sub {
    // Four times seven signs, then the scale.
    let word = u32_at(block, 66 + 4 * sub);
    let indices = bytes_at::<8>(block, 2 + 8 * sub);
    let point = |i: usize| IQ3_XXS[usize::from(indices[i])];
    let q = of_eights(|i| fours_xxs([point(2 * i), point(2 * i + 1)], even_signs(word >> (7 * i))));
    even(q, f16_at(block, 0) * (0.25 + 0.5 * (word >> 28) as f32), 0.0)
}
