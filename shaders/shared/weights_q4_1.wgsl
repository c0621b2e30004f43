#import shared/nibbles.wgsl
// Q4_1: w = d q + m. quants as in Q4_0; scales: one word (d, m) a block.
fn load_block(row: u32, block: u32, blocks: u32) -> array<vec4<f32>, 8> {
  let at = row * blocks + block;
  let q = quants[at];
  let dm = unpack2x16float(scales[at]);
  var w: array<vec4<f32>, 8>;
  for (var j = 0u; j < 4u; j++) {
    w[j] = dm.x * low_nibbles(q[j]) + dm.y;
    w[j + 4u] = dm.x * low_nibbles(q[j] >> 4u) + dm.y;
  }
  return w;
}
