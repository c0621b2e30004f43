// Shared by attention_decode and attention_prefill. Cache layout: (kv head, position, HEAD_VEC4).
// HEAD_DIM, HEAD_VEC4 and GROUP (query heads per kv head) are constants put in by the host.
#import shared/step.wgsl

struct Params {
  q_stride: u32,   // vec4s from one token's Q to the next
  out_stride: u32, // vec4s from one token's output to the next
  kv_heads: u32,
  capacity: u32,   // positions in the cache
  splits: u32,     // decode: workgroups a kv head
  scale: f32,      // 1 / sqrt(head_dim)
  pad0: u32,
  pad1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> k_cache: array<vec4<f32>>;

const LOWEST: f32 = -3.0e38; // a score no real one reaches; infinity would make NaN of inf - inf
