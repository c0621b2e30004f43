#import shared/packed.wgsl
// Q2_K: 256 weights. quants: four vec4, of which two hold 2 bits of each of four blocks of 32. scales: five words: a byte
// for each 16 weights, scale in its low and minimum in its high half, then (d, dmin).
const ZERO_POINT = 2.0;
fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let at = panel_index(row, block / 8u, blocks / 8u, 4u) + (block & 4u) / 2u * PANEL;
  let shift = 2u * (block % 4u);
  let head = panel_index(row, block / 8u, blocks / 8u, 5u);
  let dm = unpack2x16float(scales[head + 4u * PANEL]);
  let pair = scales[head + (block % 8u) / 2u * PANEL] >> (16u * (block & 1u));
  return Packed(
    bits_of_bytes(quants[at], shift, 3u),
    bits_of_bytes(quants[at + PANEL], shift, 3u),
    dm.x * f32(pair & 15u),
    -dm.y * f32((pair >> 4u) & 15u),
    dm.x * f32((pair >> 8u) & 15u),
    -dm.y * f32((pair >> 12u) & 15u),
  );
}
