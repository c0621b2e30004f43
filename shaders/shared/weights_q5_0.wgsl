#import shared/nibbles.wgsl
// Q5_0: w = d (q - 16). quants as in Q4_0; scales: two words a block, (d, unused) and the fifth bits.
fn load_block(row: u32, block: u32, blocks: u32) -> Block {
  let at = row * blocks + block;
  let q = quants[at];
  let d = unpack2x16float(scales[2u * at]).x;
  let high = scales[2u * at + 1u];
  return Block(
    d * (low_nibbles_5(q.x, high) - 16.0),
    d * (low_nibbles_5(q.y, high >> 4u) - 16.0),
    d * (low_nibbles_5(q.z, high >> 8u) - 16.0),
    d * (low_nibbles_5(q.w, high >> 12u) - 16.0),
    d * (low_nibbles_5(q.x >> 4u, high >> 16u) - 16.0),
    d * (low_nibbles_5(q.y >> 4u, high >> 20u) - 16.0),
    d * (low_nibbles_5(q.z >> 4u, high >> 24u) - 16.0),
    d * (low_nibbles_5(q.w >> 4u, high >> 28u) - 16.0),
  );
}
