// Functions of single values, in front of a convolution and behind it; chosen by BEFORE_… and AFTER_….

fn relu(x: vec4<f32>) -> vec4<f32> {
  return max(x, vec4<f32>());
}

fn silu(x: vec4<f32>) -> vec4<f32> {
  return x / (1.0 + exp(-x));
}

// 3 tanh(x / 3). tanh by exp, of a bounded argument: some drivers overflow in their own.
fn soft_clamp(x: vec4<f32>) -> vec4<f32> {
  let e = exp(clamp(x, vec4<f32>(-60.0), vec4<f32>(60.0)) * (2.0 / 3.0));
  return 3.0 * (1.0 - 2.0 / (e + 1.0));
}

fn before(x: vec4<f32>) -> vec4<f32> {
#ifdef BEFORE_RELU
  return relu(x);
#endif
#ifdef BEFORE_SILU
  return silu(x);
#endif
#ifdef BEFORE_CLAMP
  return soft_clamp(x);
#endif
#ifdef BEFORE_NONE
  return x;
#endif
}

fn after(x: vec4<f32>) -> vec4<f32> {
#ifdef AFTER_RELU
  return relu(x);
#endif
#ifdef AFTER_SILU
  return silu(x);
#endif
#ifdef AFTER_CLAMP
  return soft_clamp(x);
#endif
#ifdef AFTER_NONE
  return x;
#endif
}
