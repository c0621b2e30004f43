// out[token] = gain · norm(x[token]) + bias, or with ADD out[token] += it. A workgroup takes a token.
//
// LAYER: the mean is subtracted and the standard deviation divided by; otherwise the root of the mean square.
// WANTED: x is read from row step.row on.
#import shared/step.wgsl

struct Params {
  width: u32,      // elements of a row
  x_stride: u32,   // floats from one token to the next
  out_stride: u32,
  eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<storage, read> gain: array<f32>;
#ifdef BIAS
@group(0) @binding(5) var<storage, read> bias: array<f32>;
#endif

#import shared/row_sum.wgsl

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let token = group.y;
#ifdef WANTED
  let start = (step.row + token) * params.x_stride;
#else
  let start = token * params.x_stride;
#endif
  let to = token * params.out_stride;
  let count = f32(params.width);
#ifdef LAYER
  var share = 0.0;
  for (var i = local; i < params.width; i += WORKGROUP) {
    share += x[start + i];
  }
  let mean = row_sum(share, local) / count;
#else
  let mean = 0.0;
#endif
  var squares = 0.0;
  for (var i = local; i < params.width; i += WORKGROUP) {
    let value = x[start + i] - mean;
    squares += value * value;
  }
  let factor = inverseSqrt(row_sum(squares, local) / count + params.eps);
  for (var i = local; i < params.width; i += WORKGROUP) {
    var value = (x[start + i] - mean) * factor * gain[i];
#ifdef BIAS
    value += bias[i];
#endif
#ifdef ADD
    out[to + i] += value;
#else
    out[to + i] = value;
#endif
  }
}
