// Prefill: y = epilogue(W · norm(x)) for many tokens, products in f16.
//
// A workgroup of 64 computes the tile of matmul.wgsl in half the workgroup memory, and with two products an instruction
// where a GPU packs f16. A block's 32 products are summed in f16, blocks in f32. Each block of a row is scaled to below 2
// and each token's x to below 2 TOP, so that no sum leaves f16: 32 · 2 · 512 < 65504.
#import shared/weights.wgsl
#import shared/project.wgsl
#import shared/block_max.wgsl
#import shared/tile.wgsl

const TOP: f32 = 256.0;
const ROW: u32 = 9u; // vec4s from one tile row to the next: 8, and 1 against bank conflicts

var<workgroup> w_tile: array<vec4<f16>, 576>; // (row, k / 4)
var<workgroup> w_scales: array<f32, 64>;      // of the rows' blocks
var<workgroup> x_tile: array<vec4<f16>, 288>; // (k, token lane): that lane's four tokens
var<workgroup> x_tops: array<f32, 256>;       // (token, eighth of its x)

// One row's block, a thread each.
fn load_weights(row: u32, block: u32, local: u32) {
  let w = load_block(row, block, params.blocks);
  let high = second(w);
  let w0 = w.scale * w.w0 + w.low;
  let w1 = w.scale * w.w1 + w.low;
  let w2 = w.scale * w.w2 + w.low;
  let w3 = w.scale * w.w3 + w.low;
  let w4 = high.x * w.w4 + high.y;
  let w5 = high.x * w.w5 + high.y;
  let w6 = high.x * w.w6 + high.y;
  let w7 = high.x * w.w7 + high.y;
  let top = largest_of(w0, w1, w2, w3, w4, w5, w6, w7);
  let factor = to_one(top);
  let at = local * ROW;
  w_scales[local] = from_one(top);
  w_tile[at + 0u] = vec4<f16>(w0 * factor);
  w_tile[at + 1u] = vec4<f16>(w1 * factor);
  w_tile[at + 2u] = vec4<f16>(w2 * factor);
  w_tile[at + 3u] = vec4<f16>(w3 * factor);
  w_tile[at + 4u] = vec4<f16>(w4 * factor);
  w_tile[at + 5u] = vec4<f16>(w5 * factor);
  w_tile[at + 6u] = vec4<f16>(w6 * factor);
  w_tile[at + 7u] = vec4<f16>(w7 * factor);
}

// Four columns of four tokens.
fn load_x(places: vec4<u32>, factors: vec4<f32>, k4: u32, eighth: u32, token_lane: u32) {
  let x0 = vec4<f16>(scaled_by_gain(x[places.x + k4], k4) * factors.x);
  let x1 = vec4<f16>(scaled_by_gain(x[places.y + k4], k4) * factors.y);
  let x2 = vec4<f16>(scaled_by_gain(x[places.z + k4], k4) * factors.z);
  let x3 = vec4<f16>(scaled_by_gain(x[places.w + k4], k4) * factors.w);
  let at = 4u * eighth * ROW + token_lane;
  x_tile[at] = vec4<f16>(x0.x, x1.x, x2.x, x3.x);
  x_tile[at + ROW] = vec4<f16>(x0.y, x1.y, x2.y, x3.y);
  x_tile[at + 2u * ROW] = vec4<f16>(x0.z, x1.z, x2.z, x3.z);
  x_tile[at + 3u * ROW] = vec4<f16>(x0.w, x1.w, x2.w, x3.w);
}

// Adds one row's products of four columns with four tokens.
fn advance(sum: vec4<f16>, w: vec4<f16>, x0: vec4<f16>, x1: vec4<f16>, x2: vec4<f16>, x3: vec4<f16>) -> vec4<f16> {
  return fma(vec4<f16>(w.w), x3, fma(vec4<f16>(w.z), x2, fma(vec4<f16>(w.y), x1, fma(vec4<f16>(w.x), x0, sum))));
}

fn top_of(token: u32) -> f32 {
  var top = 0.0;
  for (var k = 0u; k < 8u; k++) {
    top = max(top, x_tops[token * 8u + k]);
  }
  return top;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first_pair = group.x * TILE_PAIRS;
  let first_token = group.y * TILE_TOKENS;
  let pair_lane = local % 8u;  // pairs pair_lane + 8 i, and the eighth of x
  let token_lane = local / 8u; // tokens token_lane + 8 i
  let first_row = pair_row(min(first_pair + local / 2u, params.pairs - 1u));
  let my_row = select(first_row, partner(first_row), local % 2u == 1u);
  let token = first_token + token_lane;
  let places = vec4<u32>(place_of(token), place_of(token + 8u), place_of(token + 16u), place_of(token + 24u));

  // x is read twice, first for what it is scaled by.
  var tops = vec4<f32>();
  var squares = vec4<f32>();
  for (var k4 = pair_lane; k4 < params.blocks * 8u; k4 += 8u) {
    let x0 = x[places.x + k4];
    let x1 = x[places.y + k4];
    let x2 = x[places.z + k4];
    let x3 = x[places.w + k4];
    squares += vec4<f32>(dot(x0, x0), dot(x1, x1), dot(x2, x2), dot(x3, x3));
    tops = max(tops, vec4<f32>(
      largest(scaled_by_gain(x0, k4)), largest(scaled_by_gain(x1, k4)), largest(scaled_by_gain(x2, k4)), largest(scaled_by_gain(x3, k4))));
  }
  x_tops[local] = tops.x;
  x_tops[local + 64u] = tops.y;
  x_tops[local + 128u] = tops.z;
  x_tops[local + 192u] = tops.w;
#ifdef NORM
  square_sums[local] = squares.x;
  square_sums[local + 64u] = squares.y;
  square_sums[local + 128u] = squares.z;
  square_sums[local + 192u] = squares.w;
#endif
  workgroupBarrier();
  tops = vec4<f32>(top_of(token_lane), top_of(token_lane + 8u), top_of(token_lane + 16u), top_of(token_lane + 24u));
  let to_half = TOP * vec4<f32>(to_one(tops.x), to_one(tops.y), to_one(tops.z), to_one(tops.w));

  // Row a and row b of pair i; one component a token.
  var a0 = vec4<f32>();
  var b0 = vec4<f32>();
  var a1 = vec4<f32>();
  var b1 = vec4<f32>();
  var a2 = vec4<f32>();
  var b2 = vec4<f32>();
  var a3 = vec4<f32>();
  var b3 = vec4<f32>();
  for (var block = 0u; block < params.blocks; block++) {
    load_weights(my_row, block, local);
    load_x(places, to_half, block * 8u + pair_lane, pair_lane, token_lane);
    workgroupBarrier();
    var c0 = vec4<f16>();
    var d0 = vec4<f16>();
    var c1 = vec4<f16>();
    var d1 = vec4<f16>();
    var c2 = vec4<f16>();
    var d2 = vec4<f16>();
    var c3 = vec4<f16>();
    var d3 = vec4<f16>();
    for (var k4 = 0u; k4 < 8u; k4++) {
      let x_at = 4u * k4 * ROW + token_lane;
      let x0 = x_tile[x_at];
      let x1 = x_tile[x_at + ROW];
      let x2 = x_tile[x_at + 2u * ROW];
      let x3 = x_tile[x_at + 3u * ROW];
      let at = 2u * pair_lane * ROW + k4;
      c0 = advance(c0, w_tile[at + 0u * ROW], x0, x1, x2, x3);
      d0 = advance(d0, w_tile[at + 1u * ROW], x0, x1, x2, x3);
      c1 = advance(c1, w_tile[at + 16u * ROW], x0, x1, x2, x3);
      d1 = advance(d1, w_tile[at + 17u * ROW], x0, x1, x2, x3);
      c2 = advance(c2, w_tile[at + 32u * ROW], x0, x1, x2, x3);
      d2 = advance(d2, w_tile[at + 33u * ROW], x0, x1, x2, x3);
      c3 = advance(c3, w_tile[at + 48u * ROW], x0, x1, x2, x3);
      d3 = advance(d3, w_tile[at + 49u * ROW], x0, x1, x2, x3);
    }
    let row = 2u * pair_lane;
    a0 += w_scales[row] * vec4<f32>(c0);
    b0 += w_scales[row + 1u] * vec4<f32>(d0);
    a1 += w_scales[row + 16u] * vec4<f32>(c1);
    b1 += w_scales[row + 17u] * vec4<f32>(d1);
    a2 += w_scales[row + 32u] * vec4<f32>(c2);
    b2 += w_scales[row + 33u] * vec4<f32>(d2);
    a3 += w_scales[row + 48u] * vec4<f32>(c3);
    b3 += w_scales[row + 49u] * vec4<f32>(d3);
    workgroupBarrier();
  }

  let factors = token_factors(token_lane) / to_half;
  let pair = first_pair + pair_lane;
  store_four(pair + 0u, token, a0 * factors, b0 * factors);
  store_four(pair + 8u, token, a1 * factors, b1 * factors);
  store_four(pair + 16u, token, a2 * factors, b2 * factors);
  store_four(pair + 24u, token, a3 * factors, b3 * factors);
}
