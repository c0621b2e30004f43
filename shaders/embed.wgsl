// x[token] = scale * row of the embedding. One thread a block of 32.
#import shared/weights.wgsl
#import shared/step.wgsl

struct Params {
  blocks: u32,    // blocks of 32 in a row
  row_base: u32,  // vocabulary id of this part's row 0
  rows: u32,      // rows in this part
  out_stride: u32, // vec4s from one token to the next
  scale: f32,
  pad0: u32,
  pad1: u32,
  pad2: u32,
}

@group(0) @binding(2) var<uniform> params: Params;
@group(0) @binding(3) var<uniform> step: Step;
@group(0) @binding(4) var<storage, read> tokens: array<u32>;
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let token = id.x / params.blocks;
  let block = id.x % params.blocks;
  if (token >= step.count) {
    return;
  }
  // Ids of another part wrap round to huge numbers and fail the test.
  let row = tokens[token] - params.row_base;
  if (row >= params.rows) {
    return;
  }
  let w = load_block(row, block, params.blocks);
  let scale = params.scale * w.scale;
  let low = params.scale * w.low;
  let high = params.scale * second(w);
  let at = token * params.out_stride + block * 8u;
  out[at + 0u] = scale * w.w0 + low;
  out[at + 1u] = scale * w.w1 + low;
  out[at + 2u] = scale * w.w2 + low;
  out[at + 3u] = scale * w.w3 + low;
  out[at + 4u] = high.x * w.w4 + high.y;
  out[at + 5u] = high.x * w.w5 + high.y;
  out[at + 6u] = high.x * w.w6 + high.y;
  out[at + 7u] = high.x * w.w7 + high.y;
}
