#import shared/half.wgsl
// Q8_0: w = d q, q signed. quants: two vec4 a block, four bytes a word.
fn load_block(row: u32, block: u32, blocks: u32) -> array<vec4<f32>, 8> {
  let at = 2u * (row * blocks + block);
  let lo = bitcast<vec4<i32>>(quants[at]);
  let hi = bitcast<vec4<i32>>(quants[at + 1u]);
  let d = half_scale(row, block, blocks);
  var w: array<vec4<f32>, 8>;
  for (var j = 0u; j < 4u; j++) {
    // Shift the byte to the top, then down again, to extend its sign.
    w[j] = d * vec4<f32>((vec4<i32>(lo[j]) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
    w[j + 4u] = d * vec4<f32>((vec4<i32>(hi[j]) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
  }
  return w;
}
