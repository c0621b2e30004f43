//! IQ1_S: 256 weights, eights of a grid of 2048 points, a scale of 3 bits and a shift of an eighth for each 32:
//! `w = d (1 + 2 s) (point ± 1/8)`.

use super::grids::{IQ1_S, of_eights, shifted};
use super::{Elements, Format, Scales, Sub, even, f16_at, u16_at};

pub(super) const FORMAT: Format = Format {
    ggml: 19,
    block_len: 256,
    block_bytes: 2 + 32 + 16,
    scales: Scales::F16(&[0]),
    elements: Elements::Blocks(unpack),
    body: &[(2, 34)],
    head: &[(34, 50), (0, 2)],
    two_scales: false,
    grid: &IQ1_S,
};

fn unpack(block: &[u8], sub: usize) -> Sub {
    // Four times three upper bits of an index, the scale, the shift's sign.
    let word = usize::from(u16_at(block, 34 + 2 * sub));
    let q = of_eights(|i| {
        let index = usize::from(block[2 + 4 * sub + i]) | (word >> (3 * i) & 7) << 8;
        shifted(IQ1_S[index], word >> 15 == 1)
    });
    even(q, f16_at(block, 0) * (0.125 + 0.25 * (word >> 12 & 7) as f32), 0.0)
}
