// A workgroup's tile of 32 row pairs x 32 tokens, 4 pairs x 4 tokens a thread: pairs and tokens 8 apart. Components of a
// thread's sums are its four tokens.
const TILE_PAIRS: u32 = 32u;
const TILE_TOKENS: u32 = 32u;

// Where the input of a token of the tile begins, in vec4s.
fn place_of(token: u32) -> u32 {
  return min(token, step.count - 1u) * params.x_stride;
}

#ifdef NORM
var<workgroup> square_sums: array<f32, 256>; // (token, eighth of its x)

fn token_factor(token: u32) -> f32 {
  var sum = 0.0;
  for (var k = 0u; k < 8u; k++) {
    sum += square_sums[token * 8u + k];
  }
  return rms_factor(sum);
}

// Of four tokens, once their sums are there.
fn token_factors(token: u32) -> vec4<f32> {
  return vec4<f32>(
    token_factor(token),
    token_factor(token + 8u),
    token_factor(token + 16u),
    token_factor(token + 24u),
  );
}
#else
fn token_factors(token: u32) -> vec4<f32> {
  return vec4<f32>(1.0);
}
#endif

// Four tokens of one row pair.
fn store_four(pair: u32, token: u32, a: vec4<f32>, b: vec4<f32>) {
  if (pair >= params.pairs) {
    return;
  }
  let row = pair_row(pair);
  if (token < step.count) {
    store_pair(row, token, a.x, b.x);
  }
  if (token + 8u < step.count) {
    store_pair(row, token + 8u, a.y, b.y);
  }
  if (token + 16u < step.count) {
    store_pair(row, token + 16u, a.z, b.z);
  }
  if (token + 24u < step.count) {
    store_pair(row, token + 24u, a.w, b.w);
  }
}
