// A rectangle of a picture to a place in another. One thread four channels of a pixel.
#import shared/picture.wgsl

struct Params {
  width: u32,     // pixels of a row of the rectangle
  vectors: u32,   // fours of a pixel
  count: u32,     // fours of the rectangle
  row: u32,       // threads of a row of workgroups
  in_width: u32,
  in_first: u32,  // first pixel of the rectangle
  out_width: u32,
  out_first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<Four>;
@group(0) @binding(2) var<storage, read_write> out: array<Four>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let i = id.y * params.row + id.x;
  if (i >= params.count) {
    return;
  }
  let pixel = i / params.vectors;
  let x = pixel % params.width;
  let y = pixel / params.width;
  let four = i % params.vectors;
  let source = params.in_first + y * params.in_width + x;
  let target_pixel = params.out_first + y * params.out_width + x;
  out[target_pixel * params.vectors + four] = input[source * params.vectors + four];
}
