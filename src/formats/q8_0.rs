//! Q8_0: 32 × 8 bits, one f16 scale: `w = d q`, `q` signed.

use super::{Elements, Format, Scales, Sub, even, f16_at};

pub(super) const FORMAT: Format = Format {
    ggml: 8,
    block_len: 32,
    block_bytes: 2 + 32,
    scales: Scales::F16(&[0]),
    elements: Elements::Blocks(unpack),
    body: &[(2, 34)],
    head: &[(0, 2)],
    two_scales: false,
    grid: &[],
};

fn unpack(block: &[u8], _: usize) -> Sub {
    even(std::array::from_fn(|i| block[2 + i] as i8), f16_at(block, 0), 0.0)
}
