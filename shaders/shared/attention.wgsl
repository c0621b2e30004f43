// Shared by attention_decode, attention_prefill and kv_store.
// HEAD_VEC4 and GROUP (query heads per KV head) are constants put in by the host.
#import shared/step.wgsl

struct Params {
  qkv_stride: u32, // vec4s from one token's Q, K and V to the next
  out_stride: u32, // floats from one token's output to the next
  kv_heads: u32,
  capacity: u32,   // positions that the cache has room for, a multiple of 32
  splits: u32,     // decode: most workgroups of a token and KV head
  scale: f32,      // factor of the scores
  cap: f32,        // CAP: the soft cap of the scaled scores
  window: u32,     // WINDOW: positions that a query sees
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// (token, Q then K then V); K and V are in the cache when attention reads them.
@group(0) @binding(2) var<storage, read> qkv: array<vec4<f32>>;

#import shared/kv.wgsl

const LOWEST: f32 = -3.0e38;   // a score no real one reaches; infinity would make NaN of inf - inf
const NONE_YET: f32 = -1.0e38; // before the first score: exp(LOWEST - NONE_YET) is 0

// First position that a query sees which comes after `length` - 1 others.
#ifdef WINDOW
fn first_seen(length: vec4<u32>) -> vec4<u32> {
  return length - min(length, vec4<u32>(params.window));
}
#else
fn first_seen(length: vec4<u32>) -> vec4<u32> {
  return vec4<u32>();
}
#endif

// cap tanh(score / cap). tanh by exp, of a bounded argument: some drivers overflow in their own.
#ifdef CAP
fn capped(score: vec4<f32>) -> vec4<f32> {
  let e = exp(clamp(score / params.cap, vec4<f32>(-30.0), vec4<f32>(30.0)) * 2.0);
  return params.cap * (1.0 - 2.0 / (e + 1.0));
}
#else
fn capped(score: vec4<f32>) -> vec4<f32> {
  return score;
}
#endif
