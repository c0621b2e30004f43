// Decode: y = epilogue(W · norm(x)) for one token.
//
// A workgroup of 64 computes PAIRS · 64 / LANES row pairs. Neighbouring threads take neighbouring pairs, whose weights
// lie side by side; LANES threads share a pair and take its blocks in turn, and each takes PAIRS pairs, for which it
// reads x once. Each weight is read once. Partial dot products meet in workgroup memory.
//
// STAGED: x, times the norm's gain, is brought into workgroup memory first, for all of the workgroup's pairs; with
// MERGE that is where the merged attention output is. Without, x is too long, and each thread reads it.
#import shared/weights.wgsl
#import shared/project.wgsl

const WORKGROUP: u32 = 64u;
const PER: u32 = WORKGROUP / LANES; // threads side by side

#ifdef LANES_1
#else
var<workgroup> partial: array<vec4<f32>, WORKGROUP>; // (dots a0, b0, a1, b1)
#endif

#ifdef MERGE
#import shared/merge.wgsl
fn input_at(k4: u32) -> vec4<f32> {
  return merged[k4];
}
#else
#ifdef STAGED
var<workgroup> staged: array<vec4<f32>, INPUT_VEC4>;
fn input_at(k4: u32) -> vec4<f32> {
  return staged[k4];
}
#else
fn input_at(k4: u32) -> vec4<f32> {
  return gained(x[step.row * params.x_stride + k4], k4);
}
#endif
#endif

#ifdef NORM
var<workgroup> squares: array<f32, WORKGROUP>;

// Of all of x, whose norm every thread needs that stores. `mine` is the share of elements local, local + 64, ….
fn sum_of_squares(mine: f32, local: u32) -> f32 {
  squares[local] = mine;
  workgroupBarrier();
  if (local < 8u) {
    var sum = 0.0;
    for (var i = 0u; i < 8u; i++) {
      sum += squares[local * 8u + i];
    }
    // Only this thread reads its eight.
    squares[local * 8u] = sum;
  }
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < 8u; i++) {
    sum += squares[i * 8u];
  }
  return sum;
}
#endif

struct Input {
  x0: vec4<f32>,
  x1: vec4<f32>,
  x2: vec4<f32>,
  x3: vec4<f32>,
  x4: vec4<f32>,
  x5: vec4<f32>,
  x6: vec4<f32>,
  x7: vec4<f32>,
  sum: f32,
}

fn input_block(block: u32) -> Input {
  let k4 = block * 8u;
  let x0 = input_at(k4);
  let x1 = input_at(k4 + 1u);
  let x2 = input_at(k4 + 2u);
  let x3 = input_at(k4 + 3u);
  let x4 = input_at(k4 + 4u);
  let x5 = input_at(k4 + 5u);
  let x6 = input_at(k4 + 6u);
  let x7 = input_at(k4 + 7u);
  let t = ((x0 + x1) + (x2 + x3)) + ((x4 + x5) + (x6 + x7));
  return Input(x0, x1, x2, x3, x4, x5, x6, x7, (t.x + t.y) + (t.z + t.w));
}

fn block_dot(row: u32, block: u32, in: Input) -> f32 {
  let w = load_block(row, block, params.blocks);
  var t = w.w0 * in.x0;
  t += w.w1 * in.x1;
  t += w.w2 * in.x2;
  t += w.w3 * in.x3;
  t += w.w4 * in.x4;
  t += w.w5 * in.x5;
  t += w.w6 * in.x6;
  t += w.w7 * in.x7;
  return w.scale * ((t.x + t.y) + (t.z + t.w)) + w.low * in.sum;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
#ifdef MERGE
  merge_partials(local);
#endif
#ifdef NORM
  var share = 0.0;
  for (var k4 = local; k4 < params.blocks * 8u; k4 += WORKGROUP) {
    let value = x[step.row * params.x_stride + k4];
    share += dot(value, value);
#ifdef STAGED
    staged[k4] = gained(value, k4);
#endif
  }
  let factor = rms_factor(sum_of_squares(share, local));
#else
  let factor = 1.0;
#ifdef STAGED
  for (var k4 = local; k4 < params.blocks * 8u; k4 += WORKGROUP) {
    staged[k4] = x[step.row * params.x_stride + k4];
  }
  workgroupBarrier();
#endif
#endif
  let lane = local / PER;
  let first = (group.y * groups.x + group.x) * PER * PAIRS + local % PER;
  let row0 = pair_row(min(first, params.pairs - 1u));
#ifdef PAIRS_2
  let row1 = pair_row(min(first + PER, params.pairs - 1u));
#endif
  var sums = vec4<f32>();
  for (var block = lane; block < params.blocks; block += LANES) {
    let in = input_block(block);
    sums.x += block_dot(row0, block, in);
    sums.y += block_dot(row0 + params.pair_stride, block, in);
#ifdef PAIRS_2
    sums.z += block_dot(row1, block, in);
    sums.w += block_dot(row1 + params.pair_stride, block, in);
#endif
  }
#ifdef LANES_1
#else
  partial[local] = sums;
  workgroupBarrier();
  if (lane > 0u) {
    return;
  }
  for (var i = 1u; i < LANES; i++) {
    sums += partial[local + i * PER];
  }
#endif
  sums *= factor;
  if (first < params.pairs) {
    store_pair(row0, 0u, sums.x, sums.y);
  }
#ifdef PAIRS_2
  if (first + PER < params.pairs) {
    store_pair(row1, 0u, sums.z, sums.w);
  }
#endif
}
