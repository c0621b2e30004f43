#import shared/half.wgsl
#import shared/nibbles.wgsl
// Q4_0: w = d (q - 8). quants: one vec4 a block, byte i holds elements i (low) and 16 + i (high).
fn load_block(row: u32, block: u32, blocks: u32) -> Block {
  let q = quants[row * blocks + block];
  let d = half_scale(row, block, blocks);
  return Block(
    d * (low_nibbles(q.x) - 8.0),
    d * (low_nibbles(q.y) - 8.0),
    d * (low_nibbles(q.z) - 8.0),
    d * (low_nibbles(q.w) - 8.0),
    d * (low_nibbles(q.x >> 4u) - 8.0),
    d * (low_nibbles(q.y >> 4u) - 8.0),
    d * (low_nibbles(q.z >> 4u) - 8.0),
    d * (low_nibbles(q.w >> 4u) - 8.0),
  );
}
