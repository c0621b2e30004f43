// Prefill: y = epilogue(W · norm(x)) for many tokens.
//
// A workgroup of 64 computes a tile of 32 row pairs x 32 tokens. Along K it takes one block of 32 at
// a time: the 64 rows' weights are dequantized into workgroup memory once (one row a thread) and
// used for all 32 tokens. Each thread keeps 4 pairs x 4 tokens in registers.
#import shared/weights.wgsl
#import shared/project.wgsl
#import shared/tile.wgsl

const ROW: u32 = 9u; // vec4s from one tile row to the next: 8, and 1 against bank conflicts

var<workgroup> w_tile: array<vec4<f32>, 576>; // (2 * TILE_PAIRS) * ROW
var<workgroup> x_tile: array<vec4<f32>, 288>; // TILE_TOKENS * ROW

// One vec4 of a token's input into the tile; returns its sum of squares.
fn load_x(token: u32, first_token: u32, k4: u32, at: u32) -> f32 {
  let value = x[place_of(first_token + token) + k4];
  x_tile[token * ROW + at] = scaled_by_gain(value, k4);
  return dot(value, value);
}

// One row's dot products with four tokens.
fn dots(w: vec4<f32>, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>) -> vec4<f32> {
  return vec4<f32>(dot(w, x0), dot(w, x1), dot(w, x2), dot(w, x3));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first_pair = group.x * TILE_PAIRS;
  let first_token = group.y * TILE_TOKENS;
  let pair_lane = local % 8u;  // pairs pair_lane + 8 i, and k4 when loading x
  let token_lane = local / 8u; // tokens token_lane + 8 i
  let first_row = pair_row(min(first_pair + local / 2u, params.pairs - 1u));
  let my_row = select(first_row, partner(first_row), local % 2u == 1u);

  // Row a and row b of pair i; one component a token.
  var a0 = vec4<f32>();
  var b0 = vec4<f32>();
  var a1 = vec4<f32>();
  var b1 = vec4<f32>();
  var a2 = vec4<f32>();
  var b2 = vec4<f32>();
  var a3 = vec4<f32>();
  var b3 = vec4<f32>();
  var squares = vec4<f32>();

  for (var block = 0u; block < params.blocks; block++) {
    let w = load_block(my_row, block, params.blocks);
    let w_at = local * ROW;
    let high = second(w);
    w_tile[w_at + 0u] = w.scale * w.w0 + w.low;
    w_tile[w_at + 1u] = w.scale * w.w1 + w.low;
    w_tile[w_at + 2u] = w.scale * w.w2 + w.low;
    w_tile[w_at + 3u] = w.scale * w.w3 + w.low;
    w_tile[w_at + 4u] = high.x * w.w4 + high.y;
    w_tile[w_at + 5u] = high.x * w.w5 + high.y;
    w_tile[w_at + 6u] = high.x * w.w6 + high.y;
    w_tile[w_at + 7u] = high.x * w.w7 + high.y;
    let k4 = block * 8u + pair_lane;
    squares += vec4<f32>(
      load_x(token_lane, first_token, k4, pair_lane),
      load_x(token_lane + 8u, first_token, k4, pair_lane),
      load_x(token_lane + 16u, first_token, k4, pair_lane),
      load_x(token_lane + 24u, first_token, k4, pair_lane),
    );
    workgroupBarrier();
    for (var k = 0u; k < 8u; k++) {
      let x0 = x_tile[token_lane * ROW + k];
      let x1 = x_tile[(token_lane + 8u) * ROW + k];
      let x2 = x_tile[(token_lane + 16u) * ROW + k];
      let x3 = x_tile[(token_lane + 24u) * ROW + k];
      let at = 2u * pair_lane * ROW + k;
      a0 += dots(w_tile[at + 0u * ROW], x0, x1, x2, x3);
      b0 += dots(w_tile[at + 1u * ROW], x0, x1, x2, x3);
      a1 += dots(w_tile[at + 16u * ROW], x0, x1, x2, x3);
      b1 += dots(w_tile[at + 17u * ROW], x0, x1, x2, x3);
      a2 += dots(w_tile[at + 32u * ROW], x0, x1, x2, x3);
      b2 += dots(w_tile[at + 33u * ROW], x0, x1, x2, x3);
      a3 += dots(w_tile[at + 48u * ROW], x0, x1, x2, x3);
      b3 += dots(w_tile[at + 49u * ROW], x0, x1, x2, x3);
    }
    workgroupBarrier();
  }

#ifdef NORM
  square_sums[token_lane * 8u + pair_lane] = squares.x;
  square_sums[(token_lane + 8u) * 8u + pair_lane] = squares.y;
  square_sums[(token_lane + 16u) * 8u + pair_lane] = squares.z;
  square_sums[(token_lane + 24u) * 8u + pair_lane] = squares.w;
  workgroupBarrier();
#endif
  let factors = token_factors(token_lane);
  let token = first_token + token_lane;
  let pair = first_pair + pair_lane;
  store_four(pair + 0u, token, a0 * factors, b0 * factors);
  store_four(pair + 8u, token, a1 * factors, b1 * factors);
  store_four(pair + 16u, token, a2 * factors, b2 * factors);
  store_four(pair + 24u, token, a3 * factors, b3 * factors);
}
