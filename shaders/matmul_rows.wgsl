// Prefill: y = epilogue(W · norm(x)) for many tokens, weights in registers.
//
// A workgroup of 64 computes 128 row pairs x 16 tokens; a thread two pairs and all 16 tokens. It unpacks its rows'
// weights once, where it needs them; neighbouring threads read neighbouring memory. All threads read the same x at the
// same time: one load for the whole workgroup, used for four rows. Where such loads are cheap this beats a tile in
// workgroup memory.
//
// QUADS: where a load costs every thread as much as any other, the four threads of a quad load a token each and
// broadcast it.
#import shared/weights.wgsl
#import shared/project.wgsl

const TILE_TOKENS: u32 = 16u;
const PER: u32 = 64u; // pairs side by side

struct Four { // rows a and b of both pairs; one component a token
  a: vec4<f32>,
  b: vec4<f32>,
  c: vec4<f32>,
  d: vec4<f32>,
}

struct Sums { // four tokens each
  t0: Four,
  t1: Four,
  t2: Four,
  t3: Four,
}

struct Places { // of the tokens' first vec4; with QUADS of the thread's own token of every four
  t0: vec4<u32>,
  t1: vec4<u32>,
  t2: vec4<u32>,
  t3: vec4<u32>,
}

fn dots(sum: vec4<f32>, w: vec4<f32>, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>) -> vec4<f32> {
  return vec4<f32>(chain(sum.x, w, x0), chain(sum.y, w, x1), chain(sum.z, w, x2), chain(sum.w, w, x3));
}

fn chain(sum: f32, w: vec4<f32>, x: vec4<f32>) -> f32 {
  return fma(w.x, x.x, fma(w.y, x.y, fma(w.z, x.z, fma(w.w, x.w, sum))));
}

// Adds the products of the rows `w` with four tokens.
fn four_tokens(sums: Four, w: Four, at: vec4<u32>, k4: u32) -> Four {
#ifdef QUADS
  let mine = x[at.x + k4];
  let x0 = quadBroadcast(mine, 0u);
  let x1 = quadBroadcast(mine, 1u);
  let x2 = quadBroadcast(mine, 2u);
  let x3 = quadBroadcast(mine, 3u);
#else
  let x0 = x[at.x + k4];
  let x1 = x[at.y + k4];
  let x2 = x[at.z + k4];
  let x3 = x[at.w + k4];
#endif
  return Four(
    dots(sums.a, w.a, x0, x1, x2, x3),
    dots(sums.b, w.b, x0, x1, x2, x3),
    dots(sums.c, w.c, x0, x1, x2, x3),
    dots(sums.d, w.d, x0, x1, x2, x3),
  );
}

// One vec4 of all four rows with all tokens.
fn advance(s: Sums, w: Four, places: Places, k4: u32) -> Sums {
  return Sums(
    four_tokens(s.t0, w, places.t0, k4),
    four_tokens(s.t1, w, places.t1, k4),
    four_tokens(s.t2, w, places.t2, k4),
    four_tokens(s.t3, w, places.t3, k4),
  );
}

#ifdef NORM
var<workgroup> squares: array<f32, 64>; // (token, quarter)
var<workgroup> factors: array<f32, TILE_TOKENS>;

// Four threads a token sum the squares of its x.
fn sum_squares(first_token: u32, local: u32) {
  let at = place_of(first_token + local / 4u);
  var sum = 0.0;
  for (var k4 = local % 4u; k4 < params.blocks * 8u; k4 += 4u) {
    let value = x[at + k4];
    sum += dot(value, value);
  }
  squares[local] = sum;
  workgroupBarrier();
  if (local < TILE_TOKENS) {
    let quarter = 4u * local;
    factors[local] = rms_factor(
      (squares[quarter] + squares[quarter + 1u]) + (squares[quarter + 2u] + squares[quarter + 3u]));
  }
  workgroupBarrier();
}
#endif

fn place_of(token: u32) -> u32 {
  return min(token, step.count - 1u) * params.x_stride;
}

fn store_token(row: u32, token: u32, first: u32, a: f32, b: f32) {
  if (first + token < step.count) {
#ifdef NORM
    let factor = factors[token];
    store_pair(row, first + token, a * factor, b * factor);
#else
    store_pair(row, first + token, a, b);
#endif
  }
}

fn store_four(row: u32, token: u32, first: u32, a: vec4<f32>, b: vec4<f32>) {
  store_token(row, token, first, a.x, b.x);
  store_token(row, token + 1u, first, a.y, b.y);
  store_token(row, token + 2u, first, a.z, b.z);
  store_token(row, token + 3u, first, a.w, b.w);
}

// Weights 4 i to 4 i + 3 of a block. The norm's gain is applied to them, of which there are fewer than of x.
fn weights_of(a: BlockRef, b: BlockRef, c: BlockRef, d: BlockRef, block: u32, i: u32) -> Four {
  let k4 = block * 8u + i;
  return Four(
    scaled_by_gain(block_vec4(a, i), k4),
    scaled_by_gain(block_vec4(b, i), k4),
    scaled_by_gain(block_vec4(c, i), k4),
    scaled_by_gain(block_vec4(d, i), k4),
  );
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
#ifdef QUADS
  @builtin(subgroup_invocation_id) lane: u32,
#endif
) {
  let first = group.y * TILE_TOKENS;
  let pair = group.x * 2u * PER + local;
  let row_a = pair_row(min(pair, params.pairs - 1u));
  let row_c = pair_row(min(pair + PER, params.pairs - 1u));
#ifdef NORM
  sum_squares(first, local);
#endif
#ifdef QUADS
  let own = first + lane % 4u;
  let places = Places(
    vec4<u32>(place_of(own)), vec4<u32>(place_of(own + 4u)), vec4<u32>(place_of(own + 8u)), vec4<u32>(place_of(own + 12u)));
#else
  let places = Places(
    vec4<u32>(place_of(first), place_of(first + 1u), place_of(first + 2u), place_of(first + 3u)),
    vec4<u32>(place_of(first + 4u), place_of(first + 5u), place_of(first + 6u), place_of(first + 7u)),
    vec4<u32>(place_of(first + 8u), place_of(first + 9u), place_of(first + 10u), place_of(first + 11u)),
    vec4<u32>(place_of(first + 12u), place_of(first + 13u), place_of(first + 14u), place_of(first + 15u)),
  );
#endif
  var s = Sums();
  for (var block = 0u; block < params.blocks; block++) {
    let a = block_ref(row_a, block, params.blocks);
    let b = block_ref(partner(row_a), block, params.blocks);
    let c = block_ref(row_c, block, params.blocks);
    let d = block_ref(partner(row_c), block, params.blocks);
    // A loop, since eight times the 256 multiplications of a turn would not fit the instruction caches of GPUs.
    for (var i = 0u; i < 8u; i += 2u) {
      s = advance(s, weights_of(a, b, c, d, block, i), places, block * 8u + i);
      s = advance(s, weights_of(a, b, c, d, block, i + 1u), places, block * 8u + i + 1u);
    }
  }
  if (pair < params.pairs) {
    store_four(row_a, 0u, first, s.t0.a, s.t0.b);
    store_four(row_a, 4u, first, s.t1.a, s.t1.b);
    store_four(row_a, 8u, first, s.t2.a, s.t2.b);
    store_four(row_a, 12u, first, s.t3.a, s.t3.b);
  }
  if (pair + PER < params.pairs) {
    store_four(row_c, 0u, first, s.t0.c, s.t0.d);
    store_four(row_c, 4u, first, s.t1.c, s.t1.d);
    store_four(row_c, 8u, first, s.t2.c, s.t2.d);
    store_four(row_c, 12u, first, s.t3.c, s.t3.d);
  }
}
