//! IQ2_S: 256 weights, eights of a grid of 1024 points with eight signs each, a scale of 4 bits for each 16:
//! `w = ± d (1 + 2 s) / 8 · point`.

use super::grids::{IQ2_S, eight, of_eights};
use super::{Elements, Format, Scales, Sub, f16_at, two_nibbles};

pub(super) const FORMAT: Format = Format {
    ggml: 22,
    block_len: 256,
    block_bytes: 2 + 32 + 32 + 8 + 8,
    scales: Scales::F16(&[0]),
    elements: Elements::Blocks(unpack),
    body: &[(2, 66)],
    head: &[(66, 82), (0, 2)],
    two_scales: true,
    grid: &IQ2_S,
};

fn unpack(block: &[u8], sub: usize) -> Sub {
    // Two upper bits of each index.
    let high = usize::from(block[66 + sub]);
    let q = of_eights(|i| {
        let index = usize::from(block[2 + 4 * sub + i]) | (high >> (2 * i) & 3) << 8;
        eight(IQ2_S[index], u32::from(block[34 + 4 * sub + i]))
    });
    let d = f16_at(block, 0);
    let scale = two_nibbles(block[74 + sub]).map(|s| d * (0.125 + 0.25 * s));
    Sub { q, scale, low: [0.0; 2] }
}
