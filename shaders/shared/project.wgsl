// What matvec (one token) and matmul (many) have in common: y = epilogue(W · norm(x)).
//
// Rows come in pairs (a, b) that lie `pair_stride` apart, because the epilogues need both at once:
// RoPE rotates a pair, SwiGLU multiplies gate by up. Plain outputs use stride 1.
//
// RMSNorm is folded in: with g the gain, W · (g x / rms) = (W · (g x)) / rms, so the sum of squares
// is gathered while x is read anyway and applied to the finished dot products.
#import shared/step.wgsl

struct Params {
  pairs: u32,       // row pairs in this part of the matrix
  blocks: u32,      // blocks of 32 in a row
  pair_stride: u32, // distance of the two rows of a pair
  out_base: u32,    // output row of this part's row 0
  x_stride: u32,    // vec4s from one token's input to the next
  out_stride: u32,  // floats from one token's output to the next
  gain_at: u32,     // index of the norm's gain in aux, in floats, a multiple of 4
  bias_at: u32,     // index of the bias in aux, in floats
  width: u32,       // elements of x that count in the norm
  eps: f32,         // RMSNorm epsilon
  scale: f32,       // factor of the output
  q_rows: u32,      // QKV: rows of Q; then kv_rows of K, then kv_rows of V
  kv_rows: u32,
  head_dim: u32,
  rope_dim: u32,    // elements of a head that are rotated
  splits: u32,      // attention partials to merge
  rows: u32,        // rows in this part; an odd last one has no partner
  pad0: u32,
  pad1: u32,
  pad2: u32,
}

@group(0) @binding(2) var<uniform> params: Params;
@group(0) @binding(3) var<uniform> step: Step;
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;
#ifdef HAS_AUX
@group(0) @binding(5) var<storage, read> aux: array<vec4<f32>>; // gain and bias
#endif

#ifdef EPILOGUE_QKV
#import shared/epilogue_qkv.wgsl
#endif
#ifdef EPILOGUE_ADD
// Residual: the output buffer holds x and receives x + y.
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
fn store_pair(row: u32, token: u32, a: f32, b: f32) {
  let at = token * params.out_stride + params.out_base + row;
  out[at] += a * params.scale;
  if (row + params.pair_stride < params.rows) {
    out[at + params.pair_stride] += b * params.scale;
  }
}
#endif
#ifdef EPILOGUE_STORE
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
fn store_pair(row: u32, token: u32, a: f32, b: f32) {
  let at = token * params.out_stride + params.out_base + row;
  out[at] = a * params.scale;
  if (row + params.pair_stride < params.rows) {
    out[at + params.pair_stride] = b * params.scale;
  }
}
#endif
#ifdef EPILOGUE_SWIGLU
// Row a is the gate, row b = a + pair_stride the up projection: silu(gate) * up.
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
fn store_pair(row: u32, token: u32, a: f32, b: f32) {
  out[token * params.out_stride + params.out_base + row] = a / (1.0 + exp(-a)) * b;
}
#endif

// First row of pair p.
fn pair_row(p: u32) -> u32 {
  return (p / params.pair_stride) * 2u * params.pair_stride + p % params.pair_stride;
}

#ifdef NORM
fn gained(value: vec4<f32>, k4: u32) -> vec4<f32> {
  return value * aux[params.gain_at / 4u + k4];
}
fn rms_factor(sum_of_squares: f32) -> f32 {
  return inverseSqrt(sum_of_squares / f32(params.width) + params.eps);
}
#else
fn gained(value: vec4<f32>, k4: u32) -> vec4<f32> {
  return value;
}
fn rms_factor(sum_of_squares: f32) -> f32 {
  return 1.0;
}
#endif
