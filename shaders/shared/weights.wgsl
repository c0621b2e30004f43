// A weight matrix of 32-element blocks, and its one unpack function:
//   load_block(row, block, blocks per row) -> 32 weights.
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
