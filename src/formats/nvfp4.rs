//! NVFP4: 64 floats of 4 bits (E2M1), a scale of 8 bits (E4M3 without a sign) for each 16.

use super::mxfp4::VALUES;
use super::{Elements, Format, Scales, Sub, bytes_at, meanings};

pub(super) const FORMAT: Format = Format {
    ggml: 40,
    block_len: 64,
    block_bytes: 4 + 32,
    scales: Scales::Small,
    elements: Elements::Blocks(unpack),
    body: &[(4, 36)],
    head: &[(0, 4)],
    two_scales: true,
    grid: &[],
};

fn unpack(block: &[u8], sub: usize) -> Sub {
    // Eight bytes hold sixteen elements, the first eight low.
    let quants = bytes_at::<16>(block, 4 + 16 * sub);
    let codes = std::array::from_fn(|i| (quants[8 * (i / 16) + i % 8] >> (4 * (i % 16 / 8)) & 15) as i8);
    let q = meanings(codes, &VALUES);
    Sub { q, scale: [0, 1].map(|half| half_of_e4m3(block[2 * sub + half])), low: [0.0; 2] }
}

/// Half of the float: four bits of exponent and three of fraction, the top bit unused; 0 for the code of NaN.
fn half_of_e4m3(byte: u8) -> f32 {
    let (exponent, fraction) = (u32::from(byte >> 3 & 15), u32::from(byte & 7));
    match (byte, exponent) {
        (0x7f, _) => 0.0,
        (_, 0) => fraction as f32 / 1024.0,
        _ => f32::from_bits((exponent + 119) << 23 | fraction << 20),
    }
}
