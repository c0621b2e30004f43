// F16: four vec4 a block, two values a word, rows padded with zeros to whole blocks. No scales.
fn load_block(row: u32, block: u32, blocks: u32) -> Block {
  let at = place(row, block, blocks, 4u);
  let q0 = quants[at];
  let q1 = quants[at + PANEL];
  let q2 = quants[at + 2u * PANEL];
  let q3 = quants[at + 3u * PANEL];
  return Block(
    vec4<f32>(unpack2x16float(q0.x), unpack2x16float(q0.y)),
    vec4<f32>(unpack2x16float(q0.z), unpack2x16float(q0.w)),
    vec4<f32>(unpack2x16float(q1.x), unpack2x16float(q1.y)),
    vec4<f32>(unpack2x16float(q1.z), unpack2x16float(q1.w)),
    vec4<f32>(unpack2x16float(q2.x), unpack2x16float(q2.y)),
    vec4<f32>(unpack2x16float(q2.z), unpack2x16float(q2.w)),
    vec4<f32>(unpack2x16float(q3.x), unpack2x16float(q3.y)),
    vec4<f32>(unpack2x16float(q3.z), unpack2x16float(q3.w)),
    1.0,
    0.0,
  );
}
