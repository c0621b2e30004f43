// A counter-based generator: hash of (seed, counter), so that a draw depends on nothing but the two.
// PCG3D, Jarzynski and Olano, "Hash Functions for GPU Rendering", JCGT 9(3), 2020.
// src/text/sampler.rs has the same function.
fn uniform_random(seed_low: u32, seed_high: u32, counter: u32) -> f32 {
  var v = vec3<u32>(seed_low, seed_high, counter) * 1664525u + 1013904223u;
  v.x += v.y * v.z;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v = v ^ (v >> vec3<u32>(16u));
  v.x += v.y * v.z;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  return f32(v.z >> 8u) / 16777216.0;
}
