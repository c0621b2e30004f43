const GRID_WORDS = 1024u;
#import shared/grid.wgsl
// IQ1_M: 256 weights. quants: two vec4: indices, a byte for each eight weights. scales: six words: four bits for each
// eight weights, three upper bits of an index and the shift's sign; then four times 16 bits: three bits of scale for each
// 16 weights, and above them a nibble of d.
const ZERO_POINT = 0.0;
fn group(index: u32, four: u32) -> vec2<u32> {
  return eight_shifted((index & 255u) | ((four & 7u) << 8u), (four & 8u) == 8u);
}

fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let sub = block % 8u;
  let indices = quants[panel_index(row, block / 8u, blocks / 8u, 2u) + sub / 4u * PANEL][sub % 4u];
  let head = GRID_WORDS + panel_index(row, block / 8u, blocks / 8u, 6u);
  let word = scales[head + sub / 2u * PANEL] >> (16u * (sub & 1u));
  let first = scales[head + 4u * PANEL];
  let last = scales[head + 5u * PANEL];
  let bits = ((first >> 12u) & 0xfu) | ((first >> 24u) & 0xf0u) | ((last >> 4u) & 0xf00u) | ((last >> 16u) & 0xf000u);
  let d = unpack2x16float(bits).x;
  let pair = select(first, last, sub >= 4u) >> (16u * ((sub / 2u) & 1u) + 6u * (sub & 1u));
  return Packed(
    vec4<u32>(group(indices, word), group(indices >> 8u, word >> 4u)),
    vec4<u32>(group(indices >> 16u, word >> 8u), group(indices >> 24u, word >> 12u)),
    d * (0.125 + 0.25 * f32(pair & 7u)),
    0.0,
    d * (0.125 + 0.25 * f32((pair >> 3u) & 7u)),
    0.0,
  );
}
