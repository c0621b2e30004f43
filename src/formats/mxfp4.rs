//! MXFP4: 32 floats of 4 bits (E2M1), one scale that is a power of two (E8M0).
//! OCP Microscaling Formats (MX) Specification 1.0; halves low and high as in Q4_0.

use super::{Elements, Format, Scales, Sub, even, meanings, nibbles};

pub(super) const FORMAT: Format = Format {
    ggml: 39,
    block_len: 32,
    block_bytes: 1 + 16,
    scales: Scales::E8M0(0),
    elements: Elements::Blocks(unpack),
    body: &[(1, 17)],
    head: &[(0, 1)],
    two_scales: false,
    grid: &[],
};

/// Twice the floats of 4 bits, which makes them whole.
pub(super) const VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

fn unpack(block: &[u8], _: usize) -> Sub {
    // Half of 2^(e - 127); the two smallest are subnormal.
    let e = u32::from(block[0]);
    let scale = f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (e - 1) << 23 });
    even(meanings(nibbles(&block[1..]), &VALUES), scale, 0.0)
}
