// A rectangle of a picture to bytes, red lowest: 255 (value * scale + shift), clamped. Rows of the output begin at whole
// multiples of 256 bytes, as a copy to a texture wants them. One thread a pixel.
#import shared/picture.wgsl

struct Params {
  width: u32,     // pixels of a row of the rectangle
  pixels: u32,    // of the rectangle
  vectors: u32,   // fours of an input pixel
  row: u32,       // threads of a row of workgroups
  in_width: u32,
  in_first: u32,  // first pixel of the rectangle
  out_width: u32, // words of an output row
  out_first: u32,
  scale: f32,
  shift: f32,
  pad0: u32,
  pad1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<Four>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let pixel = id.y * params.row + id.x;
  if (pixel >= params.pixels) {
    return;
  }
  let x = pixel % params.width;
  let y = pixel / params.width;
  let source = params.in_first + y * params.in_width + x;
  let colour = unpacked(input[source * params.vectors]).xyz * params.scale + params.shift;
  out[params.out_first + y * params.out_width + x] = pack4x8unorm(vec4<f32>(colour, 1.0));
}
