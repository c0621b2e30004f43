// Decode: y = epilogue(W · norm(x)) for one token.
//
// A workgroup of 64 computes 64 / LANES row pairs. LANES neighbouring threads share a pair and take
// its blocks in turn, so that neighbouring threads read neighbouring blocks of weights; each weight
// is read once. The partial dot products meet in workgroup memory.
#import shared/weights.wgsl
#import shared/project.wgsl

const WORKGROUP: u32 = 64u;

var<workgroup> partial: array<vec4<f32>, WORKGROUP>; // (dot a, dot b, sum of squares, -)

#ifdef MERGE
#import shared/merge.wgsl
fn input_at(k4: u32) -> vec4<f32> {
  return merged[k4];
}
#else
fn input_at(k4: u32) -> vec4<f32> {
  return x[step.row * params.x_stride + k4];
}
#endif

// Four elements of K: their share of both dot products and of the sum of squares.
fn term(a: vec4<f32>, b: vec4<f32>, k4: u32) -> vec4<f32> {
  let value = input_at(k4);
  let input = gained(value, k4);
#ifdef NORM
  return vec4<f32>(dot(a, input), dot(b, input), dot(value, value), 0.0);
#else
  return vec4<f32>(dot(a, input), dot(b, input), 0.0, 0.0);
#endif
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
#ifdef MERGE
  merge_partials(local);
#endif
  let lane = local % LANES;
  let pair = (group.y * groups.x + group.x) * (WORKGROUP / LANES) + local / LANES;
  let row = pair_row(min(pair, params.pairs - 1u));
  var sums = vec4<f32>();
  for (var block = lane; block < params.blocks; block += LANES) {
    let a = load_block(row, block, params.blocks);
    let b = load_block(row + params.pair_stride, block, params.blocks);
    let k4 = block * 8u;
    sums += term(a.w0, b.w0, k4 + 0u);
    sums += term(a.w1, b.w1, k4 + 1u);
    sums += term(a.w2, b.w2, k4 + 2u);
    sums += term(a.w3, b.w3, k4 + 3u);
    sums += term(a.w4, b.w4, k4 + 4u);
    sums += term(a.w5, b.w5, k4 + 5u);
    sums += term(a.w6, b.w6, k4 + 6u);
    sums += term(a.w7, b.w7, k4 + 7u);
  }
  partial[local] = sums;
  workgroupBarrier();
  if (lane == 0u && pair < params.pairs) {
    for (var i = 1u; i < LANES; i++) {
      sums += partial[local + i];
    }
    let factor = rms_factor(sums.z);
    store_pair(row, 0u, sums.x * factor, sums.y * factor);
  }
}
