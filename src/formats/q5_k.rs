//! Q5_K: 256 × 5 bits, a scale and a minimum of 6 bits for each 32: `w = d s q - dmin m`.

use super::q4_k::{four_bits, six_bits};
use super::{Elements, Format, Scales, Sub, even, f16_at};

pub(super) const FORMAT: Format = Format {
    ggml: 13,
    block_len: 256,
    block_bytes: 2 + 2 + 12 + 32 + 128,
    scales: Scales::F16(&[0, 2]),
    elements: Elements::Blocks(unpack),
    body: &[(16, 176)],
    head: &[(0, 16)],
    two_scales: false,
    grid: &[],
};

fn unpack(block: &[u8], sub: usize) -> Sub {
    let (s, m) = six_bits(block, sub);
    let (d, least) = (f16_at(block, 0), f16_at(block, 2));
    let four = four_bits(&block[48..], sub);
    // Fifth bits: bit `sub` of byte `i`.
    let q = std::array::from_fn(|i| four[i] | ((block[16 + i] >> sub & 1) << 4) as i8);
    even(q, d * f32::from(s), -least * f32::from(m))
}
