// A picture of floats to bytes, red lowest: 255 (value * scale + shift), clamped. One thread a pixel.

struct Params {
  pixels: u32,
  vectors: u32, // vec4s of an input pixel
  row: u32,     // pixels of a row of workgroups
  scale: f32,
  shift: f32,
  pad0: u32,
  pad1: u32,
  pad2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let pixel = id.y * params.row + id.x;
  if (pixel >= params.pixels) {
    return;
  }
  let value = input[pixel * params.vectors] * params.scale + params.shift;
  out[pixel] = pack4x8unorm(vec4<f32>(value.xyz, 1.0));
}
