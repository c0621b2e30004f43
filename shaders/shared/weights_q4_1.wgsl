#import shared/nibbles.wgsl
// Q4_1: w = d q + m. quants as in Q4_0; scales: one word (d, m) a block.
fn load_block(row: u32, block: u32, blocks: u32) -> Block {
  let at = row * blocks + block;
  let q = quants[at];
  let dm = unpack2x16float(scales[at]);
  return Block(
    dm.x * low_nibbles(q.x) + dm.y,
    dm.x * low_nibbles(q.y) + dm.y,
    dm.x * low_nibbles(q.z) + dm.y,
    dm.x * low_nibbles(q.w) + dm.y,
    dm.x * low_nibbles(q.x >> 4u) + dm.y,
    dm.x * low_nibbles(q.y >> 4u) + dm.y,
    dm.x * low_nibbles(q.z >> 4u) + dm.y,
    dm.x * low_nibbles(q.w >> 4u) + dm.y,
  );
}
