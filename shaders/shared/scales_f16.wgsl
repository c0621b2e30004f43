// Scales of one f16 each, those of two blocks of a row in a word.
fn half_scale(row: u32, block: u32, blocks: u32) -> f32 {
  let pair = unpack2x16float(scales[panel_index(row, block / 2u, (blocks + 1u) / 2u, 1u)]);
  return select(pair.x, pair.y, (block & 1u) == 1u);
}
