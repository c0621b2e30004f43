// Q4_K and Q5_K: four words of scales: (d, dmin), then 12 bytes with a scale and a minimum of 6 bits for each of eight
// blocks of 32. Those of the first four are the low bits of bytes 0 to 3 and 4 to 7; of the others four bits are in bytes
// 8 to 11, two above those of the first.
fn k_scales(row: u32, block: u32, blocks: u32) -> vec2<f32> {
  let at = panel_index(row, block / 8u, blocks / 8u, 4u);
  let dm = unpack2x16float(scales[at]);
  let first = scales[at + PANEL];
  let second = scales[at + 2u * PANEL];
  let third = scales[at + 3u * PANEL];
  let shift = 8u * (block % 4u);
  let is_late = (block & 4u) == 4u;
  let scale = select((first >> shift) & 63u, ((third >> shift) & 15u) | (((first >> shift) >> 2u) & 48u), is_late);
  let least = select(
    (second >> shift) & 63u, (((third >> shift) >> 4u) & 15u) | (((second >> shift) >> 2u) & 48u), is_late);
  return vec2<f32>(dm.x * f32(scale), -dm.y * f32(least));
}
