#import shared/scales_f16.wgsl
#import shared/nibbles.wgsl
// Q4_0: w = d (q - 8). quants: one vec4 a block, byte i holds elements i (low) and 16 + i (high).
const ZERO_POINT = 8.0;
fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let q = quants[panel_index(row, block, blocks, 1u)];
  let d = half_scale(row, block, blocks);
  return Packed(low_nibbles(q), low_nibbles(q >> vec4<u32>(4u)), d, -8.0 * d);
}
