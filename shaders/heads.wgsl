// Q and K of each token, normed and rotated in place. A workgroup takes a head, or with TOGETHER all of Q or all of K.
//
// NORM: RMSNorm, or with LAYER the mean is subtracted too. A gain has params.gain floats and begins anew after them.
// ROPE: elements are rotated in pairs, neighbours or with HALVES those rope_dim / 2 apart.
#import shared/step.wgsl

struct Params {
  stride: u32,    // floats from one token to the next
  q_rows: u32,    // elements of Q; K's follow
  kv_rows: u32,
  head_dim: u32,
  rope_dim: u32,  // elements of a head that are rotated
  gain_q: u32,    // floats of Q's gain
  gain_k: u32,
  eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read_write> qkv: array<f32>;
#ifdef NORM
@group(0) @binding(3) var<storage, read> gain_q: array<f32>;
@group(0) @binding(4) var<storage, read> gain_k: array<f32>;
#endif
#ifdef ROPE
// (position, rope_dim / 2) -> (cos, sin)
@group(0) @binding(5) var<storage, read> rope: array<vec2<f32>>;
#endif

#import shared/row_sum.wgsl

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let token = group.y;
#ifdef TOGETHER
  let is_k = group.x == 1u;
  let first = select(0u, params.q_rows, is_k);
  let size = select(params.q_rows, params.kv_rows, is_k);
#else
  let first = group.x * params.head_dim;
  let size = params.head_dim;
  let is_k = first >= params.q_rows;
#endif
  let base = token * params.stride + first;
#ifdef NORM
  let count = f32(size);
#ifdef LAYER
  var share = 0.0;
  for (var i = local; i < size; i += WORKGROUP) {
    share += qkv[base + i];
  }
  let mean = row_sum(share, local) / count;
#else
  let mean = 0.0;
#endif
  var squares = 0.0;
  for (var i = local; i < size; i += WORKGROUP) {
    let value = qkv[base + i] - mean;
    squares += value * value;
  }
  let factor = inverseSqrt(row_sum(squares, local) / count + params.eps);
  let in_part = select(first, first - params.q_rows, is_k);
#endif
  // A thread alone reads and writes its pairs.
  for (var pair = local; pair < size / 2u; pair += WORKGROUP) {
    let in_head = pair % (params.head_dim / 2u);
    let head = pair / (params.head_dim / 2u) * params.head_dim;
#ifdef HALVES
    let half = params.rope_dim / 2u;
    let rotates = in_head < half;
    let a_at = head + select(params.rope_dim + 2u * (in_head - half), in_head, rotates);
    let b_at = a_at + select(1u, half, rotates);
#else
    let rotates = in_head < params.rope_dim / 2u;
    let a_at = head + 2u * in_head;
    let b_at = a_at + 1u;
#endif
    var a = qkv[base + a_at];
    var b = qkv[base + b_at];
#ifdef NORM
    var gains = vec2<f32>();
    if (is_k) {
      gains = vec2<f32>(gain_k[(in_part + a_at) % params.gain_k], gain_k[(in_part + b_at) % params.gain_k]);
    } else {
      gains = vec2<f32>(gain_q[(in_part + a_at) % params.gain_q], gain_q[(in_part + b_at) % params.gain_q]);
    }
    a = (a - mean) * factor * gains.x;
    b = (b - mean) * factor * gains.y;
#endif
#ifdef ROPE
    if (rotates) {
      let turn = rope[(step.pos + token) * (params.rope_dim / 2u) + in_head];
      let rotated = vec2<f32>(a * turn.x - b * turn.y, a * turn.y + b * turn.x);
      a = rotated.x;
      b = rotated.y;
    }
#endif
    qkv[base + a_at] = a;
    qkv[base + b_at] = b;
  }
}
