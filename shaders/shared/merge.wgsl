// x is what attention_decode left for each token: per (head, split) an unnormalized sum of V (head_dim floats),
// then, after all of those, per (head, split) the pair (maximum, sum of exponentials). x_stride is a token's share; splits
// that the token does not need are not written. Every workgroup merges them to the attention output once, in workgroup memory,
// and fills it up with zeros to whole blocks of 32.
#import shared/splits.wgsl
var<workgroup> merged: array<vec4<f32>, INPUT_VEC4>;

// Four splits at a time, so that their loads are under way together: the numbers of splits are multiples of four.
fn merge_partials(local: u32, token: u32) {
  let base = token * params.x_stride;
  let head_vec4 = params.head_dim / 4u;
  let width = params.width / 4u;
  let stats = base + width * params.splits;
  let splits = splits_of(step.pos + token + 1u);
  for (var i = width + local; i < INPUT_VEC4; i += WORKGROUP) {
    merged[i] = vec4<f32>();
  }
  for (var i = local; i < width; i += WORKGROUP) {
    let first = (i / head_vec4) * params.splits;
    var top = -3.0e38;
    for (var s = 0u; s < splits; s += 4u) {
      let a = x[stats + (first + s) / 2u];
      let b = x[stats + (first + s) / 2u + 1u];
      top = max(top, max(max(a.x, a.z), max(b.x, b.z)));
    }
    var total = 0.0;
    var sum = vec4<f32>();
    for (var s = 0u; s < splits; s += 4u) {
      let a = x[stats + (first + s) / 2u];
      let b = x[stats + (first + s) / 2u + 1u];
      let at = base + (first + s) * head_vec4 + i % head_vec4;
      let x0 = x[at];
      let x1 = x[at + head_vec4];
      let x2 = x[at + 2u * head_vec4];
      let x3 = x[at + 3u * head_vec4];
      let weight = exp(vec4<f32>(a.x, a.z, b.x, b.z) - top);
      total += dot(weight, vec4<f32>(a.y, a.w, b.y, b.w));
      sum += (weight.x * x0 + weight.y * x1) + (weight.z * x2 + weight.w * x3);
    }
    merged[i] = sum / total;
  }
  workgroupBarrier();
}
