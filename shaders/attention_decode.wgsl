// Attention of one token over the whole cache, online softmax, no score matrix in memory.
//
// Workgroup (split, kv head): all GROUP query heads that share this K and V, over one part of the
// positions, 64 at a time. First thread = position: each computes the scores of its position; then
// thread = output elements: each sums p · V. With one split the result is final; with more, what is
// left (sum of V, maximum, sum of exponentials) is merged by the output projection (shared/merge.wgsl).
#import shared/attention.wgsl
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

const WORKGROUP: u32 = 64u;

var<workgroup> q_tile: array<vec4<f32>, Q_VEC4>;     // GROUP * HEAD_VEC4
var<workgroup> scores: array<f32, SCORES>;           // GROUP * WORKGROUP

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
  var top: array<f32, GROUP>;
  var total: array<f32, GROUP>;
  var acc: array<f32, OWNED>; // GROUP * OUT_PER_THREAD
  for (var g = 0u; g < GROUP; g++) {
    top[g] = LOWEST;
  }

  for (var tile = first; tile < end; tile += WORKGROUP) {
    workgroupBarrier();
    let pos = tile + local;
    var s: array<f32, GROUP>;
    if (pos < end) {
      for (var d = 0u; d < HEAD_VEC4; d++) {
        let k = k_cache[(cache + pos) * HEAD_VEC4 + d];
        for (var g = 0u; g < GROUP; g++) {
          s[g] += dot(q_tile[g * HEAD_VEC4 + d], k);
        }
      }
    }
    for (var g = 0u; g < GROUP; g++) {
      scores[g * WORKGROUP + local] = select(LOWEST, s[g], pos < end);
    }
    workgroupBarrier();
    let count = min(WORKGROUP, end - tile);
    var shrink: array<f32, GROUP>;
    for (var g = 0u; g < GROUP; g++) {
      var tile_top = top[g];
      for (var j = 0u; j < count; j++) {
        tile_top = max(tile_top, scores[g * WORKGROUP + j]);
      }
      shrink[g] = exp(top[g] - tile_top);
      top[g] = tile_top;
    }
    workgroupBarrier();
    for (var g = 0u; g < GROUP; g++) {
      scores[g * WORKGROUP + local] = exp(scores[g * WORKGROUP + local] - top[g]);
    }
    workgroupBarrier();
    for (var g = 0u; g < GROUP; g++) {
      var sum = 0.0;
      for (var j = 0u; j < count; j++) {
        sum += scores[g * WORKGROUP + j];
      }
      total[g] = total[g] * shrink[g] + sum;
      for (var e = 0u; e < OUT_PER_THREAD; e++) {
        acc[g * OUT_PER_THREAD + e] *= shrink[g];
      }
    }
    for (var e = 0u; e < OUT_PER_THREAD; e++) {
      let d = local + e * WORKGROUP;
      if (d < HEAD_DIM) {
        for (var j = 0u; j < count; j++) {
          let v = v_cache[(cache + tile + j) * HEAD_VEC4 + d / 4u][d % 4u];
          for (var g = 0u; g < GROUP; g++) {
            acc[g * OUT_PER_THREAD + e] += scores[g * WORKGROUP + j] * v;
          }
        }
      }
    }
  }

  for (var g = 0u; g < GROUP; g++) {
    let head = kv_head * GROUP + g;
    for (var e = 0u; e < OUT_PER_THREAD; e++) {
      let d = local + e * WORKGROUP;
      if (d < HEAD_DIM) {
#ifdef SPLIT
        out[(head * params.splits + split) * HEAD_DIM + d] = acc[g * OUT_PER_THREAD + e];
#else
        out[head * HEAD_DIM + d] = acc[g * OUT_PER_THREAD + e] / total[g];
#endif
      }
    }
#ifdef SPLIT
    if (local == 0u) {
      let heads = params.kv_heads * GROUP;
      let at = heads * params.splits * HEAD_DIM + 2u * (head * params.splits + split);
      out[at] = top[g];
      out[at + 1u] = total[g];
    }
#endif
  }
}
