//! Q5_1: 32 × 5 bits, f16 scale and minimum: `w = d q + m`.

use super::{Elements, Format, Scales, Sub, even, f16_at, fifth_bits, nibbles};

pub(super) const FORMAT: Format = Format {
    ggml: 7,
    block_len: 32,
    block_bytes: 2 + 2 + 4 + 16,
    scales: Scales::F16(&[0, 2]),
    elements: Elements::Blocks(unpack),
    body: &[(8, 24)],
    head: &[(0, 8)],
    two_scales: false,
    grid: &[],
};

fn unpack(block: &[u8], _: usize) -> Sub {
    even(fifth_bits(nibbles(&block[8..]), &block[4..8]), f16_at(block, 0), f16_at(block, 2))
}
