#import shared/nibbles.wgsl
// Q4_1: w = d q + m. quants as in Q4_0; scales: one word (d, m) a block.
fn load_block(row: u32, block: u32, blocks: u32) -> Block {
  let at = place(row, block, blocks, 1u);
  let q = quants[at];
  let dm = unpack2x16float(scales[at]);
  return Block(
    low_nibbles(q.x),
    low_nibbles(q.y),
    low_nibbles(q.z),
    low_nibbles(q.w),
    low_nibbles(q.x >> 4u),
    low_nibbles(q.y >> 4u),
    low_nibbles(q.z >> 4u),
    low_nibbles(q.w >> 4u),
    dm.x,
    dm.y,
  );
}
