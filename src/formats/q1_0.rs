//! Q1_0: 128 × 1 bit, one f16 scale: `w = d` or `-d`.

use super::{Elements, Format, Scales, Sub, bytes_at, even, f16_at};

pub(super) const FORMAT: Format = Format {
    ggml: 41,
    block_len: 128,
    block_bytes: 2 + 16,
    scales: Scales::F16(&[0]),
    elements: Elements::Blocks(unpack),
    body: &[(2, 18)],
    head: &[(0, 2)],
    two_scales: false,
    grid: &[],
};

fn unpack(block: &[u8], sub: usize) -> Sub {
    let bits = bytes_at::<4>(block, 2 + 4 * sub);
    even(std::array::from_fn(|i| 2 * (bits[i / 8] >> (i % 8) & 1) as i8 - 1), f16_at(block, 0), 0.0)
}
