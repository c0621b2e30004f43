// A picture to bytes, red lowest: 255 (value * scale + shift), clamped; or, with JOINED, the sums that blend.wgsl left.
// Rows of the output begin at whole multiples of 256 bytes, as a copy to a texture wants them. One thread a pixel.
#import shared/picture.wgsl

struct Params {
  width: u32,
  pixels: u32,
  vectors: u32,   // fours of an input pixel
  out_width: u32, // words of an output row
  row: u32,       // threads of a row of workgroups
  scale: f32,
  shift: f32,
  pad: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
#ifdef JOINED
@group(0) @binding(1) var<storage, read> sums: array<vec2<u32>>;

fn colour(pixel: u32) -> vec3<f32> {
  return vec3<f32>(unpack2x16unorm(sums[pixel].x), unpack2x16unorm(sums[pixel].y).x);
}
#else
@group(0) @binding(1) var<storage, read> input: array<Four>;

fn colour(pixel: u32) -> vec3<f32> {
  return unpacked(input[pixel * params.vectors]).xyz * params.scale + params.shift;
}
#endif
@group(0) @binding(2) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let pixel = id.y * params.row + id.x;
  if (pixel >= params.pixels) {
    return;
  }
  let at = pixel / params.width * params.out_width + pixel % params.width;
  out[at] = pack4x8unorm(vec4<f32>(colour(pixel), 1.0));
}
