#import shared/codes_iq4.wgsl
#import shared/codebook.wgsl
// IQ4_XS: 256 weights. quants: eight vec4, one a block of 32 as in IQ4_NL. scales: two words: d and two upper bits for
// each block, then four lower bits for each.
const ZERO_POINT = 0.0;
fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let sub = block % 8u;
  let q = quants[panel_index(row, block / 8u, blocks / 8u, 8u) + sub * PANEL];
  let head = panel_index(row, block / 8u, blocks / 8u, 2u);
  let word = scales[head];
  let six = ((scales[head + PANEL] >> (4u * sub)) & 15u) | (((word >> (16u + 2u * sub)) & 3u) << 4u);
  let scale = unpack2x16float(word).x * (f32(six) - 32.0);
  return Packed(meanings(bits_of_bytes(q, 0u, 15u)), meanings(bits_of_bytes(q, 4u, 15u)), scale, 0.0);
}
