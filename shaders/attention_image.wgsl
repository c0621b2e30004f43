// out = softmax(q k^T / sqrt(D)) v over all positions of a picture, one head of D = 4 VECTORS channels.
//
// A workgroup of 64 takes QUERIES positions and goes over the keys 64 at a time, with online softmax
// (Milakov and Gimelshein, 2018): each thread computes its key's scores for all queries, then its own
// channels of the outputs, VECTORS / 64 vec4s.

#import shared/picture.wgsl

struct Params {
  positions: u32,
  scale: f32,
  pad0: u32,
  pad1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<Four>; // each (positions, VECTORS)
@group(0) @binding(2) var<storage, read> k: array<Four>;
@group(0) @binding(3) var<storage, read> v: array<Four>;
@group(0) @binding(4) var<storage, read_write> out: array<Four>;

const QUERIES: u32 = 4u;
const KEYS: u32 = 64u;
// The most negative start of a maximum: infinities would give NaN when subtracted.
const LOWEST: f32 = -3e38;

var<workgroup> query: array<vec4<f32>, QUERIES * VECTORS>;
var<workgroup> weight: array<f32, QUERIES * KEYS>;
var<workgroup> highest: array<f32, QUERIES>;
var<workgroup> total: array<f32, QUERIES>;
var<workgroup> correction: array<f32, QUERIES>;

// Scores to weights, of one query.
fn normalize(n: u32) {
  var most = highest[n];
  for (var j = 0u; j < KEYS; j++) {
    most = max(most, weight[n * KEYS + j]);
  }
  let factor = exp(highest[n] - most);
  var sum = 0.0;
  for (var j = 0u; j < KEYS; j++) {
    let e = exp(weight[n * KEYS + j] - most);
    weight[n * KEYS + j] = e;
    sum += e;
  }
  highest[n] = most;
  correction[n] = factor;
  total[n] = total[n] * factor + sum;
}

fn store(position: u32, vector: u32, n: u32, sum: vec4<f32>) {
  if (position < params.positions && vector < VECTORS) {
    // A mean of values that fit fits.
    out[position * VECTORS + vector] = packed(sum / total[n]);
  }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let first = group.x * QUERIES;
  for (var i = index; i < QUERIES * VECTORS; i += 64u) {
    let position = min(first + i / VECTORS, params.positions - 1u);
    query[i] = unpacked(q[position * VECTORS + i % VECTORS]) * params.scale;
  }
  if (index < QUERIES) {
    highest[index] = LOWEST;
    total[index] = 0.0;
  }
  var a0 = vec4<f32>();
  var a1 = vec4<f32>();
  var a2 = vec4<f32>();
  var a3 = vec4<f32>();
  var b0 = vec4<f32>();
  var b1 = vec4<f32>();
  var b2 = vec4<f32>();
  var b3 = vec4<f32>();
  for (var base = 0u; base < params.positions; base += KEYS) {
    workgroupBarrier();
    let key = base + index;
    var s = vec4<f32>();
    if (key < params.positions) {
      for (var i = 0u; i < VECTORS; i++) {
        let x = unpacked(k[key * VECTORS + i]);
        s += vec4<f32>(
          dot(x, query[i]),
          dot(x, query[VECTORS + i]),
          dot(x, query[2u * VECTORS + i]),
          dot(x, query[3u * VECTORS + i]));
      }
    } else {
      s = vec4<f32>(LOWEST);
    }
    weight[index] = s.x;
    weight[KEYS + index] = s.y;
    weight[2u * KEYS + index] = s.z;
    weight[3u * KEYS + index] = s.w;
    workgroupBarrier();
    if (index < QUERIES) {
      normalize(index);
    }
    workgroupBarrier();
    a0 *= correction[0];
    a1 *= correction[1];
    a2 *= correction[2];
    a3 *= correction[3];
    b0 *= correction[0];
    b1 *= correction[1];
    b2 *= correction[2];
    b3 *= correction[3];
    let here = min(KEYS, params.positions - base);
    for (var j = 0u; j < here; j++) {
      let w0 = weight[j];
      let w1 = weight[KEYS + j];
      let w2 = weight[2u * KEYS + j];
      let w3 = weight[3u * KEYS + j];
      let at = (base + j) * VECTORS + index;
      if (index < VECTORS) {
        let x = unpacked(v[at]);
        a0 += w0 * x;
        a1 += w1 * x;
        a2 += w2 * x;
        a3 += w3 * x;
      }
      if (index + 64u < VECTORS) {
        let x = unpacked(v[at + 64u]);
        b0 += w0 * x;
        b1 += w1 * x;
        b2 += w2 * x;
        b3 += w3 * x;
      }
    }
  }
  workgroupBarrier();
  store(first, index, 0u, a0);
  store(first + 1u, index, 1u, a1);
  store(first + 2u, index, 2u, a2);
  store(first + 3u, index, 3u, a3);
  store(first, index + 64u, 0u, b0);
  store(first + 1u, index + 64u, 1u, b1);
  store(first + 2u, index + 64u, 2u, b2);
  store(first + 3u, index + 64u, 3u, b3);
}
