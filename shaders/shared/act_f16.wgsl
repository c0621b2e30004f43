// x in f16, one scale a block of 32: a GPU that packs f16 makes two products an instruction. A product's factors are at
// most 128 and 2 TOP, eight are summed in f16: far from where f16 ends, 65504.
struct Rounded {
  x0: vec4<f16>, // elements 0, 2, 1, 3: the order of halves()
  x1: vec4<f16>,
  x2: vec4<f16>,
  x3: vec4<f16>,
  x4: vec4<f16>,
  x5: vec4<f16>,
  x6: vec4<f16>,
  x7: vec4<f16>,
  scale: f32,
#ifdef TWO_SCALES
  sums: vec2<f32>, // of the rounded x: elements 0 to 15, 16 to 31
#else
  sum: f32,      // of the rounded x
#endif
}

const TOP: f32 = 8.0;

fn half_of(v: vec4<f32>) -> vec4<f16> {
  return vec4<f16>(v.xzyw);
}

fn rounded_of(
  v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>,
  v4: vec4<f32>, v5: vec4<f32>, v6: vec4<f32>, v7: vec4<f32>,
) -> Rounded {
  let top = largest_of(v0, v1, v2, v3, v4, v5, v6, v7);
  let factor = TOP * to_one(top);
  let x0 = half_of(v0 * factor);
  let x1 = half_of(v1 * factor);
  let x2 = half_of(v2 * factor);
  let x3 = half_of(v3 * factor);
  let x4 = half_of(v4 * factor);
  let x5 = half_of(v5 * factor);
  let x6 = half_of(v6 * factor);
  let x7 = half_of(v7 * factor);
  let a = (vec4<f32>(x0) + vec4<f32>(x1)) + (vec4<f32>(x2) + vec4<f32>(x3));
  let b = (vec4<f32>(x4) + vec4<f32>(x5)) + (vec4<f32>(x6) + vec4<f32>(x7));
  let scale = from_one(top) / TOP;
#ifdef TWO_SCALES
  let sums = scale * vec2<f32>((a.x + a.y) + (a.z + a.w), (b.x + b.y) + (b.z + b.w));
  return Rounded(x0, x1, x2, x3, x4, x5, x6, x7, scale, sums);
#else
  let t = a + b;
  return Rounded(x0, x1, x2, x3, x4, x5, x6, x7, scale, scale * ((t.x + t.y) + (t.z + t.w)));
#endif
}

fn rounded_dot(w: Packed, x: Rounded) -> f32 {
  var t = halves(w.q0.x) * x.x0;
  t = fma(halves(w.q0.y), x.x1, t);
  t = fma(halves(w.q0.z), x.x2, t);
  t = fma(halves(w.q0.w), x.x3, t);
#ifdef TWO_SCALES
  var u = halves(w.q1.x) * x.x4;
  u = fma(halves(w.q1.y), x.x5, u);
  u = fma(halves(w.q1.z), x.x6, u);
  u = fma(halves(w.q1.w), x.x7, u);
  let f = vec4<f32>(t);
  let g = vec4<f32>(u);
  return (w.scale * (x.scale * ((f.x + f.y) + (f.z + f.w))) + (w.low + ZERO_POINT * w.scale) * x.sums.x)
    + (w.scale1 * (x.scale * ((g.x + g.y) + (g.z + g.w))) + (w.low1 + ZERO_POINT * w.scale1) * x.sums.y);
#else
  t = fma(halves(w.q1.x), x.x4, t);
  t = fma(halves(w.q1.y), x.x5, t);
  t = fma(halves(w.q1.z), x.x6, t);
  t = fma(halves(w.q1.w), x.x7, t);
  let f = vec4<f32>(t);
  return w.scale * (x.scale * ((f.x + f.y) + (f.z + f.w))) + (w.low + ZERO_POINT * w.scale) * x.sum;
#endif
}
