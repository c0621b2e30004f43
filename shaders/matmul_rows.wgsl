// Prefill: y = epilogue(W · norm(x)) for many tokens, weights in registers.
//
// A workgroup of 64 computes 64 row pairs x 16 tokens; a thread a pair and all 16 tokens. It unpacks its rows' weights
// once, where it needs them; neighbouring threads read neighbouring memory. All threads read the same x at the same
// time: one load for the whole workgroup. Where such loads are cheap this beats a tile in workgroup memory.
#import shared/weights.wgsl
#import shared/project.wgsl

const TILE_TOKENS: u32 = 16u;

struct Sums { // of rows a and b, four tokens a vec4
  a0: vec4<f32>,
  a1: vec4<f32>,
  a2: vec4<f32>,
  a3: vec4<f32>,
  b0: vec4<f32>,
  b1: vec4<f32>,
  b2: vec4<f32>,
  b3: vec4<f32>,
}

struct Pair {
  a: vec4<f32>,
  b: vec4<f32>,
}

fn chain(sum: f32, w: vec4<f32>, x: vec4<f32>) -> f32 {
  return fma(w.x, x.x, fma(w.y, x.y, fma(w.z, x.z, fma(w.w, x.w, sum))));
}

// Adds the products with four tokens, `at` where the first one's vec4 lies.
fn four(sums: Pair, a: vec4<f32>, b: vec4<f32>, at: vec4<u32>) -> Pair {
  let x0 = x[at.x];
  let x1 = x[at.y];
  let x2 = x[at.z];
  let x3 = x[at.w];
  return Pair(
    vec4<f32>(chain(sums.a.x, a, x0), chain(sums.a.y, a, x1), chain(sums.a.z, a, x2), chain(sums.a.w, a, x3)),
    vec4<f32>(chain(sums.b.x, b, x0), chain(sums.b.y, b, x1), chain(sums.b.z, b, x2), chain(sums.b.w, b, x3)),
  );
}

struct Places { // of the tokens' first vec4
  t0: vec4<u32>,
  t1: vec4<u32>,
  t2: vec4<u32>,
  t3: vec4<u32>,
}

// One vec4 of both rows: 32 dot products of four.
fn advance(s: Sums, a: vec4<f32>, b: vec4<f32>, places: Places, k4: u32) -> Sums {
  let k = vec4<u32>(k4);
  let p0 = four(Pair(s.a0, s.b0), a, b, places.t0 + k);
  let p1 = four(Pair(s.a1, s.b1), a, b, places.t1 + k);
  let p2 = four(Pair(s.a2, s.b2), a, b, places.t2 + k);
  let p3 = four(Pair(s.a3, s.b3), a, b, places.t3 + k);
  return Sums(p0.a, p1.a, p2.a, p3.a, p0.b, p1.b, p2.b, p3.b);
}

#ifdef NORM
var<workgroup> squares: array<f32, 64>;          // (token, quarter)
var<workgroup> factors: array<vec4<f32>, 4>;

// Four threads a token sum the squares of its x.
fn sum_squares(first_token: u32, local: u32) {
  let at = min(first_token + local / 4u, step.count - 1u) * params.x_stride;
  var sum = 0.0;
  for (var k4 = local % 4u; k4 < params.blocks * 8u; k4 += 4u) {
    let value = x[at + k4];
    sum += dot(value, value);
  }
  squares[local] = sum;
  workgroupBarrier();
  if (local < TILE_TOKENS) {
    let at = 4u * local;
    factors[local / 4u][local % 4u] =
      rms_factor((squares[at] + squares[at + 1u]) + (squares[at + 2u] + squares[at + 3u]));
  }
  workgroupBarrier();
}
#endif

fn place_of(token: u32) -> u32 {
  return min(token, step.count - 1u) * params.x_stride;
}

fn places_of(token: u32) -> vec4<u32> {
  return vec4<u32>(place_of(token), place_of(token + 1u), place_of(token + 2u), place_of(token + 3u));
}

fn store_four(row: u32, token: u32, a: vec4<f32>, b: vec4<f32>) {
  if (token < step.count) {
    store_pair(row, token, a.x, b.x);
  }
  if (token + 1u < step.count) {
    store_pair(row, token + 1u, a.y, b.y);
  }
  if (token + 2u < step.count) {
    store_pair(row, token + 2u, a.z, b.z);
  }
  if (token + 3u < step.count) {
    store_pair(row, token + 3u, a.w, b.w);
  }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first_token = group.y * TILE_TOKENS;
  let pair = group.x * 64u + local;
  let row = pair_row(min(pair, params.pairs - 1u));
#ifdef NORM
  sum_squares(first_token, local);
#endif
  let places = Places(
    places_of(first_token),
    places_of(first_token + 4u),
    places_of(first_token + 8u),
    places_of(first_token + 12u),
  );
  var s = Sums();
  for (var block = 0u; block < params.blocks; block++) {
    let a = load_block(row, block, params.blocks);
    let b = load_block(row + params.pair_stride, block, params.blocks);
    let k4 = block * 8u;
    s = advance(s, gained(a.scale * a.w0 + a.low, k4), gained(b.scale * b.w0 + b.low, k4), places, k4);
    s = advance(s, gained(a.scale * a.w1 + a.low, k4 + 1u), gained(b.scale * b.w1 + b.low, k4 + 1u), places, k4 + 1u);
    s = advance(s, gained(a.scale * a.w2 + a.low, k4 + 2u), gained(b.scale * b.w2 + b.low, k4 + 2u), places, k4 + 2u);
    s = advance(s, gained(a.scale * a.w3 + a.low, k4 + 3u), gained(b.scale * b.w3 + b.low, k4 + 3u), places, k4 + 3u);
    s = advance(s, gained(a.scale * a.w4 + a.low, k4 + 4u), gained(b.scale * b.w4 + b.low, k4 + 4u), places, k4 + 4u);
    s = advance(s, gained(a.scale * a.w5 + a.low, k4 + 5u), gained(b.scale * b.w5 + b.low, k4 + 5u), places, k4 + 5u);
    s = advance(s, gained(a.scale * a.w6 + a.low, k4 + 6u), gained(b.scale * b.w6 + b.low, k4 + 6u), places, k4 + 6u);
    s = advance(s, gained(a.scale * a.w7 + a.low, k4 + 7u), gained(b.scale * b.w7 + b.low, k4 + 7u), places, k4 + 7u);
  }
  if (pair >= params.pairs) {
    return;
  }
#ifdef NORM
  s.a0 *= factors[0];
  s.b0 *= factors[0];
  s.a1 *= factors[1];
  s.b1 *= factors[1];
  s.a2 *= factors[2];
  s.b2 *= factors[2];
  s.a3 *= factors[3];
  s.b3 *= factors[3];
#endif
  store_four(row, first_token, s.a0, s.b0);
  store_four(row, first_token + 4u, s.a1, s.b1);
  store_four(row, first_token + 8u, s.a2, s.b2);
  store_four(row, first_token + 12u, s.a3, s.b3);
}
