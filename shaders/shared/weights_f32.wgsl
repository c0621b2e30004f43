// F32: eight vec4 a block, rows padded with zeros to whole blocks. No scales.
fn load_block(row: u32, block: u32, blocks: u32) -> Block {
  let at = 8u * (row * blocks + block);
  return Block(
    bitcast<vec4<f32>>(quants[at + 0u]),
    bitcast<vec4<f32>>(quants[at + 1u]),
    bitcast<vec4<f32>>(quants[at + 2u]),
    bitcast<vec4<f32>>(quants[at + 3u]),
    bitcast<vec4<f32>>(quants[at + 4u]),
    bitcast<vec4<f32>>(quants[at + 5u]),
    bitcast<vec4<f32>>(quants[at + 6u]),
    bitcast<vec4<f32>>(quants[at + 7u]),
  );
}
