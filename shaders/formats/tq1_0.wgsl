#import shared/packed.wgsl
// TQ1_0: 256 weights of three values, five a byte. quants: three vec4: 32 bytes with a digit for each of five blocks of 32,
// 16 bytes with one for each of five halves of blocks. scales: two words: four bytes with four digits each of the last
// half block, then d.
const ZERO_POINT = 0.0;

// 3^digit, for digits 0 to 4.
fn power_of_three(digit: u32) -> u32 {
  return select((0x1b090301u >> (8u * (digit & 3u))) & 255u, 81u, digit == 4u);
}

// A digit of each byte, less 1. A byte is 256 / 243 times a number of five digits of base 3: multiplied by 3^digit, its
// low byte times 3 has the digit above.
fn digits(bytes: vec4<u32>, digit: u32) -> vec4<u32> {
  let mask = vec4<u32>(0x00ff00ffu);
  let power = vec4<u32>(power_of_three(digit));
  let even = ((((bytes & mask) * power) & mask) * vec4<u32>(3u)) >> vec4<u32>(8u);
  let odd = ((((bytes >> vec4<u32>(8u)) & mask) * power) & mask) * vec4<u32>(3u);
  return bytes_less((even & vec4<u32>(0x00030003u)) | (odd & vec4<u32>(0x03000300u)), 1u);
}

fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let sub = block % 8u;
  let at = panel_index(row, block / 8u, blocks / 8u, 3u);
  let head = panel_index(row, block / 8u, blocks / 8u, 2u);
  let d = unpack2x16float(scales[head + PANEL]).x;
  if (sub < 5u) {
    return Packed(digits(quants[at], sub), digits(quants[at + PANEL], sub), d, 0.0);
  }
  let sixteen = quants[at + 2u * PANEL];
  let first = digits(sixteen, 2u * sub - 10u);
  if (sub < 7u) {
    return Packed(first, digits(sixteen, 2u * sub - 9u), d, 0.0);
  }
  let four = vec4<u32>(scales[head]);
  let last = vec4<u32>(digits(four, 0u).x, digits(four, 1u).x, digits(four, 2u).x, digits(four, 3u).x);
  return Packed(first, last, d, 0.0);
}
