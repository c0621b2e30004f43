#import shared/k_scales.wgsl
#import shared/packed.wgsl
// Q4_K: 256 weights. quants: eight vec4, of which two hold 4 bits of each of two blocks of 32. scales: k_scales.
const ZERO_POINT = 8.0;
fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let at = panel_index(row, block / 8u, blocks / 8u, 8u) + (block & 6u) * PANEL;
  let shift = 4u * (block & 1u);
  let scale = k_scales(row, block, blocks);
  return Packed(
    bits_of_bytes(quants[at], shift, 15u),
    bits_of_bytes(quants[at + PANEL], shift, 15u),
    scale.x,
    scale.y,
  );
}
