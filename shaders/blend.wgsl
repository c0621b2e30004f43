// Adds a tile to a picture that is put together: sums += weight of its column * weight of its row * colour, where
// colour = tile * scale + shift, clamped. Over all tiles each pixel's weights sum to 1, so the sums stay within 0 to
// 1 and are kept in 16 bits: half the memory, and 256 times finer than the bytes to come. One thread a pixel.
#import shared/picture.wgsl

struct Params {
  width: u32,   // pixels of a tile's row
  pixels: u32,  // of the tile
  vectors: u32, // fours of a tile's pixel
  out_width: u32,
  left: u32,
  top: u32,
  row: u32,     // threads of a row of workgroups
  scale: f32,
  shift: f32,
  pad0: u32,
  pad1: u32,
  pad2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tile: array<Four>;
@group(0) @binding(2) var<storage, read> weights: array<f32>; // of the columns, then of the rows
@group(0) @binding(3) var<storage, read_write> sums: array<vec2<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let i = id.y * params.row + id.x;
  if (i >= params.pixels) {
    return;
  }
  let x = i % params.width;
  let y = i / params.width;
  let colour = unpacked(tile[i * params.vectors]) * params.scale + params.shift;
  let weighted = weights[x] * weights[params.width + y] * clamp(colour.xyz, vec3<f32>(), vec3<f32>(1.0));
  let at = (params.top + y) * params.out_width + params.left + x;
  let sum = vec3<f32>(unpack2x16unorm(sums[at].x), unpack2x16unorm(sums[at].y).x) + weighted;
  sums[at] = vec2<u32>(pack2x16unorm(sum.xy), pack2x16unorm(vec2<f32>(sum.z, 0.0)));
}
