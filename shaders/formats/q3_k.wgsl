#import shared/packed.wgsl
// Q3_K: 256 weights. quants: six vec4: third bits, one for each of eight blocks of 32, in the first two; the others as in
// Q2_K. scales: four words: 6 bits for each 16 weights in 12 bytes, then d.
const ZERO_POINT = 0.0;

// Scale `i` of 16: four bits in byte i % 8, two in byte 8 + i % 4.
fn q3_scale(head: u32, i: u32) -> f32 {
  let four = scales[head + (i % 8u) / 4u * PANEL] >> (8u * (i % 4u) + 4u * (i / 8u));
  let two = scales[head + 2u * PANEL] >> (8u * (i % 4u) + 2u * (i / 4u));
  return f32((four & 15u) | ((two & 3u) << 4u)) - 32.0;
}

fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let start = panel_index(row, block / 8u, blocks / 8u, 6u);
  let at = start + (2u + (block & 4u) / 2u) * PANEL;
  let shift = 2u * (block % 4u);
  let head = panel_index(row, block / 8u, blocks / 8u, 4u);
  let d = unpack2x16float(scales[head + 3u * PANEL]).x;
  let i = 2u * (block % 8u);
  let third0 = bits_of_bytes(quants[start], block % 8u, 1u) << vec4<u32>(2u);
  let third1 = bits_of_bytes(quants[start + PANEL], block % 8u, 1u) << vec4<u32>(2u);
  return Packed(
    bytes_less(bits_of_bytes(quants[at], shift, 3u) | third0, 4u),
    bytes_less(bits_of_bytes(quants[at + PANEL], shift, 3u) | third1, 4u),
    d * q3_scale(head, i),
    0.0,
    d * q3_scale(head, i + 1u),
    0.0,
  );
}
