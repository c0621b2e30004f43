#import shared/half.wgsl
// Q8_0: w = d q, q signed. quants: two vec4 a block, four bytes a word.
fn signed_bytes(word: u32) -> vec4<f32> {
  // Shift each byte to the top, then down again, to extend its sign.
  return vec4<f32>((vec4<i32>(bitcast<i32>(word)) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

fn load_block(row: u32, block: u32, blocks: u32) -> Block {
  let at = place(row, block, blocks, 2u);
  let lo = quants[at];
  let hi = quants[at + PANEL];
  let d = half_scale(row, block, blocks);
  return Block(
    signed_bytes(lo.x),
    signed_bytes(lo.y),
    signed_bytes(lo.z),
    signed_bytes(lo.w),
    signed_bytes(hi.x),
    signed_bytes(hi.y),
    signed_bytes(hi.z),
    signed_bytes(hi.w),
    d,
    0.0,
  );
}
