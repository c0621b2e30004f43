// Q, K and V rows lie one after the other. Q and K pairs are rotated (RoPE); attention puts K and V into the cache.
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
// (position, rope_dim / 2) -> (cos, sin), computed in f64 on the CPU: WGSL leaves the accuracy of
// cos and sin outside [-pi, pi] open.
@group(0) @binding(7) var<storage, read> rope: array<vec2<f32>>;

fn store_pair(part_row: u32, token: u32, a_in: f32, b_in: f32) {
  let row = params.out_base + part_row;
  let other = params.out_base + partner(part_row);
  var a = biased(a_in, part_row);
  var b = biased(b_in, partner(part_row));
  let in_head = row % params.head_dim;
#ifdef HALVES
  let i = in_head;
#else
  let i = in_head / 2u;
#endif
  if (row < params.q_rows + params.kv_rows && i < params.rope_dim / 2u) {
    let cs = rope[(step.pos + token) * (params.rope_dim / 2u) + i];
    let rotated = vec2<f32>(a * cs.x - b * cs.y, a * cs.y + b * cs.x);
    a = rotated.x;
    b = rotated.y;
  }
  out[token * params.out_stride + row] = a;
  out[token * params.out_stride + other] = b;
}
