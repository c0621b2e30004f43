#import shared/nibbles.wgsl
// Q4_1: w = d q + m. quants as in Q4_0; scales: one word (d, m) a block.
const ZERO_POINT = 8.0;
fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let at = panel_index(row, block, blocks, 1u);
  let q = quants[at];
  let dm = unpack2x16float(scales[at]);
  return Packed(low_nibbles(q), low_nibbles(q >> vec4<u32>(4u)), dm.x, dm.y);
}
