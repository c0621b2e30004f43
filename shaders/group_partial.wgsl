// Statistics of a group normalization, first pass: count, mean and sum of squared differences of one
// slice of one group, in one tile of the picture. Slices are merged by Chan, Golub and LeVeque's formula (1983), since
// a plain sum of squares would cancel.

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
#ifdef HALF
@group(0) @binding(1) var<storage, read> input: array<u32>;

fn value_at(i: u32) -> f32 {
  let pair = unpack2x16float(input[i / 2u]);
  return select(pair.x, pair.y, i % 2u == 1u);
}
#else
@group(0) @binding(1) var<storage, read> input: array<f32>;

fn value_at(i: u32) -> f32 {
  return input[i];
}
#endif
@group(0) @binding(2) var<storage, read_write> slices_of: array<vec4<f32>>; // (groups, tiles, slices)

// The part of the input that is measured, on a coarse grid. It changes from tile to tile.
struct Window {
  top: u32,
  bottom: u32,
  left: u32,
  right: u32,
  rows: u32,
  columns: u32,
  tile: u32,
  pad: u32,
}

@group(0) @binding(3) var<uniform> window: Window;

#import shared/moments.wgsl

var<workgroup> shares: array<vec3<f32>, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let slice = group.x;
  let down = params.height / window.rows;
  let across = params.width / window.columns;
  let top = window.top * down;
  let left = window.left * across;
  let rows = window.bottom * down - top;
  let columns = window.right * across - left;
  let total = rows * columns * params.group_channels;
  let size = (total + params.slices - 1u) / params.slices;
  let end = min(total, (slice + 1u) * size);
  var moments = vec3<f32>();
  for (var i = slice * size + index; i < end; i += 64u) {
    let measured = i / params.group_channels;
    let pixel = (top + measured / columns) * params.width + left + measured % columns;
    let channel = group.y * params.group_channels + i % params.group_channels;
    let value = value_at(pixel * params.channels + channel);
    let count = moments.x + 1.0;
    let difference = value - moments.y;
    let mean = moments.y + difference / count;
    moments = vec3<f32>(count, mean, moments.z + difference * (value - mean));
  }
  shares[index] = moments;
  workgroupBarrier();
  for (var half = 32u; half > 0u; half /= 2u) {
    if (index < half) {
      shares[index] = merged(shares[index], shares[index + half]);
    }
    workgroupBarrier();
  }
  if (index == 0u) {
    slices_of[(group.y * params.tiles + window.tile) * params.slices + slice] = vec4<f32>(shares[0], 0.0);
  }
}
