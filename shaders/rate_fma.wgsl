// Fused multiply-adds on registers alone, to measure arithmetic: eight independent chains of vec4 a thread, STEPS long,
// so that no unit waits for its own result.

@group(0) @binding(0) var<storage, read> factors: array<vec4<f32>>; // (a, b) of x = x a + b: not known to the compiler
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let a = factors[0];
  let b = factors[1];
  // Each thread its own numbers: otherwise one could compute them for all.
  let start = vec4<f32>(f32(id.x % 16u));
  var x0 = start;
  var x1 = start + 1.0;
  var x2 = start + 2.0;
  var x3 = start + 3.0;
  var x4 = start + 4.0;
  var x5 = start + 5.0;
  var x6 = start + 6.0;
  var x7 = start + 7.0;
  for (var i = 0u; i < STEPS; i++) {
    x0 = fma(x0, a, b);
    x1 = fma(x1, a, b);
    x2 = fma(x2, a, b);
    x3 = fma(x3, a, b);
    x4 = fma(x4, a, b);
    x5 = fma(x5, a, b);
    x6 = fma(x6, a, b);
    x7 = fma(x7, a, b);
  }
  out[id.x] = ((x0 + x1) + (x2 + x3)) + ((x4 + x5) + (x6 + x7));
}
