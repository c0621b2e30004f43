#import shared/scales_f16.wgsl
#import shared/codes_iq4.wgsl
#import shared/codebook.wgsl
// IQ4_NL: quants as in Q4_0, codes; scales: d.
const ZERO_POINT = 0.0;
fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let q = quants[panel_index(row, block, blocks, 1u)];
  let d = half_scale(row, block, blocks);
  return Packed(meanings(bits_of_bytes(q, 0u, 15u)), meanings(bits_of_bytes(q, 4u, 15u)), d, 0.0);
}
