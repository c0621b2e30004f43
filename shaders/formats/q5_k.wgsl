#import shared/k_scales.wgsl
#import shared/packed.wgsl
// Q5_K: 256 weights. quants: ten vec4: fifth bits, one for each of eight blocks of 32, in the first two; the others as in
// Q4_K. scales: k_scales.
const ZERO_POINT = 16.0;
fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let start = panel_index(row, block / 8u, blocks / 8u, 10u);
  let at = start + (2u + (block & 6u)) * PANEL;
  let shift = 4u * (block & 1u);
  let fifth0 = bits_of_bytes(quants[start], block % 8u, 1u) << vec4<u32>(4u);
  let fifth1 = bits_of_bytes(quants[start + PANEL], block % 8u, 1u) << vec4<u32>(4u);
  let scale = k_scales(row, block, blocks);
  return Packed(
    bits_of_bytes(quants[at], shift, 15u) | fifth0,
    bits_of_bytes(quants[at + PANEL], shift, 15u) | fifth1,
    scale.x,
    scale.y,
  );
}
