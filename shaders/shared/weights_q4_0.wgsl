#import shared/half.wgsl
#import shared/nibbles.wgsl
// Q4_0: w = d (q - 8). quants: one vec4 a block, byte i holds elements i (low) and 16 + i (high).
fn load_block(row: u32, block: u32, blocks: u32) -> Block {
  let q = quants[place(row, block, blocks, 1u)];
  let d = half_scale(row, block, blocks);
  return Block(
    low_nibbles(q.x),
    low_nibbles(q.y),
    low_nibbles(q.z),
    low_nibbles(q.w),
    low_nibbles(q.x >> 4u),
    low_nibbles(q.y >> 4u),
    low_nibbles(q.z >> 4u),
    low_nibbles(q.w >> 4u),
    d,
    -8.0 * d,
  );
}
