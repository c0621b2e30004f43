// F32: eight vec4 a block, rows padded with zeros to whole blocks. No scales.
fn load_block(row: u32, block: u32, blocks: u32) -> Block {
  let at = place(row, block, blocks, 8u);
  return Block(
    bitcast<vec4<f32>>(quants[at + 0u * PANEL]),
    bitcast<vec4<f32>>(quants[at + 1u * PANEL]),
    bitcast<vec4<f32>>(quants[at + 2u * PANEL]),
    bitcast<vec4<f32>>(quants[at + 3u * PANEL]),
    bitcast<vec4<f32>>(quants[at + 4u * PANEL]),
    bitcast<vec4<f32>>(quants[at + 5u * PANEL]),
    bitcast<vec4<f32>>(quants[at + 6u * PANEL]),
    bitcast<vec4<f32>>(quants[at + 7u * PANEL]),
    1.0,
    0.0,
  );
}
