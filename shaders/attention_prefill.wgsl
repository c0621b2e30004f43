// Causal attention of many tokens over the cache (their own K and V are in it already), online
// softmax, no score matrix in memory, tiles that are masked for all rows are skipped.
//
// A workgroup of 64 takes ROWS rows: (token, query head of one kv head), so that grouped heads share
// each K and V read. 64 / ROWS threads share a row: they divide the TILE positions of a step for the
// scores, and the elements of the head for the output.
#import shared/attention.wgsl
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

const TILE: u32 = 32u;
const LANES: u32 = 64u / ROWS;

var<workgroup> q_tile: array<vec4<f32>, Q_VEC4>; // (ROWS, HEAD_VEC4)
var<workgroup> sums: array<vec4<f32>, Q_VEC4>;   // (ROWS, HEAD_VEC4), unnormalized output
var<workgroup> scores: array<f32, SCORES>;       // (ROWS, TILE + 1): 1 against bank conflicts

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let kv_head = group.x;
  let first_row = group.y * ROWS;
  let rows = step.count * GROUP;

  for (var i = local; i < Q_VEC4; i += 64u) {
    let r = min(first_row + i / HEAD_VEC4, rows - 1u);
    let at = (r / GROUP) * params.qkv_stride + (kv_head * GROUP + r % GROUP) * HEAD_VEC4 + i % HEAD_VEC4;
    q_tile[i] = qkv[at] * params.scale;
    sums[i] = vec4<f32>();
  }

  let lane = local % LANES;
  let my_row = local / LANES;
  let q_at = my_row * HEAD_VEC4;
  let score_at = my_row * (TILE + 1u);
  let row = min(first_row + my_row, rows - 1u);
  let my_end = step.pos + row / GROUP + 1u; // positions this row may see
  let end = step.pos + min(first_row + ROWS - 1u, rows - 1u) / GROUP + 1u;
  var top = LOWEST;
  var total = 0.0;

  for (var tile = 0u; tile < end; tile += TILE) {
    workgroupBarrier();
    for (var j = lane; j < TILE; j += LANES) {
      var score = LOWEST;
      if (tile + j < my_end) {
        score = 0.0;
        var cell = k_at(kv_head, tile + j);
        for (var block = 0u; block < HEAD_BLOCKS; block++) {
          let scale = k_scale(cell);
          var of_block = 0.0;
          for (var d = block * BLOCK_VEC4; d < (block + 1u) * BLOCK_VEC4; d++) {
            of_block += dot(q_tile[q_at + d], load_cell(cell));
            cell += KV_PANEL;
          }
          score += of_block * scale;
        }
      }
      scores[score_at + j] = score;
    }
    workgroupBarrier();
    var tile_top = top;
    for (var j = 0u; j < TILE; j++) {
      tile_top = max(tile_top, scores[score_at + j]);
    }
    let shrink = exp(top - tile_top);
    top = tile_top;
    workgroupBarrier();
    for (var j = lane; j < TILE; j += LANES) {
      // Masked positions: LOWEST - top underflows to 0. Every row sees position 0, so top is real.
      scores[score_at + j] = exp(scores[score_at + j] - top);
    }
    workgroupBarrier();
    let count = min(TILE, end - tile);
    total *= shrink;
    for (var j = 0u; j < count; j++) {
      total += scores[score_at + j];
    }
    for (var d = lane; d < HEAD_VEC4; d += LANES) {
      var sum = sums[q_at + d] * shrink;
      for (var j = 0u; j < count; j++) {
        let cell = v_at(kv_head, tile + j) + d;
        sum += scores[score_at + j] * v_scale(cell) * load_cell(cell);
      }
      sums[q_at + d] = sum;
    }
  }

  if (first_row + my_row < rows) {
    let at = (row / GROUP) * params.out_stride / 4u + (kv_head * GROUP + row % GROUP) * HEAD_VEC4;
    for (var d = lane; d < HEAD_VEC4; d += LANES) {
      out[at + d] = sums[q_at + d] / total;
    }
  }
}
