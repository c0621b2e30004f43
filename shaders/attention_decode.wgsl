// Attention of one token, or of a few, over the whole cache: online softmax, no score matrix in memory.
//
// Workgroup (split, (token, KV head)): the query heads that share this K and V, HEADS at a time, over one part of the
// token's positions, 64 at a time. How many parts there are depends on the positions (shared/splits.wgsl). First thread =
// position: each computes the scores of its position. Then thread = (part, vec4 of the output): each sums p · V over every
// PARTS-th position. Components of a vec4 of scores are heads. With one split the result is final; with more, what is left
// (sum of V, maximum, sum of exponentials) is merged by the output projection (shared/merge.wgsl). A token's numbers do not
// depend on how many tokens there are.
//
// With WINDOW a token sees the last positions only, wherever in the ring they begin.
//
// With STORE, for one token, the workgroup whose part holds the token itself first puts its K and V into the cache; no
// other workgroup reads them. Without, they are there already.
#import shared/attention.wgsl
#import shared/splits.wgsl
@group(0) @binding(4) var<storage, read_write> out: array<vec2<f32>>;

const WORKGROUP: u32 = 64u;
const PARTS: u32 = WORKGROUP / HEAD_VEC4;

var<workgroup> q_tile: array<vec4<f32>, Q_VEC4>;       // (HEADS, HEAD_VEC4)
var<workgroup> scores: array<vec4<f32>, WORKGROUP>;    // by position; at the end a thread's sums of exponentials
var<workgroup> folded: array<vec4<f32>, 8>;            // what eight threads made of eight scores each
var<workgroup> sums: array<vec4<f32>, SUMS>;           // (HEADS, PARTS, HEAD_VEC4), unnormalized output

fn scores_at(kv_head: u32, pos: u32) -> vec4<f32> {
  var all = vec4<f32>();
  var cell = k_at(kv_head, pos);
  let scales = k_scale_at(kv_head, pos);
  for (var block = 0u; block < HEAD_BLOCKS; block++) {
    let scale = load_scale(scales + block * KV_PANEL);
    var of_block = vec4<f32>();
    for (var d = block * BLOCK_VEC4; d < min((block + 1u) * BLOCK_VEC4, HEAD_VEC4); d++) {
      let k = load_cell(cell);
      of_block.x += dot(q_tile[d], k);
      if (HEADS > 1u) { of_block.y += dot(q_tile[HEAD_VEC4 + d], k); }
      if (HEADS > 2u) { of_block.z += dot(q_tile[2u * HEAD_VEC4 + d], k); }
      if (HEADS > 3u) { of_block.w += dot(q_tile[3u * HEAD_VEC4 + d], k); }
      cell += KV_PANEL;
    }
    all += of_block * scale;
  }
  return capped(all);
}

// Thread i < 8 takes scores i, i + 8, ….
fn fold_highest(local: u32) {
  if (local < 8u) {
    var most = scores[local];
    for (var i = local + 8u; i < WORKGROUP; i += 8u) {
      most = max(most, scores[i]);
    }
    folded[local] = most;
  }
}

fn fold_sum(local: u32) {
  if (local < 8u) {
    var sum = scores[local];
    for (var i = local + 8u; i < WORKGROUP; i += 8u) {
      sum += scores[i];
    }
    folded[local] = sum;
  }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let split = group.x;
  let kv_head = group.y % params.kv_heads;
  let token = group.y / params.kv_heads;
  let length = step.pos + token + 1u;
  let splits = splits_of(length);
  // Of a few tokens the last may need more splits than this one.
  if (split >= splits) {
    return;
  }
  let begin = first_seen(vec4<u32>(length)).x;
  let per_split = (length - begin + splits - 1u) / splits;
  let first = begin + split * per_split;
  let end = min(first + per_split, length);
  let part = local / HEAD_VEC4;
  let d = local % HEAD_VEC4;

#ifdef STORE
  if (first < end && end == length) {
    for (var block = local; block < 2u * HEAD_BLOCKS; block += WORKGROUP) {
      store_block(token, kv_head, block);
    }
  }
  storageBarrier();
#endif

  for (var g = 0u; g < GROUP; g += HEADS) {
    workgroupBarrier();
    for (var i = local; i < Q_VEC4; i += WORKGROUP) {
      // A group that is no multiple of HEADS: its last head stands in for those that are missing.
      let head = kv_head * GROUP + min(g + i / HEAD_VEC4, GROUP - 1u);
      q_tile[i] = qkv[token * params.qkv_stride + head * HEAD_VEC4 + i % HEAD_VEC4] * params.scale;
    }
    var top = vec4<f32>(LOWEST);
    var total = vec4<f32>();
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();

    for (var tile = first; tile < end; tile += WORKGROUP) {
      workgroupBarrier();
      let count = min(WORKGROUP, end - tile);
      var score = vec4<f32>(LOWEST);
      if (local < count) {
        score = scores_at(kv_head, tile + local);
      }
      scores[local] = score;
      workgroupBarrier();
      fold_highest(local);
      workgroupBarrier();
      var higher = top;
      for (var i = 0u; i < 8u; i++) {
        higher = max(higher, folded[i]);
      }
      let shrink = exp(top - higher);
      top = higher;
      // Beyond the last position LOWEST - top underflows to 0: every tile has a position, so top is real.
      let p = exp(score - top);
      total = total * shrink + p;
      scores[local] = p;
      workgroupBarrier();
      sum0 *= shrink.x;
      sum1 *= shrink.y;
      sum2 *= shrink.z;
      sum3 *= shrink.w;
      if (part < PARTS) {
        for (var j = part; j < count; j += PARTS) {
          let v = load_cell(v_at(kv_head, tile + j) + d);
          let weight = scores[j] * load_scale(v_scale_at(kv_head, tile + j) + d / BLOCK_VEC4);
          sum0 += weight.x * v;
          if (HEADS > 1u) { sum1 += weight.y * v; }
          if (HEADS > 2u) { sum2 += weight.z * v; }
          if (HEADS > 3u) { sum3 += weight.w * v; }
        }
      }
    }

    workgroupBarrier();
    scores[local] = total;
    if (part < PARTS) {
      sums[local] = sum0;
      if (HEADS > 1u) { sums[PARTS * HEAD_VEC4 + local] = sum1; }
      if (HEADS > 2u) { sums[2u * PARTS * HEAD_VEC4 + local] = sum2; }
      if (HEADS > 3u) { sums[3u * PARTS * HEAD_VEC4 + local] = sum3; }
    }
    workgroupBarrier();
    fold_sum(local);
    workgroupBarrier();
    var whole = vec4<f32>();
    for (var i = 0u; i < 8u; i++) {
      whole += folded[i];
    }

    let of_token = token * params.out_stride;
    for (var i = local; i < Q_VEC4; i += WORKGROUP) {
      let h = i / HEAD_VEC4;
      if (g + h >= GROUP) {
        continue;
      }
      var sum = vec4<f32>();
      for (var p = 0u; p < PARTS; p++) {
        sum += sums[(h * PARTS + p) * HEAD_VEC4 + i % HEAD_VEC4];
      }
      let head = kv_head * GROUP + g + h;
#ifdef SPLIT
      let at = of_token / 2u + ((head * params.splits + split) * HEAD_VEC4 + i % HEAD_VEC4) * 2u;
#else
      sum /= whole[h];
      let at = of_token / 2u + (head * HEAD_VEC4 + i % HEAD_VEC4) * 2u;
#endif
      out[at] = sum.xy;
      out[at + 1u] = sum.zw;
    }
#ifdef SPLIT
    if (local < HEADS && g + local < GROUP) {
      let heads = params.kv_heads * GROUP;
      let head = kv_head * GROUP + g + local;
      out[of_token / 2u + heads * params.splits * HEAD_VEC4 * 2u + head * params.splits + split] = vec2<f32>(top[local], whole[local]);
    }
#endif
  }
#ifdef SPLIT
#else
  // The projection reads whole blocks of 32: behind the last head there are zeros.
  if (kv_head + 1u == params.kv_heads) {
    for (var i = params.kv_heads * GROUP * HEAD_VEC4 * 2u + local; i < params.out_stride / 2u; i += WORKGROUP) {
      out[token * params.out_stride / 2u + i] = vec2<f32>();
    }
  }
#endif
}
