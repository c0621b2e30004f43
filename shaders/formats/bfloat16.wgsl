// BF16: four vec4 a block, two values a word, rows padded with zeros to whole blocks. No scales.
// A bfloat16 is the upper half of an f32.
fn brain_pair(word: u32) -> vec2<f32> {
  return bitcast<vec2<f32>>(vec2<u32>(word << 16u, word & 0xffff0000u));
}

fn load_four(row: u32, block: u32, blocks: u32, i: u32) -> vec4<f32> {
  let q = quants[panel_index(row, block, blocks, 4u) + i / 2u * PANEL];
  let pair = select(q.xy, q.zw, (i & 1u) == 1u);
  return vec4<f32>(brain_pair(pair.x), brain_pair(pair.y));
}
