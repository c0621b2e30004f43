// Scales of one f16 a block of 32 · `subs` weights, those of two blocks of a row in a word.
fn half_scale_of(row: u32, block: u32, blocks: u32, subs: u32) -> f32 {
  let at = block / subs;
  let pair = unpack2x16float(scales[GRID_WORDS + panel_index(row, at / 2u, (blocks / subs + 1u) / 2u, 1u)]);
  return select(pair.x, pair.y, (at & 1u) == 1u);
}
