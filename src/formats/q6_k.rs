//! Q6_K: 256 × 6 bits, a scale of 8 bits for each 16: `w = d s (q - 32)`.

use super::q2_k::two_bits;
use super::{Elements, Format, Scales, Sub, f16_at};

pub(super) const FORMAT: Format = Format {
    ggml: 14,
    block_len: 256,
    block_bytes: 128 + 64 + 16 + 2,
    scales: Scales::F16(&[208]),
    elements: Elements::Blocks(unpack),
    body: &[(0, 192)],
    head: &[(192, 210)],
    two_scales: true,
    grid: &[],
};

fn unpack(block: &[u8], sub: usize) -> Sub {
    let d = f16_at(block, 208);
    // Of the four subs that share 64 bytes, the last two have the high nibbles.
    let (from, shift) = (64 * (sub / 4) + 32 * (sub % 2), 4 * (sub % 4 / 2));
    let high = two_bits(&block[128..192], sub);
    Sub {
        q: std::array::from_fn(|i| ((block[from + i] >> shift & 15) as i8 | high[i] << 4) - 32),
        scale: [0, 1].map(|half| d * f32::from(block[192 + 2 * sub + half] as i8)),
        low: [0.0; 2],
    }
}
