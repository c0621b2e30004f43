// BF16: four vec4 a block, two values a word, rows padded with zeros to whole blocks. No scales.
// A bfloat16 is the upper half of an f32.
fn brain_pair(word: u32) -> vec2<f32> {
  return bitcast<vec2<f32>>(vec2<u32>(word << 16u, word & 0xffff0000u));
}

fn load_block(row: u32, block: u32, blocks: u32) -> array<vec4<f32>, 8> {
  let at = 4u * (row * blocks + block);
  var w: array<vec4<f32>, 8>;
  for (var j = 0u; j < 4u; j++) {
    let q = quants[at + j];
    w[2u * j] = vec4<f32>(brain_pair(q.x), brain_pair(q.y));
    w[2u * j + 1u] = vec4<f32>(brain_pair(q.z), brain_pair(q.w));
  }
  return w;
}
