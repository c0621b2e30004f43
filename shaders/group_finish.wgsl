// Statistics of a group normalization, second pass: the slices of all tiles are merged, and each channel gets
// scale = gain / deviation and shift = bias - mean * scale. One thread a channel.

struct Params {
  height: u32,
  width: u32,
  channels: u32,      // floats of a pixel, padding included
  group_channels: u32,
  slices: u32,        // of a tile
  groups: u32,
  eps: f32,
  tiles: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> slices_of: array<vec4<f32>>;  // (groups, tiles, slices)
@group(0) @binding(2) var<storage, read> affine: array<f32>;         // gains, then biases, padded
@group(0) @binding(3) var<storage, read_write> norm: array<f32>;     // scales, then shifts, padded

#import shared/moments.wgsl

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let channel = id.x;
  if (channel >= params.groups * params.group_channels) {
    return;
  }
  let group = channel / params.group_channels;
  var moments = vec3<f32>();
  let count = params.tiles * params.slices;
  for (var i = 0u; i < count; i++) {
    moments = merged(moments, slices_of[group * count + i].xyz);
  }
  let scale = affine[channel] / sqrt(moments.z / moments.x + params.eps);
  norm[channel] = scale;
  norm[params.channels + channel] = affine[params.channels + channel] - moments.y * scale;
}
