// Causal attention of many tokens over the cache (their own K and V are in it already), online
// softmax, no score matrix in memory, tiles that are masked for all rows are skipped.
//
// A workgroup of 64 takes 16 rows: (token, query head of one kv head), so that grouped heads share
// each K and V read. Four threads share a row: for the scores each takes every fourth of 32
// positions, for the output a quarter of the head.
#import shared/attention.wgsl
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;

const ROWS: u32 = 16u;
const TILE: u32 = 32u;

var<workgroup> q_tile: array<vec4<f32>, Q_VEC4>; // ROWS * HEAD_VEC4
var<workgroup> scores: array<f32, 528>;          // ROWS * (TILE + 1): 1 against bank conflicts

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let kv_head = group.x;
  let first_row = group.y * ROWS;
  let rows = step.count * GROUP;
  let cache = kv_head * params.capacity;

  for (var i = local; i < Q_VEC4; i += 64u) {
    let r = min(first_row + i / HEAD_VEC4, rows - 1u);
    let at = (r / GROUP) * params.q_stride + (kv_head * GROUP + r % GROUP) * HEAD_VEC4 + i % HEAD_VEC4;
    q_tile[i] = q[at] * params.scale;
  }

  let lane = local % 4u;
  let my_row = local / 4u;
  let row = min(first_row + my_row, rows - 1u);
  let my_end = step.pos + row / GROUP + 1u; // positions this row may see
  let end = step.pos + min(first_row + ROWS - 1u, rows - 1u) / GROUP + 1u;
  var top = LOWEST;
  var total = 0.0;
  var acc: array<vec4<f32>, OWNED>; // HEAD_VEC4 / 4

  for (var tile = 0u; tile < end; tile += TILE) {
    workgroupBarrier();
    var s: array<f32, 8>;
    for (var i = 0u; i < 8u; i++) {
      let pos = tile + lane + 4u * i;
      s[i] = LOWEST;
      if (pos < my_end) {
        var sum = 0.0;
        for (var d = 0u; d < HEAD_VEC4; d++) {
          sum += dot(q_tile[my_row * HEAD_VEC4 + d], k_cache[(cache + pos) * HEAD_VEC4 + d]);
        }
        s[i] = sum;
      }
      scores[my_row * (TILE + 1u) + lane + 4u * i] = s[i];
    }
    workgroupBarrier();
    var tile_top = top;
    for (var j = 0u; j < TILE; j++) {
      tile_top = max(tile_top, scores[my_row * (TILE + 1u) + j]);
    }
    let shrink = exp(top - tile_top);
    top = tile_top;
    workgroupBarrier();
    for (var i = 0u; i < 8u; i++) {
      // Masked positions: LOWEST - top underflows to 0. Every row sees position 0, so top is real.
      scores[my_row * (TILE + 1u) + lane + 4u * i] = exp(s[i] - top);
    }
    workgroupBarrier();
    total *= shrink;
    for (var c = 0u; c < OWNED; c++) {
      acc[c] *= shrink;
    }
    let count = min(TILE, end - tile);
    for (var j = 0u; j < count; j++) {
      let p = scores[my_row * (TILE + 1u) + j];
      total += p;
      for (var c = 0u; c < OWNED; c++) {
        acc[c] += p * v_cache[(cache + tile + j) * HEAD_VEC4 + lane + 4u * c];
      }
    }
  }

  if (first_row + my_row < rows) {
    let at = (row / GROUP) * params.out_stride + (kv_head * GROUP + row % GROUP) * HEAD_VEC4;
    for (var c = 0u; c < OWNED; c++) {
      out[at + lane + 4u * c] = acc[c] / total;
    }
  }
}
