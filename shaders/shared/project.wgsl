// What matvec (one token) and matmul (many) have in common: y = epilogue(W · norm(x)).
//
// Rows come in pairs (a, b), because the epilogues need both at once: RoPE rotates a pair, and a gate multiplies what it gates.
// `pair_row` gives a pair's first row and `partner` its second. The two lie `pair_stride` apart; plain outputs use
// stride 1. With HALVES (NeoX RoPE) they are the elements i and i + rope_dim / 2 of a head; elements behind rope_dim,
// which are not rotated, pair up as neighbours.
//
// BIAS: each row has a bias, which is added to its dot product before the epilogue.
//
// RMSNorm is folded in: with g the gain, W · (g x / rms) = (W · (g x)) / rms, so the sum of squares
// is gathered while x is read anyway and applied to the finished dot products.
#import shared/step.wgsl
#import shared/act.wgsl

struct Params {
  pairs: u32,       // row pairs in this part of the matrix
  blocks: u32,      // blocks of 32 in a row
  pair_stride: u32, // distance of the two rows of a pair
  out_base: u32,    // output row of this part's row 0
  x_stride: u32,    // vec4s from one token's input to the next
  out_stride: u32,  // floats from one token's output to the next
  width: u32,       // elements of x that count in the norm
  eps: f32,         // RMSNorm epsilon
  scale: f32,       // factor of the output
  q_rows: u32,      // QKV: rows of Q; then kv_rows of K, then kv_rows of V
  kv_rows: u32,
  head_dim: u32,
  rope_dim: u32,    // elements of a head that are rotated
  splits: u32,      // attention partials that a token has room for
  rows: u32,        // rows in this part; an odd last one has no partner
  bias_base: u32,   // index of the bias of this part's row 0
  cap: f32,         // of the activation
  pad0: u32,
  pad1: u32,
  pad2: u32,
}

@group(0) @binding(2) var<uniform> params: Params;
@group(0) @binding(3) var<uniform> step: Step;
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;
#ifdef NORM
@group(0) @binding(5) var<storage, read> gain: array<vec4<f32>>;
#endif

#ifdef BIAS
@group(0) @binding(8) var<storage, read> bias: array<f32>; // of the rows of the whole matrix
fn biased(value: f32, row: u32) -> f32 {
  return value + bias[params.bias_base + row];
}
#else
fn biased(value: f32, row: u32) -> f32 {
  return value;
}
#endif

// First row of pair p.
#ifdef HALVES
fn pair_row(p: u32) -> u32 {
  let half = params.rope_dim / 2u;
  let in_head = p % (params.head_dim / 2u);
  let behind = params.rope_dim + 2u * (in_head - half);
  return p / (params.head_dim / 2u) * params.head_dim + select(behind, in_head, in_head < half);
}
#else
fn pair_row(p: u32) -> u32 {
  return (p / params.pair_stride) * 2u * params.pair_stride + p % params.pair_stride;
}
#endif

// Second row of the pair that begins with `row`.
#ifdef HALVES
fn partner(row: u32) -> u32 {
  let half = params.rope_dim / 2u;
  return row + select(1u, half, row % params.head_dim < half);
}
#else
fn partner(row: u32) -> u32 {
  return row + params.pair_stride;
}
#endif

#ifdef EPILOGUE_QKV
#import shared/epilogue_qkv.wgsl
#endif
#ifdef EPILOGUE_ADD
// Residual: the output buffer holds x and receives x + y.
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
fn store_pair(row: u32, token: u32, a: f32, b: f32) {
  let at = token * params.out_stride + params.out_base + row;
  out[at] += biased(a, row) * params.scale;
  let other = partner(row);
  if (other < params.rows) {
    out[at + other - row] += biased(b, other) * params.scale;
  }
}
#endif
#ifdef EPILOGUE_STORE
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
fn store_pair(row: u32, token: u32, a: f32, b: f32) {
  let at = token * params.out_stride + params.out_base + row;
  out[at] = act(biased(a, row) * params.scale, params.cap);
  let other = partner(row);
  if (other < params.rows) {
    out[at + other - row] = act(biased(b, other) * params.scale, params.cap);
  }
}
#endif
#ifdef EPILOGUE_GATED
// Row a is the gate, its partner b what is gated.
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
fn store_pair(row: u32, token: u32, a: f32, b: f32) {
  let gate = act(biased(a, row), params.cap);
  out[token * params.out_stride + params.out_base + row] = gate * biased(b, partner(row));
}
#endif
#ifdef EPILOGUE_UP
// Rows are what is gated; the output buffer holds the gate.
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
fn store_pair(row: u32, token: u32, a: f32, b: f32) {
  let at = token * params.out_stride + params.out_base + row;
  out[at] = act(out[at], params.cap) * biased(a, row);
  let other = partner(row);
  if (other < params.rows) {
    let other_at = at + other - row;
    out[other_at] = act(out[other_at], params.cap) * biased(b, other);
  }
}
#endif

#ifdef NORM
fn scaled_by_gain(value: vec4<f32>, k4: u32) -> vec4<f32> {
  return value * gain[k4];
}
fn rms_factor(sum_of_squares: f32) -> f32 {
  return inverseSqrt(sum_of_squares / f32(params.width) + params.eps);
}
#else
fn scaled_by_gain(value: vec4<f32>, k4: u32) -> vec4<f32> {
  return value;
}
fn rms_factor(sum_of_squares: f32) -> f32 {
  return 1.0;
}
#endif
