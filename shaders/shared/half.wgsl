// Scales of one f16 each, two to a word, rows padded to whole words.
fn half_scale(row: u32, block: u32, blocks: u32) -> f32 {
  let pair = unpack2x16float(scales[row * ((blocks + 1u) / 2u) + block / 2u]);
  return select(pair.x, pair.y, (block & 1u) == 1u);
}
