#import shared/packed.wgsl
// Q6_K: 256 weights. quants: twelve vec4: of each four blocks of 32, four vec4 with low halves of the first two and, in
// their high halves, of the last two; then two vec4 for each four blocks with two bits more. scales: five words: a signed
// byte for each 16 weights, then d.
const ZERO_POINT = 0.0;
fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let start = panel_index(row, block / 8u, blocks / 8u, 12u);
  let low = start + ((block & 4u) + 2u * (block & 1u)) * PANEL;
  let high = start + (8u + (block & 4u) / 2u) * PANEL;
  let low_shift = 2u * (block & 2u);
  let high_shift = 2u * (block % 4u);
  let head = panel_index(row, block / 8u, blocks / 8u, 5u);
  let d = unpack2x16float(scales[head + 4u * PANEL]).x;
  let pair = bitcast<i32>(scales[head + (block % 8u) / 2u * PANEL] << (16u * (1u - (block & 1u))));
  let high0 = bits_of_bytes(quants[high], high_shift, 3u) << vec4<u32>(4u);
  let high1 = bits_of_bytes(quants[high + PANEL], high_shift, 3u) << vec4<u32>(4u);
  return Packed(
    bytes_less(bits_of_bytes(quants[low], low_shift, 15u) | high0, 32u),
    bytes_less(bits_of_bytes(quants[low + PANEL], low_shift, 15u) | high1, 32u),
    d * f32((pair << 8u) >> 24u),
    0.0,
    d * f32(pair >> 24u),
    0.0,
  );
}
