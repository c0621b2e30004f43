// Prefill: y = epilogue(W · norm(x)) for many tokens.
//
// A workgroup of 64 computes a tile of 32 row pairs x 32 tokens. Along K it takes one block of 32 at
// a time: the 64 rows' weights are dequantized into workgroup memory once (one row a thread) and
// used for all 32 tokens. Each thread keeps 4 pairs x 4 tokens in registers.
#import shared/weights.wgsl
#import shared/project.wgsl

const TILE_PAIRS: u32 = 32u;
const TILE_TOKENS: u32 = 32u;
const ROW: u32 = 9u; // vec4s from one tile row to the next: 8, and 1 against bank conflicts

var<workgroup> w_tile: array<vec4<f32>, 576>; // (2 * TILE_PAIRS) * ROW
var<workgroup> x_tile: array<vec4<f32>, 288>; // TILE_TOKENS * ROW
#ifdef NORM
var<workgroup> square_sums: array<f32, 256>;  // (token, k4)
#endif

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first_pair = group.x * TILE_PAIRS;
  let first_token = group.y * TILE_TOKENS;
  let pair_lane = local % 8u;
  let token_lane = local / 8u;

  let my_row = pair_row(min(first_pair + local / 2u, params.pairs - 1u)) + (local % 2u) * params.pair_stride;
  var acc: array<vec4<f32>, 8>; // [pair i, side] -> 4 tokens
  var squares = vec4<f32>();

  for (var block = 0u; block < params.blocks; block++) {
    let w = load_block(my_row, block, params.blocks);
    for (var j = 0u; j < 8u; j++) {
      w_tile[local * ROW + j] = w[j];
    }
    for (var i = 0u; i < 4u; i++) {
      let token = token_lane + 8u * i;
      let k4 = block * 8u + pair_lane;
      let value = x[min(first_token + token, step.count - 1u) * params.x_stride + k4];
      squares[i] += dot(value, value);
      x_tile[token * ROW + pair_lane] = gained(value, k4);
    }
    workgroupBarrier();
    for (var k = 0u; k < 8u; k++) {
      let x0 = x_tile[token_lane * ROW + k];
      let x1 = x_tile[(token_lane + 8u) * ROW + k];
      let x2 = x_tile[(token_lane + 16u) * ROW + k];
      let x3 = x_tile[(token_lane + 24u) * ROW + k];
      for (var i = 0u; i < 4u; i++) {
        let at = 2u * (pair_lane + 8u * i) * ROW + k;
        let a = w_tile[at];
        let b = w_tile[at + ROW];
        acc[2u * i] += vec4<f32>(dot(a, x0), dot(a, x1), dot(a, x2), dot(a, x3));
        acc[2u * i + 1u] += vec4<f32>(dot(b, x0), dot(b, x1), dot(b, x2), dot(b, x3));
      }
    }
    workgroupBarrier();
  }

  var factors = vec4<f32>(1.0);
#ifdef NORM
  for (var i = 0u; i < 4u; i++) {
    square_sums[(token_lane + 8u * i) * 8u + pair_lane] = squares[i];
  }
  workgroupBarrier();
  for (var i = 0u; i < 4u; i++) {
    var sum = 0.0;
    for (var k = 0u; k < 8u; k++) {
      sum += square_sums[(token_lane + 8u * i) * 8u + k];
    }
    factors[i] = rms_factor(sum);
  }
#endif
  for (var i = 0u; i < 4u; i++) {
    let pair = first_pair + pair_lane + 8u * i;
    if (pair < params.pairs) {
      let row = pair_row(pair);
      for (var t = 0u; t < 4u; t++) {
        let token = first_token + token_lane + 8u * t;
        if (token < step.count) {
          store_pair(row, token, acc[2u * i][t] * factors[t], acc[2u * i + 1u][t] * factors[t]);
        }
      }
    }
  }
}
