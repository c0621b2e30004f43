// A weight matrix of 32-element blocks, and its one unpack function. Formats of whole numbers have
//   load_packed(row, block, blocks per row) -> 32 signed bytes q, each weight is scale * q + low, and
//   ZERO_POINT, of the q there are,
// the others
//   load_four(row, block, blocks per row, i) -> weights 4 i to 4 i + 3.
// From these there are load_block -> 32 weights at once, each scale * w + low; and, for loops that take four at a time,
// block_ref(row, block, blocks per row) and block_vec4(held, i).
// A dot product with x is scale * dot(w, x) + low * sum(x): one multiplication a block instead of one a weight.
// TWO_SCALES: of formats whose scales are for 16 elements; then scale1 and low1 are those of elements 16 to 31.
//
// Rows lie in panels of PANEL: block by block, vec4 by vec4, the PANEL rows next to each other, so that threads that
// take neighbouring rows read neighbouring memory.
//
// Named fields, not an array: an array that is indexed in a loop ends in memory on compilers that do
// not unroll, and the kernels spell their eight steps out for the same reason.
struct Block {
  w0: vec4<f32>,
  w1: vec4<f32>,
  w2: vec4<f32>,
  w3: vec4<f32>,
  w4: vec4<f32>,
  w5: vec4<f32>,
  w6: vec4<f32>,
  w7: vec4<f32>,
  scale: f32,
  low: f32,
#ifdef TWO_SCALES
  scale1: f32,
  low1: f32,
#endif
}

// Scale and low of elements 16 to 31.
fn second(block: Block) -> vec2<f32> {
#ifdef TWO_SCALES
  return vec2<f32>(block.scale1, block.low1);
#else
  return vec2<f32>(block.scale, block.low);
#endif
}

#ifdef HAS_SCALES
struct Packed {
  q0: vec4<u32>, // elements 0 to 15, four bytes a word
  q1: vec4<u32>, // elements 16 to 31
  scale: f32,
  low: f32,
#ifdef TWO_SCALES
  scale1: f32,
  low1: f32,
#endif
}

fn signed_bytes(word: u32) -> vec4<f32> {
  // Shift each byte to the top, then down again, to extend its sign.
  return vec4<f32>((vec4<i32>(bitcast<i32>(word)) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

fn load_block(row: u32, block: u32, blocks: u32) -> Block {
  let p = load_packed(row, block, blocks);
  return Block(
    signed_bytes(p.q0.x),
    signed_bytes(p.q0.y),
    signed_bytes(p.q0.z),
    signed_bytes(p.q0.w),
    signed_bytes(p.q1.x),
    signed_bytes(p.q1.y),
    signed_bytes(p.q1.z),
    signed_bytes(p.q1.w),
    p.scale,
    p.low,
#ifdef TWO_SCALES
    p.scale1,
    p.low1,
#endif
  );
}

#ifdef F16
// Elements 0, 2, 1, 3 of a word, less ZERO_POINT. From 1024 on the numbers of f16 are 1 apart, so a byte put into the low half
// of 1024 is added to it; its sign bit is flipped, which adds 128.
fn halves(word: u32) -> vec4<f16> {
  let even = unpack2x16float((word & 0x00ff00ffu) ^ 0x64806480u);
  let odd = unpack2x16float(((word >> 8u) & 0x00ff00ffu) ^ 0x64806480u);
  return vec4<f16>(vec4<f32>(even, odd)) - vec4<f16>(1152.0 + ZERO_POINT);
}
#endif

alias BlockRef = Packed;
fn block_ref(row: u32, block: u32, blocks: u32) -> BlockRef {
  return load_packed(row, block, blocks);
}
fn block_vec4(held: BlockRef, i: u32) -> vec4<f32> {
  let word = select(held.q0, held.q1, i >= 4u)[i % 4u];
#ifdef TWO_SCALES
  return select(held.scale, held.scale1, i >= 4u) * signed_bytes(word) + select(held.low, held.low1, i >= 4u);
#else
  return held.scale * signed_bytes(word) + held.low;
#endif
}
#else
fn load_block(row: u32, block: u32, blocks: u32) -> Block {
  return Block(
    load_four(row, block, blocks, 0u),
    load_four(row, block, blocks, 1u),
    load_four(row, block, blocks, 2u),
    load_four(row, block, blocks, 3u),
    load_four(row, block, blocks, 4u),
    load_four(row, block, blocks, 5u),
    load_four(row, block, blocks, 6u),
    load_four(row, block, blocks, 7u),
    1.0,
    0.0,
  );
}

struct BlockRef {
  row: u32,
  block: u32,
  blocks: u32,
}
fn block_ref(row: u32, block: u32, blocks: u32) -> BlockRef {
  return BlockRef(row, block, blocks);
}
fn block_vec4(held: BlockRef, i: u32) -> vec4<f32> {
  return load_four(held.row, held.block, held.blocks, i);
}
#endif

const PANEL: u32 = 32u;

// Where a row's share of a block begins, for blocks of `units`; the next unit is PANEL further.
fn panel_index(row: u32, block: u32, blocks: u32, units: u32) -> u32 {
  return ((row / PANEL) * blocks + block) * units * PANEL + row % PANEL;
}
@group(0) @binding(0) var<storage, read> quants: array<vec4<u32>>;
#ifdef HAS_SCALES
@group(0) @binding(1) var<storage, read> scales: array<u32>;
#endif
#import format
