// F32: eight vec4 a block, rows padded with zeros to whole blocks. No scales.
fn load_block(row: u32, block: u32, blocks: u32) -> array<vec4<f32>, 8> {
  let at = 8u * (row * blocks + block);
  var w: array<vec4<f32>, 8>;
  for (var j = 0u; j < 8u; j++) {
    w[j] = bitcast<vec4<f32>>(quants[at + j]);
  }
  return w;
}
