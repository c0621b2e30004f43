const GRID_WORDS = 0u;
#import shared/sub_blocks.wgsl
#import shared/spread.wgsl
// Q1_0: 128 weights of one bit. quants: a vec4, a word a block of 32. scales: d.
const ZERO_POINT = 0.0;

// -1 for 0, 1 for 1.
fn signs_of(bits: u32) -> vec4<u32> {
  let ones = vec4<u32>(spread_1(bits), spread_1(bits >> 4u), spread_1(bits >> 8u), spread_1(bits >> 12u));
  return vec4<u32>(0xffffffffu) ^ (ones * vec4<u32>(254u));
}

fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let bits = quants[panel_index(row, block / 4u, blocks / 4u, 1u)][block % 4u];
  return Packed(signs_of(bits), signs_of(bits >> 16u), half_scale_of(row, block, blocks, 4u), 0.0);
}
