//! IQ4_XS: 256 × 4 bits as in IQ4_NL, a scale of 6 bits for each 32: `w = d (s - 32) VALUES[q]`.

use super::iq4_nl::VALUES;
use super::{Elements, Format, Scales, Sub, even, f16_at, meanings, nibbles, u16_at};

pub(super) const FORMAT: Format = Format {
    ggml: 23,
    block_len: 256,
    block_bytes: 2 + 2 + 4 + 128,
    scales: Scales::F16(&[0]),
    elements: Elements::Blocks(unpack),
    body: &[(8, 136)],
    head: &[(0, 8)],
    two_scales: false,
    grid: &[],
};

fn unpack(block: &[u8], sub: usize) -> Sub {
    let low = block[4 + sub / 2] >> (4 * (sub % 2)) & 15;
    let high = (u16_at(block, 2) >> (2 * sub) & 3) as u8;
    let scale = f16_at(block, 0) * (f32::from(low | high << 4) - 32.0);
    even(meanings(nibbles(&block[8 + 16 * sub..]), &VALUES), scale, 0.0)
}
