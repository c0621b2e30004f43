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
  let at = token * params.out_stride + block * 8u;
  out[at + 0u] = params.scale * w.w0;
  out[at + 1u] = params.scale * w.w1;
  out[at + 2u] = params.scale * w.w2;
  out[at + 3u] = params.scale * w.w3;
  out[at + 4u] = params.scale * w.w4;
  out[at + 5u] = params.scale * w.w5;
  out[at + 6u] = params.scale * w.w6;
  out[at + 7u] = params.scale * w.w7;
}
