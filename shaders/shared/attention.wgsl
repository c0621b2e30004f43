// Shared by attention_decode, attention_prefill and kv_store.
// HEAD_VEC4 and GROUP (query heads per KV head) are constants put in by the host.
#import shared/step.wgsl

struct Params {
  qkv_stride: u32, // vec4s from one token's Q, K and V to the next
  out_stride: u32, // floats from one token's output to the next
  kv_heads: u32,
  capacity: u32,   // positions in the cache, a multiple of 32
  splits: u32,     // decode: most workgroups of a token and KV head
  scale: f32,      // 1 / sqrt(head size)
  pad0: u32,
  pad1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// (token, Q then K then V); K and V are in the cache when attention reads them.
@group(0) @binding(2) var<storage, read> qkv: array<vec4<f32>>;

#import shared/kv.wgsl

const LOWEST: f32 = -3.0e38; // a score no real one reaches; infinity would make NaN of inf - inf
