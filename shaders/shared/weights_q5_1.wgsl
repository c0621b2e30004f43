#import shared/nibbles.wgsl
// Q5_1: w = d q + m. quants as in Q4_0; scales: two words a block, (d, m) and the fifth bits.
fn load_block(row: u32, block: u32, blocks: u32) -> Block {
  let at = row * blocks + block;
  let q = quants[at];
  let dm = unpack2x16float(scales[2u * at]);
  let high = scales[2u * at + 1u];
  return Block(
    dm.x * low_nibbles_5(q.x, high) + dm.y,
    dm.x * low_nibbles_5(q.y, high >> 4u) + dm.y,
    dm.x * low_nibbles_5(q.z, high >> 8u) + dm.y,
    dm.x * low_nibbles_5(q.w, high >> 12u) + dm.y,
    dm.x * low_nibbles_5(q.x >> 4u, high >> 16u) + dm.y,
    dm.x * low_nibbles_5(q.y >> 4u, high >> 20u) + dm.y,
    dm.x * low_nibbles_5(q.z >> 4u, high >> 24u) + dm.y,
    dm.x * low_nibbles_5(q.w >> 4u, high >> 28u) + dm.y,
  );
}
