// Causal attention of many tokens over the cache, which holds their own K and V already: flash attention. The softmax is
// online, so no matrix of scores is in memory. Tiles that no row of the workgroup may see are skipped: those behind its last
// token and, with WINDOW, those before its first token's window. Tiles begin at fixed positions, so that a row's result does
// not depend on its neighbours.
//
// A row is a (token, query head) of one KV head, numbered token by token. A workgroup takes BLOCKS blocks of four rows, and
// HEAD_VEC4 threads share a block. A tile is 4 · HEAD_VEC4 positions, as many as a head has elements. A thread first
// computes the scores of its four rows with four positions of the tile, then adds the tile's p · V to one vec4 of the
// four outputs: both are 4 × 4 numbers in registers for each load of four vec4s.
//
// K and V are read from the cache, not staged: a subgroup reads neighbouring cells at once, and each serves four rows.
#import shared/attention.wgsl
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

const THREADS: u32 = BLOCKS * HEAD_VEC4;
const TILE: u32 = 4u * HEAD_VEC4;

// The components of all of these are the four rows of a block.
var<workgroup> q_tile: array<vec4<f32>, BLOCKS * TILE>;  // (block, element of the head), scaled
var<workgroup> weights: array<vec4<f32>, BLOCKS * TILE>; // (block, position of the tile): exp(score - maximum)
var<workgroup> shares: array<vec4<f32>, THREADS>;        // of each thread: the maximum of its scores; at the end its sum

// Multiplies and adds one after the other, so that each pair can be one instruction.
fn add_products(sum: vec4<f32>, by: vec4<f32>, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> vec4<f32> {
  return (((sum + by.x * a) + by.y * b) + by.z * c) + by.w * d;
}

// Which rows see a position: from `since` to before `end`.
fn sees(pos: u32, since: vec4<u32>, end: vec4<u32>) -> vec4<bool> {
  return (vec4<u32>(pos) >= since) & (vec4<u32>(pos) < end);
}

// A vec4 of V.
fn load_v(kv_head: u32, pos: u32, lane: u32) -> vec4<f32> {
  return load_cell(v_at(kv_head, pos) + lane) * load_scale(v_scale_at(kv_head, pos) + lane / BLOCK_VEC4);
}

// The projection reads whole blocks of 32: behind the last head of a token there are zeros.
fn fill_up(token: u32, head: u32, lane: u32) {
  let heads = params.kv_heads * GROUP;
  if (head + 1u == heads) {
    for (var i = heads * HEAD_VEC4 + lane; i < params.out_stride / 4u; i += HEAD_VEC4) {
      out[token * (params.out_stride / 4u) + i] = vec4<f32>();
    }
  }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let kv_head = group.x;
  let block = local / HEAD_VEC4;
  let lane = local % HEAD_VEC4;
  let of_block = block * TILE;
  let rows = step.count * GROUP;
  let first = (group.y * BLOCKS + block) * 4u;
  // Rows beyond the last are computed as the last is, and not stored.
  let row = min(vec4<u32>(first, first + 1u, first + 2u, first + 3u), vec4<u32>(rows - 1u));
  let token = row / vec4<u32>(GROUP);
  let head = row % vec4<u32>(GROUP) + kv_head * GROUP;
  let seen = token + (step.pos + 1u); // positions that a row may see
  let since = first_seen(seen);
  let lowest = first_seen(vec4<u32>(step.pos + group.y * BLOCKS * 4u / GROUP + 1u)).x;
  let end = step.pos + (min((group.y + 1u) * BLOCKS * 4u, rows) - 1u) / GROUP + 1u;

  let q_at = token * params.qkv_stride + head * HEAD_VEC4 + lane;
  let q = transpose(mat4x4<f32>(qkv[q_at.x], qkv[q_at.y], qkv[q_at.z], qkv[q_at.w]));
  q_tile[of_block + lane * 4u] = q[0] * params.scale;
  q_tile[of_block + lane * 4u + 1u] = q[1] * params.scale;
  q_tile[of_block + lane * 4u + 2u] = q[2] * params.scale;
  q_tile[of_block + lane * 4u + 3u] = q[3] * params.scale;
  workgroupBarrier();

  var top = vec4<f32>(NONE_YET);
  var total = vec4<f32>(); // this thread's share of the sum of exponentials
  var out0 = vec4<f32>();  // of row 0 of the block, not normalized
  var out1 = vec4<f32>();
  var out2 = vec4<f32>();
  var out3 = vec4<f32>();

  for (var tile = lowest - lowest % TILE; tile < end; tile += TILE) {
    let at = vec4<u32>(0u, HEAD_VEC4, 2u * HEAD_VEC4, 3u * HEAD_VEC4) + (tile + lane);
    // Nothing may be read that no row sees; the score of the next position stands in, and is masked.
    let held = clamp(at, vec4<u32>(lowest), vec4<u32>(end - 1u));
    let scales_at = vec4<u32>(k_scale_at(kv_head, held.x), k_scale_at(kv_head, held.y), k_scale_at(kv_head, held.z), k_scale_at(kv_head, held.w));
    var cells = vec4<u32>(k_at(kv_head, held.x), k_at(kv_head, held.y), k_at(kv_head, held.z), k_at(kv_head, held.w));
    var score0 = vec4<f32>();
    var score1 = vec4<f32>();
    var score2 = vec4<f32>();
    var score3 = vec4<f32>();
    for (var part = 0u; part < HEAD_BLOCKS; part++) {
      let scale_at = scales_at + part * KV_PANEL;
      let scales = vec4<f32>(load_scale(scale_at.x), load_scale(scale_at.y), load_scale(scale_at.z), load_scale(scale_at.w));
      var sum0 = vec4<f32>();
      var sum1 = vec4<f32>();
      var sum2 = vec4<f32>();
      var sum3 = vec4<f32>();
      for (var d = part * BLOCK_VEC4; d < min((part + 1u) * BLOCK_VEC4, HEAD_VEC4); d++) {
        let k0 = load_cell(cells.x);
        let k1 = load_cell(cells.y);
        let k2 = load_cell(cells.z);
        let k3 = load_cell(cells.w);
        let qx = q_tile[of_block + 4u * d];
        let qy = q_tile[of_block + 4u * d + 1u];
        let qz = q_tile[of_block + 4u * d + 2u];
        let qw = q_tile[of_block + 4u * d + 3u];
        sum0 = add_products(sum0, k0, qx, qy, qz, qw);
        sum1 = add_products(sum1, k1, qx, qy, qz, qw);
        sum2 = add_products(sum2, k2, qx, qy, qz, qw);
        sum3 = add_products(sum3, k3, qx, qy, qz, qw);
        cells += KV_PANEL;
      }
      score0 += sum0 * scales.x;
      score1 += sum1 * scales.y;
      score2 += sum2 * scales.z;
      score3 += sum3 * scales.w;
    }
    score0 = select(vec4<f32>(LOWEST), capped(score0), sees(at.x, since, seen));
    score1 = select(vec4<f32>(LOWEST), capped(score1), sees(at.y, since, seen));
    score2 = select(vec4<f32>(LOWEST), capped(score2), sees(at.z, since, seen));
    score3 = select(vec4<f32>(LOWEST), capped(score3), sees(at.w, since, seen));

    shares[local] = max(max(score0, score1), max(score2, score3));
    workgroupBarrier();
    var higher = top;
    for (var i = 0u; i < HEAD_VEC4; i++) {
      higher = max(higher, shares[block * HEAD_VEC4 + i]);
    }
    let shrink = exp(top - higher);
    top = higher;
    // Masked positions: LOWEST - top underflows to 0, also before a row has seen its first position.
    let p0 = exp(score0 - top);
    let p1 = exp(score1 - top);
    let p2 = exp(score2 - top);
    let p3 = exp(score3 - top);
    total = total * shrink + ((p0 + p1) + (p2 + p3));
    weights[of_block + lane] = p0;
    weights[of_block + HEAD_VEC4 + lane] = p1;
    weights[of_block + 2u * HEAD_VEC4 + lane] = p2;
    weights[of_block + 3u * HEAD_VEC4 + lane] = p3;
    workgroupBarrier();

    out0 *= shrink.x;
    out1 *= shrink.y;
    out2 *= shrink.z;
    out3 *= shrink.w;
    let count = min(TILE, end - tile);
    for (var j = 0u; j < count; j += 4u) {
      // Where no row sees anything the weights are zero; V there may be anything, so the next one's is taken.
      let position = clamp(vec4<u32>(0u, 1u, 2u, 3u) + (tile + j), vec4<u32>(lowest), vec4<u32>(end - 1u));
      let v0 = load_v(kv_head, position.x, lane);
      let v1 = load_v(kv_head, position.y, lane);
      let v2 = load_v(kv_head, position.z, lane);
      let v3 = load_v(kv_head, position.w, lane);
      let of_j = of_block + j;
      let p = transpose(mat4x4<f32>(weights[of_j], weights[of_j + 1u], weights[of_j + 2u], weights[of_j + 3u]));
      out0 = add_products(out0, p[0], v0, v1, v2, v3);
      out1 = add_products(out1, p[1], v0, v1, v2, v3);
      out2 = add_products(out2, p[2], v0, v1, v2, v3);
      out3 = add_products(out3, p[3], v0, v1, v2, v3);
    }
  }

  // After the last tile's second barrier no thread reads the maxima any more.
  shares[local] = total;
  workgroupBarrier();
  var whole = vec4<f32>();
  for (var i = 0u; i < HEAD_VEC4; i++) {
    whole += shares[block * HEAD_VEC4 + i];
  }
  let to = token * (params.out_stride / 4u) + head * HEAD_VEC4 + lane;
  if (first < rows) { out[to.x] = out0 / whole.x; }
  if (first + 1u < rows) { out[to.y] = out1 / whole.y; }
  if (first + 2u < rows) { out[to.z] = out2 / whole.z; }
  if (first + 3u < rows) { out[to.w] = out3 / whole.w; }
  if (first < rows) { fill_up(token.x, head.x, lane); }
  if (first + 1u < rows) { fill_up(token.y, head.y, lane); }
  if (first + 2u < rows) { fill_up(token.z, head.z, lane); }
  if (first + 3u < rows) { fill_up(token.w, head.w, lane); }
}
