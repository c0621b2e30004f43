const GRID_WORDS = 512u;
#import shared/grid.wgsl
// IQ2_S: 256 weights. quants: four vec4: indices, a byte for each eight weights, then signs. scales: five words: two upper
// bits of each index, a byte a block of 32; four bits of scale for each 16 weights, a byte a block; d.
const ZERO_POINT = 0.0;
fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let sub = block % 8u;
  let at = panel_index(row, block / 8u, blocks / 8u, 4u) + sub / 4u * PANEL;
  let indices = quants[at][sub % 4u];
  let signs = quants[at + 2u * PANEL][sub % 4u];
  let head = GRID_WORDS + panel_index(row, block / 8u, blocks / 8u, 5u);
  let high = scales[head + sub / 4u * PANEL] >> (8u * (sub % 4u));
  let pair = scales[head + (2u + sub / 4u) * PANEL] >> (8u * (sub % 4u));
  let d = unpack2x16float(scales[head + 4u * PANEL]).x;
  return Packed(
    vec4<u32>(
      eight((indices & 255u) | ((high & 3u) << 8u), signs),
      eight(((indices >> 8u) & 255u) | ((high & 12u) << 6u), signs >> 8u),
    ),
    vec4<u32>(
      eight(((indices >> 16u) & 255u) | ((high & 48u) << 4u), signs >> 16u),
      eight((indices >> 24u) | ((high & 192u) << 2u), signs >> 24u),
    ),
    d * (0.125 + 0.25 * f32(pair & 15u)),
    0.0,
    d * (0.125 + 0.25 * f32((pair >> 4u) & 15u)),
    0.0,
  );
}
