#import shared/codes_fp4.wgsl
#import shared/codebook.wgsl
// MXFP4: quants as in Q4_0, codes; scales: an exponent of 8 bits a block, those of four blocks of a row in a word.
const ZERO_POINT = 0.0;
fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let q = quants[panel_index(row, block, blocks, 1u)];
  let e = (scales[panel_index(row, block / 4u, (blocks + 3u) / 4u, 1u)] >> (8u * (block % 4u))) & 255u;
  // Half of 2^(e - 127), since codes are doubled; the two smallest are subnormal.
  let scale = bitcast<f32>(select((e - 1u) << 23u, 0x00200000u << (e & 1u), e < 2u));
  return Packed(meanings(bits_of_bytes(q, 0u, 15u)), meanings(bits_of_bytes(q, 4u, 15u)), scale, 0.0);
}
