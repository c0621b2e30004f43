//! IQ1_M: 256 weights, eights of a grid of 2048 points with a shift of an eighth each, a scale of 3 bits for each 16:
//! `w = d (1 + 2 s) (point ± 1/8)`. The four nibbles of d are apart.

use super::grids::{IQ1_S, of_eights, shifted};
use super::{Elements, Format, Scales, Sub, nibbles_f16, u16_at};

pub(super) const FORMAT: Format = Format {
    ggml: 29,
    block_len: 256,
    block_bytes: 32 + 16 + 8,
    scales: Scales::Nibbles(48),
    elements: Elements::Blocks(unpack),
    body: &[(0, 32)],
    head: &[(32, 56)],
    two_scales: true,
    grid: &IQ1_S,
};

fn unpack(block: &[u8], sub: usize) -> Sub {
    let q = of_eights(|i| {
        // Three upper bits of the index, the shift's sign.
        let four = block[32 + 2 * sub + i / 2] >> (4 * (i % 2));
        let index = usize::from(block[4 * sub + i]) | usize::from(four & 7) << 8;
        shifted(IQ1_S[index], four & 8 == 8)
    });
    let d = half::f16::from_bits(nibbles_f16(block, 48)).to_f32();
    let scales = u16_at(block, 48 + 2 * (sub / 2)) >> (6 * (sub % 2));
    let scale = [0, 3].map(|at| d * (0.125 + 0.25 * f32::from(scales >> at & 7)));
    Sub { q, scale, low: [0.0; 2] }
}
