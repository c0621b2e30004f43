#import shared/packed.wgsl
// Codes of four bits, four a word, one a byte, to the signed bytes that they stand for: CODE_0 to CODE_15 of the format.
// A tree of choices by bits, for a table that is indexed may end in memory.
fn masks(codes: vec4<u32>, bit: u32) -> vec4<u32> {
  return bits_of_bytes(codes, bit, 1u) * vec4<u32>(255u);
}

fn of_two(low: u32, high: u32, mask: vec4<u32>) -> vec4<u32> {
  return vec4<u32>(low * 0x01010101u) ^ (vec4<u32>((low ^ high) * 0x01010101u) & mask);
}

fn either(low: vec4<u32>, high: vec4<u32>, mask: vec4<u32>) -> vec4<u32> {
  return low ^ ((low ^ high) & mask);
}

fn meanings(codes: vec4<u32>) -> vec4<u32> {
  let m0 = masks(codes, 0u);
  let m1 = masks(codes, 1u);
  let m2 = masks(codes, 2u);
  let a = either(of_two(CODE_0, CODE_1, m0), of_two(CODE_2, CODE_3, m0), m1);
  let b = either(of_two(CODE_4, CODE_5, m0), of_two(CODE_6, CODE_7, m0), m1);
  let c = either(of_two(CODE_8, CODE_9, m0), of_two(CODE_10, CODE_11, m0), m1);
  let d = either(of_two(CODE_12, CODE_13, m0), of_two(CODE_14, CODE_15, m0), m1);
  return either(either(a, b, m2), either(c, d, m2), masks(codes, 3u));
}
