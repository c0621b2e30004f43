// F32: eight vec4 a block, rows padded with zeros to whole blocks. No scales.
fn load_four(row: u32, block: u32, blocks: u32, i: u32) -> vec4<f32> {
  return bitcast<vec4<f32>>(quants[panel_index(row, block, blocks, 8u) + i * PANEL]);
}
