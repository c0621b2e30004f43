//! Q2_K: 256 × 2 bits, a scale and a minimum of 4 bits for each 16: `w = d s q - dmin m`.

use super::{Elements, Format, Scales, Sub, bytes_at, f16_at};

pub(super) const FORMAT: Format = Format {
    ggml: 10,
    block_len: 256,
    block_bytes: 16 + 64 + 2 + 2,
    scales: Scales::F16(&[80, 82]),
    elements: Elements::Blocks(unpack),
    body: &[(16, 80)],
    head: &[(0, 16), (80, 84)],
    two_scales: true,
    grid: &[],
};

fn unpack(block: &[u8], sub: usize) -> Sub {
    let (d, least) = (f16_at(block, 80), f16_at(block, 82));
    let scales = [block[2 * sub], block[2 * sub + 1]];
    Sub {
        q: two_bits(&block[16..80], sub),
        scale: scales.map(|s| d * f32::from(s & 15)),
        low: scales.map(|s| -least * f32::from(s >> 4)),
    }
}

/// Quants of 2 bits: those of four subs share 32 bytes.
pub(super) fn two_bits(bytes: &[u8], sub: usize) -> [i8; 32] {
    let shift = 2 * (sub % 4);
    bytes_at::<32>(bytes, 32 * (sub / 4)).map(|byte| (byte >> shift & 3) as i8)
}
