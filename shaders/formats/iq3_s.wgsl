const GRID_WORDS = 256u;
#import shared/grid.wgsl
// IQ3_S: 256 weights. quants: six vec4: indices, a byte for each four weights, then signs. scales: four words: four bits
// for each block of 32; the indices' ninth bits, a byte a block; d.
const ZERO_POINT = 0.0;
fn group(indices: u32, high: u32, signs: u32) -> vec2<u32> {
  let first = four_codes((indices & 255u) | ((high & 1u) << 8u));
  let last = four_codes(((indices >> 8u) & 255u) | ((high & 2u) << 7u));
  return vec2<u32>(
    with_signs(2u * first + 0x01010101u, signs),
    with_signs(2u * last + 0x01010101u, signs >> 4u),
  );
}

fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let sub = block % 8u;
  let at = panel_index(row, block / 8u, blocks / 8u, 6u);
  let four = quants[at + sub / 2u * PANEL];
  let indices = select(four.xy, four.zw, (sub & 1u) == 1u);
  let signs = quants[at + (4u + sub / 4u) * PANEL][sub % 4u];
  let head = GRID_WORDS + panel_index(row, block / 8u, blocks / 8u, 4u);
  let scale = (scales[head] >> (4u * sub)) & 15u;
  let high = (scales[head + (1u + sub / 4u) * PANEL] >> (8u * (sub % 4u))) & 255u;
  let d = unpack2x16float(scales[head + 3u * PANEL]).x;
  return Packed(
    vec4<u32>(group(indices.x, high, signs), group(indices.x >> 16u, high >> 2u, signs >> 8u)),
    vec4<u32>(group(indices.y, high >> 4u, signs >> 16u), group(indices.y >> 16u, high >> 6u, signs >> 24u)),
    d * f32(1u + 2u * scale),
    0.0,
  );
}
