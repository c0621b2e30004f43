// Prefill: y = epilogue(W · norm(x)) for many tokens, quantized weights, products by dot4I8Packed.
//
// A workgroup of 64 computes the tile of matmul.wgsl. Weights stay whole numbers, x is rounded to whole numbers of 16 bits,
// a block of a token at a time; a block's sums are exact, blocks are summed in f32.
#import shared/weights.wgsl
#import shared/project.wgsl
#import shared/rounded.wgsl
#import shared/tile.wgsl

var<workgroup> w_tile: array<Packed, 64>;  // by row
var<workgroup> x_tile: array<Rounded, 32>; // by token

// One token's block into the tile; returns its sum of squares.
fn load_x(token: u32, place: u32, block: u32) -> f32 {
  let k4 = block * 8u;
  let at = place + k4;
  let x0 = x[at];
  let x1 = x[at + 1u];
  let x2 = x[at + 2u];
  let x3 = x[at + 3u];
  let x4 = x[at + 4u];
  let x5 = x[at + 5u];
  let x6 = x[at + 6u];
  let x7 = x[at + 7u];
  x_tile[token] = rounded_of(
    gained(x0, k4), gained(x1, k4 + 1u), gained(x2, k4 + 2u), gained(x3, k4 + 3u),
    gained(x4, k4 + 4u), gained(x5, k4 + 5u), gained(x6, k4 + 6u), gained(x7, k4 + 7u),
  );
  let squares = ((x0 * x0 + x1 * x1) + (x2 * x2 + x3 * x3)) + ((x4 * x4 + x5 * x5) + (x6 * x6 + x7 * x7));
  return (squares.x + squares.y) + (squares.z + squares.w);
}

// Four rows with one token.
fn dots(row: u32, x: Rounded) -> vec4<f32> {
  return vec4<f32>(
    rounded_dot(w_tile[row], x),
    rounded_dot(w_tile[row + 16u], x),
    rounded_dot(w_tile[row + 32u], x),
    rounded_dot(w_tile[row + 48u], x),
  );
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first_pair = group.x * TILE_PAIRS;
  let first_token = group.y * TILE_TOKENS;
  let pair_lane = local % 8u;  // pairs pair_lane + 8 i
  let token_lane = local / 8u; // tokens token_lane + 8 i
  let first_row = pair_row(min(first_pair + local / 2u, params.pairs - 1u));
  let my_row = select(first_row, partner(first_row), local % 2u == 1u);
  let my_place = place_of(first_token + local);

  // Rows a and b of all four pairs, by token; one component a pair.
  var a0 = vec4<f32>();
  var b0 = vec4<f32>();
  var a1 = vec4<f32>();
  var b1 = vec4<f32>();
  var a2 = vec4<f32>();
  var b2 = vec4<f32>();
  var a3 = vec4<f32>();
  var b3 = vec4<f32>();
  var squares = 0.0;
  for (var block = 0u; block < params.blocks; block++) {
    w_tile[local] = load_packed(my_row, block, params.blocks);
    if (local < TILE_TOKENS) {
      squares += load_x(local, my_place, block);
    }
    workgroupBarrier();
    let row = 2u * pair_lane;
    let x0 = x_tile[token_lane];
    a0 += dots(row, x0);
    b0 += dots(row + 1u, x0);
    let x1 = x_tile[token_lane + 8u];
    a1 += dots(row, x1);
    b1 += dots(row + 1u, x1);
    let x2 = x_tile[token_lane + 16u];
    a2 += dots(row, x2);
    b2 += dots(row + 1u, x2);
    let x3 = x_tile[token_lane + 24u];
    a3 += dots(row, x3);
    b3 += dots(row + 1u, x3);
    workgroupBarrier();
  }

#ifdef NORM
  // One thread has summed all of a token's squares.
  if (local < TILE_TOKENS) {
    for (var k = 0u; k < 8u; k++) {
      square_sums[local * 8u + k] = select(0.0, squares, k == 0u);
    }
  }
  workgroupBarrier();
#endif
  let f = token_factors(token_lane);
  let token = first_token + token_lane;
  let pair = first_pair + pair_lane;
  store_four(pair + 0u, token, vec4<f32>(a0.x, a1.x, a2.x, a3.x) * f, vec4<f32>(b0.x, b1.x, b2.x, b3.x) * f);
  store_four(pair + 8u, token, vec4<f32>(a0.y, a1.y, a2.y, a3.y) * f, vec4<f32>(b0.y, b1.y, b2.y, b3.y) * f);
  store_four(pair + 16u, token, vec4<f32>(a0.z, a1.z, a2.z, a3.z) * f, vec4<f32>(b0.z, b1.z, b2.z, b3.z) * f);
  store_four(pair + 24u, token, vec4<f32>(a0.w, a1.w, a2.w, a3.w) * f, vec4<f32>(b0.w, b1.w, b2.w, b3.w) * f);
}
