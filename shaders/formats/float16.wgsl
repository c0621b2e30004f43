// F16: four vec4 a block, two values a word, rows padded with zeros to whole blocks. No scales.
fn load_four(row: u32, block: u32, blocks: u32, i: u32) -> vec4<f32> {
  let q = quants[panel_index(row, block, blocks, 4u) + i / 2u * PANEL];
  let pair = select(q.xy, q.zw, (i & 1u) == 1u);
  return vec4<f32>(unpack2x16float(pair.x), unpack2x16float(pair.y));
}
