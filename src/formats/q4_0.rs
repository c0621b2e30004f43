//! Q4_0: 32 × 4 bits, one f16 scale: `w = d (q - 8)`.

use super::{Elements, Format, Scales, Sub, even, f16_at, nibbles};

pub(super) const FORMAT: Format = Format {
    ggml: 2,
    block_len: 32,
    block_bytes: 2 + 16,
    scales: Scales::F16(&[0]),
    elements: Elements::Blocks(unpack),
    body: &[(2, 18)],
    head: &[(0, 2)],
    two_scales: false,
    grid: &[],
};

fn unpack(block: &[u8], _: usize) -> Sub {
    let d = f16_at(block, 0);
    even(nibbles(&block[2..]), d, -8.0 * d)
}
