// The largest magnitude of a block, and what it is scaled by.
fn largest(v: vec4<f32>) -> f32 {
  let a = max(abs(v.xy), abs(v.zw));
  return max(a.x, a.y);
}

fn largest_of(
  v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>,
  v4: vec4<f32>, v5: vec4<f32>, v6: vec4<f32>, v7: vec4<f32>,
) -> f32 {
  return max(
    max(max(largest(v0), largest(v1)), max(largest(v2), largest(v3))),
    max(max(largest(v4), largest(v5)), max(largest(v6), largest(v7))),
  );
}

// For f16: powers of two, so that scaling rounds nothing. The one by which `top` comes to [1, 2), or, below 2^-95,
// stays small, and its inverse.
fn to_one(top: f32) -> f32 {
  return bitcast<f32>(0x7f000000u - clamp(bitcast<u32>(top) & 0x7f800000u, 0x10000000u, 0x7e800000u));
}
fn from_one(top: f32) -> f32 {
  return 1.0 / to_one(top);
}
