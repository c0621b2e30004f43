// F16: four vec4 a block, two values a word, rows padded with zeros to whole blocks. No scales.
fn load_block(row: u32, block: u32, blocks: u32) -> array<vec4<f32>, 8> {
  let at = 4u * (row * blocks + block);
  var w: array<vec4<f32>, 8>;
  for (var j = 0u; j < 4u; j++) {
    let q = quants[at + j];
    w[2u * j] = vec4<f32>(unpack2x16float(q.x), unpack2x16float(q.y));
    w[2u * j + 1u] = vec4<f32>(unpack2x16float(q.z), unpack2x16float(q.w));
  }
  return w;
}
