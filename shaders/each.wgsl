// out = f(a, b), element by element. A thread takes an element.
//
// ONE: of one token, however many the batch before had.
// SUM: a + b. GATED: act(first half of a) · second half. Otherwise act(a) · factor.
#import shared/step.wgsl
#import shared/act.wgsl

struct Params {
  cols: u32,       // elements of a row of the output
  a_stride: u32,   // floats from one token to the next
  b_stride: u32,
  out_stride: u32,
  factor: f32,
  cap: f32,        // of the activation
  pad0: u32,
  pad1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> a: array<f32>;
#ifdef SUM
@group(0) @binding(3) var<storage, read> b: array<f32>;
#endif
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let token = id.x / params.cols;
  let i = id.x % params.cols;
#ifdef ONE
  let tokens = 1u;
#else
  let tokens = step.count;
#endif
  if (token >= tokens) {
    return;
  }
  let value = a[token * params.a_stride + i];
#ifdef SUM
  let result = value + b[token * params.b_stride + i];
#else
#ifdef GATED
  let result = act(value, params.cap) * a[token * params.a_stride + params.cols + i];
#else
  let result = act(value, params.cap) * params.factor;
#endif
#endif
  out[token * params.out_stride + i] = result;
}
