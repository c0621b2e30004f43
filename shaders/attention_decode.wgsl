// Attention of one token over the whole cache, online softmax, no score matrix in memory.
//
// Workgroup (split, kv head): all GROUP query heads that share this K and V, over one part of the
// positions, 64 at a time. First thread = position: each computes the scores of its position; then
// thread = output element: each sums p · V. With one split the result is final; with more, what is
// left (sum of V, maximum, sum of exponentials) is merged by the output projection (shared/merge.wgsl).
#import shared/attention.wgsl
@group(0) @binding(4) var<storage, read> v_cache: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

const WORKGROUP: u32 = 64u;

var<workgroup> q_tile: array<vec4<f32>, Q_VEC4>;  // (GROUP, HEAD_VEC4)
var<workgroup> scores: array<f32, SCORES>;        // (GROUP, WORKGROUP)
var<workgroup> sums: array<f32, OUTPUTS>;         // (GROUP, HEAD_DIM), unnormalized output
var<workgroup> tops: array<f32, GROUP>;
var<workgroup> totals: array<f32, GROUP>;
var<workgroup> shrinks: array<f32, GROUP>;        // what the last tile's new maximum makes of older sums

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let split = group.x;
  let kv_head = group.y;
  let length = step.pos + 1u;
  let per_split = (length + params.splits - 1u) / params.splits;
  let first = split * per_split;
  let end = min(first + per_split, length);
  let cache = kv_head * params.capacity;

  for (var i = local; i < Q_VEC4; i += WORKGROUP) {
    q_tile[i] = q[kv_head * Q_VEC4 + i] * params.scale;
  }
  for (var i = local; i < OUTPUTS; i += WORKGROUP) {
    sums[i] = 0.0;
  }
  for (var g = local; g < GROUP; g += WORKGROUP) {
    tops[g] = LOWEST;
    totals[g] = 0.0;
  }

  for (var tile = first; tile < end; tile += WORKGROUP) {
    workgroupBarrier();
    let count = min(WORKGROUP, end - tile);
    if (local < count) {
      let k_at = (cache + tile + local) * HEAD_VEC4;
      for (var g = 0u; g < GROUP; g++) {
        var score = 0.0;
        for (var d = 0u; d < HEAD_VEC4; d++) {
          score += dot(q_tile[g * HEAD_VEC4 + d], k_cache[k_at + d]);
        }
        scores[g * WORKGROUP + local] = score;
      }
    }
    workgroupBarrier();
    for (var g = local; g < GROUP; g += WORKGROUP) {
      var top = tops[g];
      for (var j = 0u; j < count; j++) {
        top = max(top, scores[g * WORKGROUP + j]);
      }
      shrinks[g] = exp(tops[g] - top);
      tops[g] = top;
    }
    workgroupBarrier();
    if (local < count) {
      for (var g = 0u; g < GROUP; g++) {
        scores[g * WORKGROUP + local] = exp(scores[g * WORKGROUP + local] - tops[g]);
      }
    }
    workgroupBarrier();
    for (var g = local; g < GROUP; g += WORKGROUP) {
      var total = totals[g] * shrinks[g];
      for (var j = 0u; j < count; j++) {
        total += scores[g * WORKGROUP + j];
      }
      totals[g] = total;
    }
    for (var i = local; i < OUTPUTS; i += WORKGROUP) {
      let g = i / HEAD_DIM;
      let d = i % HEAD_DIM;
      var sum = sums[i] * shrinks[g];
      for (var j = 0u; j < count; j++) {
        sum += scores[g * WORKGROUP + j] * v_cache[(cache + tile + j) * HEAD_DIM + d];
      }
      sums[i] = sum;
    }
  }

  workgroupBarrier();
  for (var i = local; i < OUTPUTS; i += WORKGROUP) {
    let head = kv_head * GROUP + i / HEAD_DIM;
    let d = i % HEAD_DIM;
#ifdef SPLIT
    out[(head * params.splits + split) * HEAD_DIM + d] = sums[i];
#else
    out[head * HEAD_DIM + d] = sums[i] / totals[i / HEAD_DIM];
#endif
  }
#ifdef SPLIT
  for (var g = local; g < GROUP; g += WORKGROUP) {
    let heads = params.kv_heads * GROUP;
    let at = heads * params.splits * HEAD_DIM + 2u * ((kv_head * GROUP + g) * params.splits + split);
    out[at] = tops[g];
    out[at + 1u] = totals[g];
  }
#endif
}
