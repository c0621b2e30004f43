//! IQ2_XS: 256 weights, eights of a grid of 512 points with seven signs each, a scale of 4 bits for each 16:
//! `w = ± d (1 + 2 s) / 8 · point`.

use super::grids::{IQ2_XS, eight, even_signs, of_eights};
use super::{Elements, Format, Scales, Sub, f16_at, two_nibbles, u16_at};

pub(super) const FORMAT: Format = Format {
    ggml: 17,
    block_len: 256,
    block_bytes: 2 + 64 + 8,
    scales: Scales::F16(&[0]),
    elements: Elements::Blocks(unpack),
    body: &[(2, 66)],
    head: &[(66, 74), (0, 2)],
    two_scales: true,
    grid: &IQ2_XS,
};

fn unpack(block: &[u8], sub: usize) -> Sub {
    let q = of_eights(|i| {
        let word = u16_at(block, 2 + 8 * sub + 2 * i);
        eight(IQ2_XS[usize::from(word & 511)], even_signs(u32::from(word >> 9)))
    });
    let d = f16_at(block, 0);
    let scale = two_nibbles(block[66 + sub]).map(|s| d * (0.125 + 0.25 * s));
    Sub { q, scale, low: [0.0; 2] }
}
