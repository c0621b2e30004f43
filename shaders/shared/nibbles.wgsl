// The four low nibbles of a word's bytes, as floats; shift by 4 first for the high ones.
fn low_nibbles(word: u32) -> vec4<f32> {
  return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(15u));
}

// The same with one more bit each, taken from bits 0..3 of `high`.
fn low_nibbles_5(word: u32, high: u32) -> vec4<f32> {
  let low = (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(15u);
  let top = (vec4<u32>(high) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u);
  return vec4<f32>(low | (top << vec4<u32>(4u)));
}
