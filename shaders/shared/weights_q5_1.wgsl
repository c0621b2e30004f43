#import shared/nibbles.wgsl
// Q5_1: w = d q + m. quants as in Q4_0; scales: two words a block, (d, m) and the fifth bits.
fn load_block(row: u32, block: u32, blocks: u32) -> array<vec4<f32>, 8> {
  let at = row * blocks + block;
  let q = quants[at];
  let dm = unpack2x16float(scales[2u * at]);
  let high = scales[2u * at + 1u];
  var w: array<vec4<f32>, 8>;
  for (var j = 0u; j < 4u; j++) {
    w[j] = dm.x * low_nibbles_5(q[j], high >> (4u * j)) + dm.y;
    w[j + 4u] = dm.x * low_nibbles_5(q[j] >> 4u, high >> (16u + 4u * j)) + dm.y;
  }
  return w;
}
