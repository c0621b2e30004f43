const GRID_WORDS = 128u;
#import shared/grid.wgsl
// IQ3_XXS: 256 weights. quants: six vec4: indices, a byte for each four weights; then a word a block of 32: four times
// seven signs, and the scale's four bits. scales: d.
const ZERO_POINT = 0.0;
fn four(index: u32) -> u32 {
  let codes = four_codes(index);
  // Code 7 stands for 62, the others for 4 + 8 code.
  let sevens = codes & (codes >> 1u) & (codes >> 2u) & 0x01010101u;
  return codes * 8u + 0x04040404u + sevens * 2u;
}

fn group(indices: u32, seven: u32) -> vec2<u32> {
  let signs = even_signs(seven);
  return vec2<u32>(with_signs(four(indices & 255u), signs), with_signs(four((indices >> 8u) & 255u), signs >> 4u));
}

fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let sub = block % 8u;
  let at = panel_index(row, block / 8u, blocks / 8u, 6u);
  let both = quants[at + sub / 2u * PANEL];
  let indices = select(both.xy, both.zw, (sub & 1u) == 1u);
  let word = quants[at + (4u + sub / 4u) * PANEL][sub % 4u];
  return Packed(
    vec4<u32>(group(indices.x, word), group(indices.x >> 16u, word >> 7u)),
    vec4<u32>(group(indices.y, word >> 14u), group(indices.y >> 16u, word >> 21u)),
    half_scale_of(row, block, blocks, 8u) * (0.25 + 0.5 * f32(word >> 28u)),
    0.0,
  );
}
