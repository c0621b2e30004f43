// K and V of many tokens into the cache. A thread converts a block of 32 elements.
#import shared/attention.wgsl

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let blocks = 2u * params.kv_heads * HEAD_BLOCKS;
  let token = id.x / blocks;
  if (token >= step.count) {
    return;
  }
  let kv_head = id.x % blocks / (2u * HEAD_BLOCKS);
  store_block(token, kv_head, id.x % (2u * HEAD_BLOCKS));
}
