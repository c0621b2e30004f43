const GRID_WORDS = 0u;
#import shared/packed.wgsl
#import shared/sub_blocks.wgsl
#import shared/spread.wgsl
// Q2_0: 64 weights of two bits. quants: a vec4, two words a block of 32. scales: d.
const ZERO_POINT = 0.0;
fn sixteen(bits: u32) -> vec4<u32> {
  let q = vec4<u32>(spread_2(bits), spread_2(bits >> 8u), spread_2(bits >> 16u), spread_2(bits >> 24u));
  return bytes_less(q, 1u);
}

fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let q = quants[panel_index(row, block / 2u, blocks / 2u, 1u)];
  let words = select(q.xy, q.zw, (block & 1u) == 1u);
  return Packed(sixteen(words.x), sixteen(words.y), half_scale_of(row, block, blocks, 2u), 0.0);
}
