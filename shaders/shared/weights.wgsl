// A weight matrix of 32-element blocks, and its one unpack function:
//   load_block(row, block, blocks per row) -> 32 weights, each scale * w + low.
// A dot product with x is scale * dot(w, x) + low * sum(x): one multiplication a block instead of one a weight.
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
}

const PANEL: u32 = 32u;

// Where a row's share of a block begins, for blocks of `units`; the next unit is PANEL further.
fn place(row: u32, block: u32, blocks: u32, units: u32) -> u32 {
  return ((row / PANEL) * blocks + block) * units * PANEL + row % PANEL;
}
@group(0) @binding(0) var<storage, read> quants: array<vec4<u32>>;
#ifdef HAS_SCALES
@group(0) @binding(1) var<storage, read> scales: array<u32>;
#endif
#ifdef W_Q4_0
#import shared/weights_q4_0.wgsl
#endif
#ifdef W_Q4_1
#import shared/weights_q4_1.wgsl
#endif
#ifdef W_Q5_0
#import shared/weights_q5_0.wgsl
#endif
#ifdef W_Q5_1
#import shared/weights_q5_1.wgsl
#endif
#ifdef W_Q8_0
#import shared/weights_q8_0.wgsl
#endif
#ifdef W_F32
#import shared/weights_f32.wgsl
#endif
#ifdef W_F16
#import shared/weights_f16.wgsl
#endif
#ifdef W_BF16
#import shared/weights_bf16.wgsl
#endif
