//! Q2_0: 64 × 2 bits, one f16 scale: `w = d (q - 1)`.

use super::{Elements, Format, Scales, Sub, bytes_at, even, f16_at};

pub(super) const FORMAT: Format = Format {
    ggml: 42,
    block_len: 64,
    block_bytes: 2 + 16,
    scales: Scales::F16(&[0]),
    elements: Elements::Blocks(unpack),
    body: &[(2, 18)],
    head: &[(0, 2)],
    two_scales: false,
    grid: &[],
};

fn unpack(block: &[u8], sub: usize) -> Sub {
    let quants = bytes_at::<8>(block, 2 + 8 * sub);
    even(std::array::from_fn(|i| (quants[i / 4] >> (2 * (i % 4)) & 3) as i8 - 1), f16_at(block, 0), 0.0)
}
