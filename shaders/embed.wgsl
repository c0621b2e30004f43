// out[token] = scale * the token's row of the table. One thread a block of 32.
//
// POSITIONS: out[token] += the row of the token's position.
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
#ifdef POSITIONS
#else
@group(0) @binding(4) var<storage, read> tokens: array<u32>;
#endif
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;

fn put(at: u32, value: vec4<f32>) {
#ifdef POSITIONS
  out[at] += value;
#else
  out[at] = value;
#endif
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let token = id.x / params.blocks;
  let block = id.x % params.blocks;
  if (token >= step.count) {
    return;
  }
  // Ids of another part wrap round to huge numbers and fail the test.
#ifdef POSITIONS
  let row = step.pos + token - params.row_base;
#else
  let row = tokens[token] - params.row_base;
#endif
  if (row >= params.rows) {
    return;
  }
  let w = load_block(row, block, params.blocks);
  let scale = params.scale * w.scale;
  let low = params.scale * w.low;
  let high = params.scale * second(w);
  let at = token * params.out_stride + block * 8u;
  put(at + 0u, scale * w.w0 + low);
  put(at + 1u, scale * w.w1 + low);
  put(at + 2u, scale * w.w2 + low);
  put(at + 3u, scale * w.w3 + low);
  put(at + 4u, high.x * w.w4 + high.y);
  put(at + 5u, high.x * w.w5 + high.y);
  put(at + 6u, high.x * w.w6 + high.y);
  put(at + 7u, high.x * w.w7 + high.y);
}
