//! IQ3_S: 256 weights, fours of a grid of 512 points with a sign for each, a scale of 4 bits for each 32:
//! `w = ± d (1 + 2 s) (1 + 2 code)`.

use super::grids::{IQ3_S, fours_s, of_eights};
use super::{Elements, Format, Scales, Sub, bytes_at, even, f16_at};

pub(super) const FORMAT: Format = Format {
    ggml: 21,
    block_len: 256,
    block_bytes: 2 + 64 + 8 + 32 + 4,
    scales: Scales::F16(&[0]),
    elements: Elements::Blocks(unpack),
    body: &[(2, 66), (74, 106)],
    head: &[(106, 110), (66, 74), (0, 2)],
    two_scales: false,
    grid: &IQ3_S,
};

fn unpack(block: &[u8], sub: usize) -> Sub {
    let scale = block[106 + sub / 2] >> (4 * (sub % 2)) & 15;
    // Ninth bits of the indices.
    let high = usize::from(block[66 + sub]);
    let indices = bytes_at::<8>(block, 2 + 8 * sub);
    let signs = bytes_at::<4>(block, 74 + 4 * sub);
    let point = |i: usize| IQ3_S[usize::from(indices[i]) | (high >> i & 1) << 8];
    let q = of_eights(|i| fours_s([point(2 * i), point(2 * i + 1)], signs[i].into()));
    even(q, f16_at(block, 0) * f32::from(1 + 2 * scale), 0.0)
}
