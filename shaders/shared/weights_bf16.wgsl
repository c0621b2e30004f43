// BF16: four vec4 a block, two values a word, rows padded with zeros to whole blocks. No scales.
// A bfloat16 is the upper half of an f32.
fn brain_pair(word: u32) -> vec2<f32> {
  return bitcast<vec2<f32>>(vec2<u32>(word << 16u, word & 0xffff0000u));
}

fn load_block(row: u32, block: u32, blocks: u32) -> Block {
  let at = place(row, block, blocks, 4u);
  let q0 = quants[at];
  let q1 = quants[at + PANEL];
  let q2 = quants[at + 2u * PANEL];
  let q3 = quants[at + 3u * PANEL];
  return Block(
    vec4<f32>(brain_pair(q0.x), brain_pair(q0.y)),
    vec4<f32>(brain_pair(q0.z), brain_pair(q0.w)),
    vec4<f32>(brain_pair(q1.x), brain_pair(q1.y)),
    vec4<f32>(brain_pair(q1.z), brain_pair(q1.w)),
    vec4<f32>(brain_pair(q2.x), brain_pair(q2.y)),
    vec4<f32>(brain_pair(q2.z), brain_pair(q2.w)),
    vec4<f32>(brain_pair(q3.x), brain_pair(q3.y)),
    vec4<f32>(brain_pair(q3.z), brain_pair(q3.w)),
    1.0,
    0.0,
  );
}
