//! Q4_1: 32 × 4 bits, f16 scale and minimum: `w = d q + m`.

use super::{Elements, Format, Scales, Sub, even, f16_at, nibbles};

pub(super) const FORMAT: Format = Format {
    ggml: 3,
    block_len: 32,
    block_bytes: 2 + 2 + 16,
    scales: Scales::F16(&[0, 2]),
    elements: Elements::Blocks(unpack),
    body: &[(4, 20)],
    head: &[(0, 4)],
    two_scales: false,
    grid: &[],
};

fn unpack(block: &[u8], _: usize) -> Sub {
    even(nibbles(&block[4..]), f16_at(block, 0), f16_at(block, 2))
}
