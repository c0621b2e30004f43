//! IQ4_NL: 32 × 4 bits that stand for 16 numbers, one f16 scale: `w = d VALUES[q]`.

use super::{Elements, Format, Scales, Sub, even, f16_at, meanings, nibbles};

pub(super) const FORMAT: Format = Format {
    ggml: 20,
    block_len: 32,
    block_bytes: 2 + 16,
    scales: Scales::F16(&[0]),
    elements: Elements::Blocks(unpack),
    body: &[(2, 18)],
    head: &[(0, 2)],
    two_scales: false,
    grid: &[],
};

/// What the quants stand for (`kvalues_iq4nl`).
pub(super) const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

fn unpack(block: &[u8], _: usize) -> Sub {
    even(meanings(nibbles(&block[2..]), &VALUES), f16_at(block, 0), 0.0)
}
