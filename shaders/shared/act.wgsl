// The activation of single values; chosen by ACT_…. None leaves them as they are.
fn act(x: f32, cap: f32) -> f32 {
#ifdef ACT_SILU
  return x / (1.0 + exp(-x));
#else
#ifdef ACT_GELU
  // By tanh: x / (1 + e^-2u). The bound keeps e^ within f32.
  let u = 0.7978846 * (x + 0.044715 * x * x * x);
  return x / (1.0 + exp(-2.0 * clamp(u, -40.0, 40.0)));
#else
#ifdef ACT_CAP
  // cap · tanh(x / cap), by exp of a bounded argument: some drivers overflow in their own tanh.
  let e = exp(2.0 * clamp(x / cap, -20.0, 20.0));
  return cap * (1.0 - 2.0 / (e + 1.0));
#else
  return x;
#endif
#endif
#endif
}
