// x is what attention_decode left for each token: per (head, split) an unnormalized sum of V (head_dim floats),
// then, after all of those, per (head, split) the pair (maximum, sum of exponentials). x_stride is a token's share.
// Every workgroup merges them to the attention output once, in workgroup memory.
var<workgroup> merged: array<vec4<f32>, INPUT_VEC4>;

fn merge_partials(local: u32, token: u32) {
  let base = token * params.x_stride;
  let head_vec4 = params.head_dim / 4u;
  let heads = INPUT_VEC4 / head_vec4;
  let stats = base + heads * params.splits * head_vec4;
  for (var i = local; i < INPUT_VEC4; i += WORKGROUP) {
    let first = (i / head_vec4) * params.splits;
    var top = -3.0e38;
    for (var s = 0u; s < params.splits; s++) {
      let pair = x[stats + (first + s) / 2u];
      top = max(top, select(pair.x, pair.z, ((first + s) & 1u) == 1u));
    }
    var total = 0.0;
    var sum = vec4<f32>();
    for (var s = 0u; s < params.splits; s++) {
      let pair = x[stats + (first + s) / 2u];
      let stat = select(pair.xy, pair.zw, ((first + s) & 1u) == 1u);
      let weight = exp(stat.x - top);
      total += weight * stat.y;
      sum += weight * x[base + (first + s) * head_vec4 + i % head_vec4];
    }
    merged[i] = sum / total;
  }
  workgroupBarrier();
}
