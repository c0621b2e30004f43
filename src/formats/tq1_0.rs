//! TQ1_0: 256 weights of three values, five a byte, one f16 scale: `w = d (digit - 1)`.

use super::{Elements, Format, Scales, Sub, bytes_at, even, f16_at};

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

/// Digit `digit` of bytes, less 1. A byte is 256 / 243 times a number of five digits of base 3, so a product's next digit
/// is in its high byte.
fn digits<const N: usize>(bytes: &[u8; N], digit: usize) -> [i8; N] {
    let power = [1, 3, 9, 27, 81][digit];
    bytes.map(|byte| ((u16::from(byte.wrapping_mul(power)) * 3) >> 8) as i8 - 1)
}

/// 32 bytes have a digit of each of five subs, 16 bytes of each of five halves of subs, and four bytes four digits of the
/// last half.
fn unpack(block: &[u8], sub: usize) -> Sub {
    let sixteen = |digit| digits(bytes_at::<16>(block, 32), digit);
    let q = match sub {
        0..5 => digits(bytes_at::<32>(block, 0), sub),
        5 | 6 => halves(sixteen(2 * sub - 10), sixteen(2 * sub - 9)),
        _ => {
            let four: [[i8; 4]; 4] = std::array::from_fn(|digit| digits(bytes_at::<4>(block, 48), digit));
            halves(sixteen(4), std::array::from_fn(|i| four[i / 4][i % 4]))
        }
    };
    even(q, f16_at(block, 52), 0.0)
}

fn halves(first: [i8; 16], last: [i8; 16]) -> [i8; 32] {
    std::array::from_fn(|i| if i < 16 { first[i] } else { last[i - 16] })
}
