//! TQ2_0: 256 weights of 2 bits, one f16 scale: `w = d (q - 1)`.

use super::q2_k::two_bits;
use super::{Elements, Format, Scales, Sub, even, f16_at};

pub(super) const FORMAT: Format = Format {
    ggml: 35,
    block_len: 256,
    block_bytes: 64 + 2,
    scales: Scales::F16(&[64]),
    elements: Elements::Blocks(unpack),
    body: &[(0, 64)],
    head: &[(64, 66)],
    two_scales: false,
    grid: &[],
};

fn unpack(block: &[u8], sub: usize) -> Sub {
    even(two_bits(block, sub).map(|q| q - 1), f16_at(block, 64), 0.0)
}
