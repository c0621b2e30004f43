const GRID_WORDS = 1024u;
#import shared/grid.wgsl
// IQ1_S: 256 weights. quants: two vec4: indices, a byte for each eight weights. scales: five words: 16 bits a block of 32
// with three upper bits of four indices, the scale's three and the shift's sign; d.
const ZERO_POINT = 0.0;
fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let sub = block % 8u;
  let indices = quants[panel_index(row, block / 8u, blocks / 8u, 2u) + sub / 4u * PANEL][sub % 4u];
  let head = GRID_WORDS + panel_index(row, block / 8u, blocks / 8u, 5u);
  let word = (scales[head + sub / 2u * PANEL] >> (16u * (sub & 1u))) & 0xffffu;
  let d = unpack2x16float(scales[head + 4u * PANEL]).x;
  let is_less = word >= 0x8000u;
  return Packed(
    vec4<u32>(
      eight_shifted((indices & 255u) | ((word & 7u) << 8u), is_less),
      eight_shifted(((indices >> 8u) & 255u) | (((word >> 3u) & 7u) << 8u), is_less),
    ),
    vec4<u32>(
      eight_shifted(((indices >> 16u) & 255u) | (((word >> 6u) & 7u) << 8u), is_less),
      eight_shifted((indices >> 24u) | (((word >> 9u) & 7u) << 8u), is_less),
    ),
    d * (0.125 + 0.25 * f32((word >> 12u) & 7u)),
    0.0,
  );
}
