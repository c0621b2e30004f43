// Q, K and V rows lie one after the other. Q and K pairs are rotated (RoPE); Q goes to the output,
// K and V into the cache at this token's position. Cache layout: (kv head, position, head_dim).
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
@group(0) @binding(7) var<storage, read_write> k_cache: array<f32>;
@group(0) @binding(8) var<storage, read_write> v_cache: array<f32>;
// (position, rope_dim / 2) -> (cos, sin), computed in f64 on the CPU: WGSL leaves the accuracy of
// cos and sin outside [-pi, pi] open.
@group(0) @binding(9) var<storage, read> rope: array<vec2<f32>>;

fn cache_at(kv_row: u32, pos: u32) -> u32 {
  let head = kv_row / params.head_dim;
  return (head * params.capacity + pos) * params.head_dim + kv_row % params.head_dim;
}

fn store_pair(part_row: u32, token: u32, a_in: f32, b_in: f32) {
  let row = params.out_base + part_row;
  let pos = step.pos + token;
  var a = a_in;
  var b = b_in;
#ifdef BIAS
  let at_a = params.bias_at + row;
  let at_b = at_a + params.pair_stride;
  a += aux[at_a / 4u][at_a % 4u];
  b += aux[at_b / 4u][at_b % 4u];
#endif
  let kv_end = params.q_rows + params.kv_rows;
  let in_head = row % params.head_dim;
  // Stride 1: pair i is (2i, 2i + 1). Stride rope_dim / 2: pair i is (i, i + rope_dim / 2).
  let i = select(in_head, in_head / 2u, params.pair_stride == 1u);
  if (row < kv_end && i < params.rope_dim / 2u) {
    let cs = rope[pos * (params.rope_dim / 2u) + i];
    let rotated = vec2<f32>(a * cs.x - b * cs.y, a * cs.y + b * cs.x);
    a = rotated.x;
    b = rotated.y;
  }
  if (row < params.q_rows) {
    out[token * params.out_stride + row] = a;
    out[token * params.out_stride + row + params.pair_stride] = b;
  } else if (row < kv_end) {
    let at = cache_at(row - params.q_rows, pos);
    k_cache[at] = a;
    k_cache[at + params.pair_stride] = b;
  } else {
    let at = cache_at(row - kv_end, pos);
    v_cache[at] = a;
    v_cache[at + params.pair_stride] = b;
  }
}
