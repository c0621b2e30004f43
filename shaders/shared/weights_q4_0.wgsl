#import shared/half.wgsl
#import shared/nibbles.wgsl
// Q4_0: w = d (q - 8). quants: one vec4 a block, byte i holds elements i (low) and 16 + i (high).
fn load_block(row: u32, block: u32, blocks: u32) -> array<vec4<f32>, 8> {
  let q = quants[row * blocks + block];
  let d = half_scale(row, block, blocks);
  var w: array<vec4<f32>, 8>;
  for (var j = 0u; j < 4u; j++) {
    w[j] = d * (low_nibbles(q[j]) - 8.0);
    w[j + 4u] = d * (low_nibbles(q[j] >> 4u) - 8.0);
  }
  return w;
}
