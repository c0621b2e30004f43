#import shared/scales_f16.wgsl
// Q8_0: w = d q, q signed. quants: two vec4 a block, four bytes a word.
const ZERO_POINT = 0.0;
fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let at = panel_index(row, block, blocks, 2u);
  return Packed(quants[at], quants[at + PANEL], half_scale(row, block, blocks), 0.0);
}
