// The KV cache of a layer, one buffer of cells of four elements: KV_F16 as f16, two to a word, which asks no feature of
// the device; KV_Q8_0 as bytes, with one f32 scale for 32 elements; f32 without either.
//
// K lies in panels of 32 positions, (KV head, panel, HEAD_VEC4, 32): neighbouring threads, which have neighbouring
// positions, read neighbouring cells. V lies behind it, (KV head, position, HEAD_VEC4), as neighbouring threads have
// neighbouring elements of it. Scales lie behind both, K's and V's in the same order: (KV head, panel, block, 32) and
// (KV head, position, block); the last block of a head may have fewer elements than 32.
//
// With WINDOW the cache is a ring: a position lies where the position `params.capacity` before it did.
#ifdef KV_F16
alias Cell = vec2<u32>;
#else
#ifdef KV_Q8_0
alias Cell = u32;
#else
alias Cell = vec4<f32>;
#endif
#endif

#ifdef STORE
@group(0) @binding(3) var<storage, read_write> cache: array<Cell>;
#else
@group(0) @binding(3) var<storage, read> cache: array<Cell>;
#endif

// NARROW: a type that cannot hold every f32. Whatever stores what it cannot hold, NaN included, sets the word to 1.
#ifdef STORE
#ifdef NARROW
@group(0) @binding(5) var<storage, read_write> overflow: atomic<u32>;
// Bits of the largest magnitude: 65504, or that of f32.
#ifdef KV_F16
const MOST_BITS: u32 = 0x477fe000u;
#else
const MOST_BITS: u32 = 0x7f7fffffu;
#endif
#endif
#endif

const KV_PANEL: u32 = 32u;
const BLOCK_VEC4: u32 = 8u;
const HEAD_BLOCKS: u32 = (HEAD_VEC4 + BLOCK_VEC4 - 1u) / BLOCK_VEC4;

#ifdef WINDOW
fn slot_of(pos: u32) -> u32 {
  return pos % params.capacity;
}
#else
fn slot_of(pos: u32) -> u32 {
  return pos;
}
#endif

// Of K's first element at a position; the next vec4 is KV_PANEL cells further.
fn k_at(kv_head: u32, pos: u32) -> u32 {
  let slot = slot_of(pos);
  return (kv_head * params.capacity + slot - slot % KV_PANEL) * HEAD_VEC4 + slot % KV_PANEL;
}

// Of V's; the next vec4 is the next cell.
fn v_at(kv_head: u32, pos: u32) -> u32 {
  return ((params.kv_heads + kv_head) * params.capacity + slot_of(pos)) * HEAD_VEC4;
}

#ifdef KV_Q8_0
// Of the scale of K's first block at a position; the next block's is KV_PANEL further.
fn k_scale_at(kv_head: u32, pos: u32) -> u32 {
  let slot = slot_of(pos);
  let scales = 2u * params.kv_heads * params.capacity * HEAD_VEC4;
  return scales + (kv_head * params.capacity + slot - slot % KV_PANEL) * HEAD_BLOCKS + slot % KV_PANEL;
}
// Of V's; the next block's is the next.
fn v_scale_at(kv_head: u32, pos: u32) -> u32 {
  let scales = 2u * params.kv_heads * params.capacity * HEAD_VEC4;
  return scales + ((params.kv_heads + kv_head) * params.capacity + slot_of(pos)) * HEAD_BLOCKS;
}
// What the elements of a block are to be multiplied with.
fn load_scale(at: u32) -> f32 {
  return bitcast<f32>(cache[at]);
}
fn load_cell(cell: u32) -> vec4<f32> {
  // Shift each byte to the top, then down again, to extend its sign.
  return vec4<f32>((vec4<i32>(bitcast<i32>(cache[cell])) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}
#else
fn k_scale_at(kv_head: u32, pos: u32) -> u32 {
  return 0u;
}
fn v_scale_at(kv_head: u32, pos: u32) -> u32 {
  return 0u;
}
fn load_scale(at: u32) -> f32 {
  return 1.0;
}
fn load_cell(cell: u32) -> vec4<f32> {
#ifdef KV_F16
  return vec4<f32>(unpack2x16float(cache[cell].x), unpack2x16float(cache[cell].y));
#else
  return cache[cell];
#endif
}
#endif

#ifdef STORE
// Converts a block of up to 32 elements of a token's K (the first HEAD_BLOCKS blocks) or V (those after), and stores it.
fn store_block(token: u32, kv_head: u32, block: u32) {
  let is_k = block < HEAD_BLOCKS;
  let in_head = block % HEAD_BLOCKS;
  let heads = params.kv_heads * GROUP + kv_head;
  let row = select(heads + params.kv_heads, heads, is_k);
  let source = token * params.qkv_stride + row * HEAD_VEC4 + in_head * BLOCK_VEC4;
  let count = min(BLOCK_VEC4, HEAD_VEC4 - in_head * BLOCK_VEC4);
  let pos = step.pos + token;
  let apart = select(1u, KV_PANEL, is_k);
  let to = select(v_at(kv_head, pos), k_at(kv_head, pos), is_k) + in_head * BLOCK_VEC4 * apart;
#ifdef KV_Q8_0
  var sizes = vec4<f32>();
  for (var i = 0u; i < count; i++) {
    sizes = max(sizes, abs(qkv[source + i]));
  }
  let most = max(max(sizes.x, sizes.y), max(sizes.z, sizes.w));
  // The inverse of a smaller number would be infinite.
  let steps = select(0.0, 127.0 / most, most > 1e-30);
  let scale_to = select(v_scale_at(kv_head, pos), k_scale_at(kv_head, pos), is_k) + in_head * apart;
  cache[scale_to] = bitcast<u32>(most / 127.0);
#endif
  for (var i = 0u; i < count; i++) {
    let value = qkv[source + i];
#ifdef NARROW
    // By bits, since NaN is found by no comparison that a compiler may not turn round.
    if (any((bitcast<vec4<u32>>(value) & vec4<u32>(0x7fffffffu)) > vec4<u32>(MOST_BITS))) {
      atomicStore(&overflow, 1u);
    }
#endif
#ifdef KV_Q8_0
    let q = bitcast<vec4<u32>>(vec4<i32>(round(value * steps))) & vec4<u32>(255u);
    cache[to + i * apart] = q.x | (q.y << 8u) | (q.z << 16u) | (q.w << 24u);
#else
#ifdef KV_F16
    // Beyond the range of f16 what pack2x16float gives is not said. The overflow is noted.
    let inside = clamp(value, vec4<f32>(-65504.0), vec4<f32>(65504.0));
    cache[to + i * apart] = vec2<u32>(pack2x16float(inside.xy), pack2x16float(inside.zw));
#else
    cache[to + i * apart] = value;
#endif
#endif
  }
}
#endif
