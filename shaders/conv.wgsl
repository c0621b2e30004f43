// out = after(W * upsample(before(norm(input))) + bias + residual), pictures (height, width, channels).
//
// A workgroup of 64 computes 8 x 8 pixels of 32 output channels; a thread eight pixels of one row and
// four channels. The input under the tile is brought into workgroup memory eight channels at a time, with
// norm and activation applied on the way, once for all its 9 taps and 32 channels. A weight is read by the
// eight threads of one channel group together and used for eight pixels.
#import shared/activation.wgsl
#import shared/picture.wgsl

struct Params {
  in_width: u32,
  in_height: u32,
  in_vectors: u32,  // vec4s of an input pixel, even
  out_width: u32,
  out_height: u32,
  out_vectors: u32, // vec4s of an output pixel
  border: u32,   // rows and columns of zeros above and left
  tiles_x: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// (out / 4, KERNEL, KERNEL, in, 4)
#ifdef WEIGHTS_F16
@group(0) @binding(1) var<storage, read> weights: array<vec2<u32>>;

fn weight(i: u32) -> vec4<f32> {
  let w = weights[i];
  return vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y));
}
#else
@group(0) @binding(1) var<storage, read> weights: array<vec4<f32>>;

fn weight(i: u32) -> vec4<f32> {
  return weights[i];
}
#endif
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> input: array<Four>;
@group(0) @binding(4) var<storage, read_write> out: array<Four>;
#ifdef RESIDUAL
@group(0) @binding(5) var<storage, read> residual: array<Four>;
#endif
#ifdef NORM
@group(0) @binding(6) var<storage, read> norm: array<vec4<f32>>; // scales, then shifts
#endif
#ifdef HALF
// Set once a value did not fit.
@group(0) @binding(7) var<storage, read_write> overflow: atomic<u32>;
#endif

const TILE: u32 = 8u;
const CHUNK: u32 = 2u; // vec4s of input channels at a time
const SPAN: u32 = (TILE - 1u) * STRIDE + KERNEL;

var<workgroup> cells: array<vec4<f32>, SPAN * SPAN * CHUNK>;

fn load(x: u32, y: u32, vector: u32) -> vec4<f32> {
  // Coordinates left of and above the picture wrap round to huge numbers.
  if (x >= params.in_width * ENLARGE || y >= params.in_height * ENLARGE) {
    return vec4<f32>();
  }
  var value = unpacked(input[((y / ENLARGE) * params.in_width + x / ENLARGE) * params.in_vectors + vector]);
#ifdef NORM
  value = value * norm[vector] + norm[params.in_vectors + vector];
#endif
  return before(value);
}

fn store(x: u32, y: u32, vector: u32, sum: vec4<f32>) {
  if (x >= params.out_width || y >= params.out_height || vector >= params.out_vectors) {
    return;
  }
  let at = (y * params.out_width + x) * params.out_vectors + vector;
  var value = sum;
#ifdef RESIDUAL
  value += unpacked(residual[at]);
#endif
  value = after(value);
#ifdef HALF
  // So written that NaN counts.
  if (!all(abs(value) <= vec4<f32>(LARGEST))) {
    atomicStore(&overflow, 1u);
  }
#endif
  out[at] = packed(value);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let x0 = (group.x % params.tiles_x) * TILE;
  let y0 = (group.x / params.tiles_x) * TILE;
  let vector = group.y * 8u + index % 8u;
  let row = index / 8u;
  let here = min(vector, params.out_vectors - 1u);
  let b = bias[here];
  var s0 = b;
  var s1 = b;
  var s2 = b;
  var s3 = b;
  var s4 = b;
  var s5 = b;
  var s6 = b;
  var s7 = b;
  for (var first = 0u; first < params.in_vectors; first += CHUNK) {
    workgroupBarrier();
    for (var i = index; i < SPAN * SPAN * CHUNK; i += 64u) {
      let pixel = i / CHUNK;
      let x = x0 * STRIDE + pixel % SPAN - params.border;
      let y = y0 * STRIDE + pixel / SPAN - params.border;
      cells[i] = load(x, y, first + i % CHUNK);
    }
    workgroupBarrier();
    for (var ky = 0u; ky < KERNEL; ky++) {
      for (var kx = 0u; kx < KERNEL; kx++) {
        for (var c = 0u; c < CHUNK; c++) {
          let w = (((here * KERNEL + ky) * KERNEL + kx) * params.in_vectors + first + c) * 4u;
          let w0 = weight(w);
          let w1 = weight(w + 1u);
          let w2 = weight(w + 2u);
          let w3 = weight(w + 3u);
          let m = mat4x4<f32>(w0, w1, w2, w3);
          let at = ((row * STRIDE + ky) * SPAN + kx) * CHUNK + c;
          s0 += m * cells[at];
          s1 += m * cells[at + STRIDE * CHUNK];
          s2 += m * cells[at + 2u * STRIDE * CHUNK];
          s3 += m * cells[at + 3u * STRIDE * CHUNK];
          s4 += m * cells[at + 4u * STRIDE * CHUNK];
          s5 += m * cells[at + 5u * STRIDE * CHUNK];
          s6 += m * cells[at + 6u * STRIDE * CHUNK];
          s7 += m * cells[at + 7u * STRIDE * CHUNK];
        }
      }
    }
  }
  let y = y0 + row;
  store(x0, y, vector, s0);
  store(x0 + 1u, y, vector, s1);
  store(x0 + 2u, y, vector, s2);
  store(x0 + 3u, y, vector, s3);
  store(x0 + 4u, y, vector, s4);
  store(x0 + 5u, y, vector, s5);
  store(x0 + 6u, y, vector, s6);
  store(x0 + 7u, y, vector, s7);
}
