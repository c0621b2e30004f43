const GRID_WORDS = 128u;
#import shared/grid.wgsl
// IQ2_XXS: 256 weights. quants: four vec4, two words a block of 32: four indices, a byte for each eight weights; then four
// times seven signs and the scale's four bits. scales: d.
const ZERO_POINT = 0.0;
fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let sub = block % 8u;
  let both = quants[panel_index(row, block / 8u, blocks / 8u, 4u) + sub / 2u * PANEL];
  let words = select(both.xy, both.zw, (sub & 1u) == 1u);
  let indices = words.x;
  let word = words.y;
  return Packed(
    vec4<u32>(eight(indices & 255u, even_signs(word)), eight((indices >> 8u) & 255u, even_signs(word >> 7u))),
    vec4<u32>(eight((indices >> 16u) & 255u, even_signs(word >> 14u)), eight(indices >> 24u, even_signs(word >> 21u))),
    half_scale_of(row, block, blocks, 8u) * (0.125 + 0.25 * f32(word >> 28u)),
    0.0,
  );
}
