//! TQ1_0: 256 weights of three values, five a byte, one f16 scale: `w = d (digit - 1)`.

use super::{Elements, Format, Scales, Sub, even, f16_at};

pub(super) const FORMAT: Format = Format {
    ggml: 34,
    block_len: 256,
    block_bytes: 48 + 4 + 2,
    scales: Scales::F16(&[52]),
    elements: Elements::Blocks(unpack),
    body: &[(0, 48)],
    head: &[(48, 52), (52, 54)],
    two_scales: false,
    grid: &[],
};

/// Byte and digit of an element: 32 bytes have a digit of each of five times 32 elements, 16 bytes of each of five
/// times 16, and four bytes of each of four times four.
const fn place(element: usize) -> (usize, usize) {
    match element {
        0..160 => (element % 32, element / 32),
        160..240 => (32 + element % 16, (element - 160) / 16),
        _ => (48 + element % 4, (element - 240) / 4),
    }
}

fn unpack(block: &[u8], sub: usize) -> Sub {
    let q = std::array::from_fn(|i| {
        let (at, digit) = place(32 * sub + i);
        // A byte is 256 / 243 times a number of five digits of base 3, so the product's next digit is in its high byte.
        let rest = block[at].wrapping_mul([1, 3, 9, 27, 81][digit]);
        ((u16::from(rest) * 3) >> 8) as i8 - 1
    });
    even(q, f16_at(block, 52), 0.0)
}
