// A window of a picture. One thread four channels of a pixel.
#import shared/picture.wgsl

struct Params {
  in_width: u32,
  out_width: u32,
  vectors: u32, // fours of a pixel
  count: u32,   // fours of the window
  left: u32,
  top: u32,
  row: u32,     // threads of a row of workgroups
  pad: u32,
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
  let x = params.left + pixel % params.out_width;
  let y = params.top + pixel / params.out_width;
  out[i] = input[(y * params.in_width + x) * params.vectors + i % params.vectors];
}
