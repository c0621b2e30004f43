const GRID_WORDS = 256u;
#import shared/grid.wgsl
// IQ2_XS: 256 weights. quants: four vec4: for each eight weights nine bits of an index and seven signs. scales: three
// words: a byte a block of 32, four bits for each 16 weights; d.
const ZERO_POINT = 0.0;
fn group(word: u32) -> vec2<u32> {
  return eight(word & 511u, even_signs(word >> 9u));
}

fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let sub = block % 8u;
  let both = quants[panel_index(row, block / 8u, blocks / 8u, 4u) + sub / 2u * PANEL];
  let words = select(both.xy, both.zw, (sub & 1u) == 1u);
  let head = GRID_WORDS + panel_index(row, block / 8u, blocks / 8u, 3u);
  let pair = scales[head + sub / 4u * PANEL] >> (8u * (sub % 4u));
  let d = unpack2x16float(scales[head + 2u * PANEL]).x;
  return Packed(
    vec4<u32>(group(words.x), group(words.x >> 16u)),
    vec4<u32>(group(words.y), group(words.y >> 16u)),
    d * (0.125 + 0.25 * f32(pair & 15u)),
    0.0,
    d * (0.125 + 0.25 * f32((pair >> 4u) & 15u)),
    0.0,
  );
}
