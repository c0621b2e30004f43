//! Q3_K: 256 × 3 bits, a scale of 6 bits for each 16: `w = d (s - 32) (q - 4)`.

use super::q2_k::two_bits;
use super::{Elements, Format, Scales, Sub, bytes_at, f16_at};

pub(super) const FORMAT: Format = Format {
    ggml: 11,
    block_len: 256,
    block_bytes: 32 + 64 + 12 + 2,
    scales: Scales::F16(&[108]),
    elements: Elements::Blocks(unpack),
    body: &[(0, 96)],
    head: &[(96, 110)],
    two_scales: true,
    grid: &[],
};

fn unpack(block: &[u8], sub: usize) -> Sub {
    let d = f16_at(block, 108);
    let (low, third) = (two_bits(&block[32..96], sub), bytes_at::<32>(block, 0));
    Sub {
        // Third bits: bit `sub` of byte `i`.
        q: std::array::from_fn(|i| (low[i] | ((third[i] >> sub & 1) << 2) as i8) - 4),
        scale: [0, 1].map(|half| {
            let (i, bytes) = (2 * sub + half, &block[96..108]);
            // Four bits of scales 0 to 7, of 8 to 15 above them; then two bits more of each.
            let four = bytes[i % 8] >> (4 * (i / 8)) & 15;
            let two = bytes[8 + i % 4] >> (2 * (i / 4)) & 3;
            d * (f32::from(four | two << 4) - 32.0)
        }),
        low: [0.0; 2],
    }
}
