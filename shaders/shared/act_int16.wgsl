// x in whole numbers of 16 bits, one scale a block of 32, for dot4I8Packed: as exact as the CPU's path, and four
// products an instruction. A number is 256 high + low, both signed bytes: 127 · 256 is the largest.
struct Rounded {
  high0: vec4<u32>, // elements 0 to 15, four bytes a word
  high1: vec4<u32>, // elements 16 to 31
  low0: vec4<u32>,
  low1: vec4<u32>,
  scale: f32,
#ifdef TWO_SCALES
  sums: vec2<f32>,  // of the rounded x: elements 0 to 15, 16 to 31
#else
  sum: f32,         // of the rounded x
#endif
}

const TOP: f32 = 32512.0; // 127 · 256

fn bytes_of(v: vec4<i32>) -> u32 {
  let b = bitcast<vec4<u32>>(v) & vec4<u32>(255u);
  return b.x | (b.y << 8u) | (b.z << 16u) | (b.w << 24u);
}

fn high_of(v: vec4<i32>) -> vec4<i32> {
  return (v + vec4<i32>(128)) >> vec4<u32>(8u);
}

// A word of high bytes, a word of low bytes.
fn split(v: vec4<i32>) -> vec2<u32> {
  let high = high_of(v);
  return vec2<u32>(bytes_of(high), bytes_of(v - (high << vec4<u32>(8u))));
}

fn rounded_of(
  v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>,
  v4: vec4<f32>, v5: vec4<f32>, v6: vec4<f32>, v7: vec4<f32>,
) -> Rounded {
  let top = largest_of(v0, v1, v2, v3, v4, v5, v6, v7);
  // A block of zeros, or of numbers so small that the quotient would not be finite.
  let factor = select(0.0, TOP / top, top > 1e-30);
  let i0 = vec4<i32>(round(v0 * factor));
  let i1 = vec4<i32>(round(v1 * factor));
  let i2 = vec4<i32>(round(v2 * factor));
  let i3 = vec4<i32>(round(v3 * factor));
  let i4 = vec4<i32>(round(v4 * factor));
  let i5 = vec4<i32>(round(v5 * factor));
  let i6 = vec4<i32>(round(v6 * factor));
  let i7 = vec4<i32>(round(v7 * factor));
  let s0 = split(i0);
  let s1 = split(i1);
  let s2 = split(i2);
  let s3 = split(i3);
  let s4 = split(i4);
  let s5 = split(i5);
  let s6 = split(i6);
  let s7 = split(i7);
  let scale = top / TOP;
#ifdef TWO_SCALES
  let a = (i0 + i1) + (i2 + i3);
  let b = (i4 + i5) + (i6 + i7);
#else
  let t = ((i0 + i1) + (i2 + i3)) + ((i4 + i5) + (i6 + i7));
#endif
  return Rounded(
    vec4<u32>(s0.x, s1.x, s2.x, s3.x),
    vec4<u32>(s4.x, s5.x, s6.x, s7.x),
    vec4<u32>(s0.y, s1.y, s2.y, s3.y),
    vec4<u32>(s4.y, s5.y, s6.y, s7.y),
    scale,
#ifdef TWO_SCALES
    scale * vec2<f32>(f32((a.x + a.y) + (a.z + a.w)), f32((b.x + b.y) + (b.z + b.w))),
#else
    scale * f32((t.x + t.y) + (t.z + t.w)),
#endif
  );
}

fn dot16(w: vec4<u32>, x: vec4<u32>) -> i32 {
  return (dot4I8Packed(w.x, x.x) + dot4I8Packed(w.y, x.y)) + (dot4I8Packed(w.z, x.z) + dot4I8Packed(w.w, x.w));
}

// The sum is exact: 32 · 128 · 32512 fits 31 bits.
fn rounded_dot(w: Packed, x: Rounded) -> f32 {
#ifdef TWO_SCALES
  let first = (dot16(w.q0, x.high0) << 8u) + dot16(w.q0, x.low0);
  let last = (dot16(w.q1, x.high1) << 8u) + dot16(w.q1, x.low1);
  return (w.scale * (x.scale * f32(first)) + w.low * x.sums.x)
    + (w.scale1 * (x.scale * f32(last)) + w.low1 * x.sums.y);
#else
  let high = dot16(w.q0, x.high0) + dot16(w.q1, x.high1);
  let low = dot16(w.q0, x.low0) + dot16(w.q1, x.low1);
  return w.scale * (x.scale * f32((high << 8u) + low)) + w.low * x.sum;
#endif
}
