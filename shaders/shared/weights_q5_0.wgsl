#import shared/nibbles.wgsl
// Q5_0: w = d (q - 16). quants as in Q4_0; scales: two words a block, (d, unused) and the fifth bits.
fn load_block(row: u32, block: u32, blocks: u32) -> Block {
  let q = quants[place(row, block, blocks, 1u)];
  let at = place(row, block, blocks, 2u);
  let d = unpack2x16float(scales[at]).x;
  let high = scales[at + PANEL];
  return Block(
    low_nibbles_5(q.x, high),
    low_nibbles_5(q.y, high >> 4u),
    low_nibbles_5(q.z, high >> 8u),
    low_nibbles_5(q.w, high >> 12u),
    low_nibbles_5(q.x >> 4u, high >> 16u),
    low_nibbles_5(q.y >> 4u, high >> 20u),
    low_nibbles_5(q.z >> 4u, high >> 24u),
    low_nibbles_5(q.w >> 4u, high >> 28u),
    d,
    -16.0 * d,
  );
}
