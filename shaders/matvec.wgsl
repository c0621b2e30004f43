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
#endif

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
#ifdef MERGE
  merge_partials(local);
#endif
  let lane = local % LANES;
  let pair = (group.y * groups.x + group.x) * (WORKGROUP / LANES) + local / LANES;
  let row = pair_row(min(pair, params.pairs - 1u));
  var dots = vec2<f32>();
  var squares = 0.0;
  for (var block = lane; block < params.blocks; block += LANES) {
    let a = load_block(row, block, params.blocks);
    let b = load_block(row + params.pair_stride, block, params.blocks);
    for (var j = 0u; j < 8u; j++) {
      let k4 = block * 8u + j;
#ifdef MERGE
      let value = merged[k4];
#else
      let value = x[step.row * params.x_stride + k4];
#endif
      let input = gained(value, k4);
      dots += vec2<f32>(dot(a[j], input), dot(b[j], input));
      squares += dot(value, value);
    }
  }
  partial[local] = vec4<f32>(dots, squares, 0.0);
  workgroupBarrier();
  if (lane == 0u && pair < params.pairs) {
    var sum = partial[local];
    for (var i = 1u; i < LANES; i++) {
      sum += partial[local + i];
    }
    let factor = rms_factor(sum.z);
    store_pair(row, 0u, sum.x * factor, sum.y * factor);
  }
}
