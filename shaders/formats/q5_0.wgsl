#import shared/nibbles.wgsl
// Q5_0: w = d (q - 16). quants as in Q4_0; scales: two words a block, (d, unused) and the fifth bits.
const ZERO_POINT = 16.0;
fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let q = quants[panel_index(row, block, blocks, 1u)];
  let at = panel_index(row, block, blocks, 2u);
  let dm = unpack2x16float(scales[at]);
  let high = scales[at + PANEL];
  return Packed(
    low_nibbles(q) | fifth_bits_of_words(high),
    low_nibbles(q >> vec4<u32>(4u)) | fifth_bits_of_words(high >> 16u),
    dm.x,
    -16.0 * dm.x,
  );
}
