//! Q4_K: 256 × 4 bits, a scale and a minimum of 6 bits for each 32: `w = d s q - dmin m`.

use super::{Elements, Format, Scales, Sub, even, f16_at};

pub(super) const FORMAT: Format = Format {
    ggml: 12,
    block_len: 256,
    block_bytes: 2 + 2 + 12 + 128,
    scales: Scales::F16(&[0, 2]),
    elements: Elements::Blocks(unpack),
    body: &[(16, 144)],
    head: &[(0, 16)],
    two_scales: false,
    grid: &[],
};

fn unpack(block: &[u8], sub: usize) -> Sub {
    let (s, m) = six_bits(block, sub);
    let (d, least) = (f16_at(block, 0), f16_at(block, 2));
    even(four_bits(&block[16..], sub), d * f32::from(s), -least * f32::from(m))
}

/// Scale and minimum of a sub, from bytes 4 to 15.
pub(crate) fn six_bits(block: &[u8], sub: usize) -> (u8, u8) {
    let at = |i| block[4 + i];
    if sub < 4 {
        return (at(sub) & 63, at(sub + 4) & 63);
    }
    // Of the last four the upper two bits are in the bytes of the first four.
    let low = at(sub + 4);
    (low & 15 | at(sub - 4) >> 6 << 4, low >> 4 | at(sub) >> 6 << 4)
}

/// Quants of 4 bits: those of two subs share 32 bytes.
pub(super) fn four_bits(bytes: &[u8], sub: usize) -> [i8; 32] {
    let (from, shift) = (32 * (sub / 2), 4 * (sub % 2));
    std::array::from_fn(|i| (bytes[from + i] >> shift & 15) as i8)
}
