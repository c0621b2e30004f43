//! Q5_0: 32 × 5 bits, one f16 scale: `w = d (q - 16)`.

use super::{Elements, Format, Scales, Sub, even, f16_at, fifth_bits, nibbles};

pub(super) const FORMAT: Format = Format {
    ggml: 6,
    block_len: 32,
    block_bytes: 2 + 4 + 16,
    scales: Scales::F16(&[0]),
    elements: Elements::Blocks(unpack),
    body: &[(6, 22)],
    head: &[(0, 2), (2, 6)],
    two_scales: false,
    grid: &[],
};

fn unpack(block: &[u8], _: usize) -> Sub {
    let d = f16_at(block, 0);
    even(fifth_bits(nibbles(&block[6..]), &block[2..6]), d, -16.0 * d)
}
