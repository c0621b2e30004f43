// x in whole numbers of 16 bits, one scale a block of 32, for dot4I8Packed: as exact as the CPU's path, and four
// products an instruction. A number is 256 high + low, both signed bytes: 127 · 256 is the largest.
struct Whole {
  high0: vec4<u32>, // elements 0 to 15, four bytes a word
  high1: vec4<u32>, // elements 16 to 31
  low0: vec4<u32>,
  low1: vec4<u32>,
  scale: f32,
  sum: f32,         // of the rounded x
}

const LARGEST: f32 = 32512.0; // 127 · 256

var<workgroup> whole: array<Whole, INPUT_VEC4 / 8>;

fn largest(v: vec4<f32>) -> f32 {
  let a = max(abs(v.xy), abs(v.zw));
  return max(a.x, a.y);
}

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

// Rounds one block of the input in workgroup memory.
fn whole_block(block: u32) -> Whole {
  let k4 = block * 8u;
  let x0 = input_at(k4, 0u);
  let x1 = input_at(k4 + 1u, 0u);
  let x2 = input_at(k4 + 2u, 0u);
  let x3 = input_at(k4 + 3u, 0u);
  let x4 = input_at(k4 + 4u, 0u);
  let x5 = input_at(k4 + 5u, 0u);
  let x6 = input_at(k4 + 6u, 0u);
  let x7 = input_at(k4 + 7u, 0u);
  let top = max(
    max(max(largest(x0), largest(x1)), max(largest(x2), largest(x3))),
    max(max(largest(x4), largest(x5)), max(largest(x6), largest(x7))),
  );
  // A block of zeros, or of numbers so small that the quotient would not be finite.
  let factor = select(0.0, LARGEST / top, top > 1e-30);
  let i0 = vec4<i32>(round(x0 * factor));
  let i1 = vec4<i32>(round(x1 * factor));
  let i2 = vec4<i32>(round(x2 * factor));
  let i3 = vec4<i32>(round(x3 * factor));
  let i4 = vec4<i32>(round(x4 * factor));
  let i5 = vec4<i32>(round(x5 * factor));
  let i6 = vec4<i32>(round(x6 * factor));
  let i7 = vec4<i32>(round(x7 * factor));
  let s0 = split(i0);
  let s1 = split(i1);
  let s2 = split(i2);
  let s3 = split(i3);
  let s4 = split(i4);
  let s5 = split(i5);
  let s6 = split(i6);
  let s7 = split(i7);
  let t = ((i0 + i1) + (i2 + i3)) + ((i4 + i5) + (i6 + i7));
  let scale = top / LARGEST;
  return Whole(
    vec4<u32>(s0.x, s1.x, s2.x, s3.x),
    vec4<u32>(s4.x, s5.x, s6.x, s7.x),
    vec4<u32>(s0.y, s1.y, s2.y, s3.y),
    vec4<u32>(s4.y, s5.y, s6.y, s7.y),
    scale,
    scale * f32((t.x + t.y) + (t.z + t.w)),
  );
}

fn dot16(w: vec4<u32>, x: vec4<u32>) -> i32 {
  return (dot4I8Packed(w.x, x.x) + dot4I8Packed(w.y, x.y)) + (dot4I8Packed(w.z, x.z) + dot4I8Packed(w.w, x.w));
}

// Exact: 32 · 128 · 32512 fits 31 bits.
fn whole_dot(q0: vec4<u32>, q1: vec4<u32>, in: Whole) -> f32 {
  let high = dot16(q0, in.high0) + dot16(q1, in.high1);
  let low = dot16(q0, in.low0) + dot16(q1, in.low1);
  return f32((high << 8u) + low);
}
