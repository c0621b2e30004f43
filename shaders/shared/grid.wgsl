#import shared/spread.wgsl
#import shared/sub_blocks.wgsl
// Formats whose quants are points of a grid: GRID_WORDS words in front of the scales, two points each.
fn grid_point(index: u32) -> u32 {
  return scales[index / 2u] >> (16u * (index & 1u));
}

// The bytes of a word, all above zero, with a minus where `signs` has a bit.
fn with_signs(bytes: u32, signs: u32) -> u32 {
  let ones = spread_1(signs);
  return (bytes ^ (ones * 255u)) + ones;
}

// Seven bits of signs, and an eighth that makes the number of ones even.
fn even_signs(seven: u32) -> u32 {
  let low = seven & 127u;
  return low | ((countOneBits(low) & 1u) << 7u);
}

// Eight codes of two bits for 8, 25 and 43.
fn eight(index: u32, signs: u32) -> vec2<u32> {
  let point = grid_point(index);
  let codes = vec2<u32>(spread_2(point), spread_2(point >> 8u));
  let bytes = codes * vec2<u32>(17u) + ((codes >> vec2<u32>(1u)) & vec2<u32>(0x01010101u)) + vec2<u32>(0x08080808u);
  return vec2<u32>(with_signs(bytes.x, signs), with_signs(bytes.y, signs >> 4u));
}

// Four codes of four bits, one a byte.
fn four_codes(index: u32) -> u32 {
  let point = grid_point(index);
  return (point & 15u) | ((point & 0xf0u) << 4u) | ((point & 0xf00u) << 8u) | ((point & 0xf000u) << 12u);
}

// Eight codes of two bits for -1, 0 and 1: eight times that, and 1 or, with `is_less`, -1.
fn eight_shifted(index: u32, is_less: bool) -> vec2<u32> {
  let point = grid_point(index);
  let codes = vec2<u32>(spread_2(point), spread_2(point >> 8u));
  return (codes * vec2<u32>(8u) + vec2<u32>(select(0x79797979u, 0x77777777u, is_less))) ^ vec2<u32>(0x80808080u);
}
