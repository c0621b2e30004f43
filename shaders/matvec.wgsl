// Decode: y = epilogue(W · norm(x)), for one token or a few, each computed as it would be alone.
//
// A workgroup of 64 computes PAIRS · 64 / LANES row pairs of one token. LANES threads share a pair and take its blocks
// in turn; each takes PAIRS pairs, for which it reads x once. Each weight is read once a token; the workgroups of a
// few tokens that share rows follow each other, so that the second finds them in a cache.
//
// STAGED: x, times the norm's gain, is brought into workgroup memory first, for all of the workgroup's pairs; with
// MERGE that is where the merged attention output is. Without, x is too long, and each thread reads it.
// DOT4: x is rounded to whole numbers of 16 bits there, a scale a block, and meets the weights' bytes in dot4I8Packed.
// F16: x is rounded to f16 there, and eight products at a time are summed in f16.
// WANTED: x is read from row step.row on: the row whose logits are wanted.
// SUBGROUPS: the lanes of a pair are neighbours and their sums meet by shuffles; otherwise neighbouring threads take
// neighbouring pairs, whose weights lie side by side, and the sums meet in workgroup memory.
#import shared/weights.wgsl
#import shared/project.wgsl

const WORKGROUP: u32 = 64u;
const PER: u32 = WORKGROUP / LANES; // pairs side by side

#ifdef SUBGROUPS
#else
#ifdef LANES_1
#else
var<workgroup> partial: array<vec4<f32>, WORKGROUP>; // (dots a0, b0, a1, b1)
#endif
#endif

#ifdef MERGE
#import shared/merge.wgsl
fn input_at(k4: u32, token: u32) -> vec4<f32> {
  return merged[k4];
}
#else
#ifdef STAGED
var<workgroup> staged: array<vec4<f32>, INPUT_VEC4>;
fn input_at(k4: u32, token: u32) -> vec4<f32> {
  return staged[k4];
}
#else
fn input_at(k4: u32, token: u32) -> vec4<f32> {
  return scaled_by_gain(x_at(k4, token), k4);
}
#endif
#ifdef WANTED
fn x_at(k4: u32, token: u32) -> vec4<f32> {
  return x[(step.row + token) * params.x_stride + k4];
}
#else
fn x_at(k4: u32, token: u32) -> vec4<f32> {
  return x[token * params.x_stride + k4];
}
#endif
#endif

#ifdef NORM
var<workgroup> squares: array<f32, WORKGROUP>;

// Of all of x, whose norm every thread needs that stores. `mine` is the share of elements local, local + 64, ….
#ifdef SUBGROUPS
fn sum_of_squares(mine: f32, local: u32, lane: u32, size: u32) -> f32 {
  let together = subgroupAdd(mine);
  if (lane == 0u) {
    squares[local / size] = together;
  }
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < WORKGROUP / size; i++) {
    sum += squares[i];
  }
  return sum;
}
#else
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
#endif

#ifdef ROUNDED
#import shared/act_rounded.wgsl

var<workgroup> rounded: array<Rounded, INPUT_VEC4 / 8>;

fn round_block(block: u32) -> Rounded {
  let k4 = block * 8u;
  return rounded_of(
    input_at(k4, 0u), input_at(k4 + 1u, 0u), input_at(k4 + 2u, 0u), input_at(k4 + 3u, 0u),
    input_at(k4 + 4u, 0u), input_at(k4 + 5u, 0u), input_at(k4 + 6u, 0u), input_at(k4 + 7u, 0u),
  );
}

fn input_block(block: u32, token: u32) -> Rounded {
  return rounded[block];
}

fn block_dot(row: u32, block: u32, in: Rounded) -> f32 {
  return rounded_dot(load_packed(row, block, params.blocks), in);
}
#else
struct Input {
  x0: vec4<f32>,
  x1: vec4<f32>,
  x2: vec4<f32>,
  x3: vec4<f32>,
  x4: vec4<f32>,
  x5: vec4<f32>,
  x6: vec4<f32>,
  x7: vec4<f32>,
#ifdef TWO_SCALES
  sums: vec2<f32>, // of elements 0 to 15, of 16 to 31
#else
  sum: f32,
#endif
}

fn input_block(block: u32, token: u32) -> Input {
  let k4 = block * 8u;
  let x0 = input_at(k4, token);
  let x1 = input_at(k4 + 1u, token);
  let x2 = input_at(k4 + 2u, token);
  let x3 = input_at(k4 + 3u, token);
  let x4 = input_at(k4 + 4u, token);
  let x5 = input_at(k4 + 5u, token);
  let x6 = input_at(k4 + 6u, token);
  let x7 = input_at(k4 + 7u, token);
#ifdef TWO_SCALES
  let t = (x0 + x1) + (x2 + x3);
  let u = (x4 + x5) + (x6 + x7);
  return Input(x0, x1, x2, x3, x4, x5, x6, x7, vec2<f32>((t.x + t.y) + (t.z + t.w), (u.x + u.y) + (u.z + u.w)));
#else
  let t = ((x0 + x1) + (x2 + x3)) + ((x4 + x5) + (x6 + x7));
  return Input(x0, x1, x2, x3, x4, x5, x6, x7, (t.x + t.y) + (t.z + t.w));
#endif
}

fn block_dot(row: u32, block: u32, in: Input) -> f32 {
  let w = load_block(row, block, params.blocks);
  var t = w.w0 * in.x0;
  t += w.w1 * in.x1;
  t += w.w2 * in.x2;
  t += w.w3 * in.x3;
#ifdef TWO_SCALES
  var u = w.w4 * in.x4;
  u += w.w5 * in.x5;
  u += w.w6 * in.x6;
  u += w.w7 * in.x7;
  return (w.scale * ((t.x + t.y) + (t.z + t.w)) + w.low * in.sums.x)
    + (w.scale1 * ((u.x + u.y) + (u.z + u.w)) + w.low1 * in.sums.y);
#else
  t += w.w4 * in.x4;
  t += w.w5 * in.x5;
  t += w.w6 * in.x6;
  t += w.w7 * in.x7;
  return w.scale * ((t.x + t.y) + (t.z + t.w)) + w.low * in.sum;
#endif
}
#endif

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
#ifdef SUBGROUPS
  @builtin(subgroup_invocation_id) subgroup_lane: u32,
  @builtin(subgroup_size) subgroup_size: u32,
#endif
) {
  let token = group.x;
#ifdef MERGE
  merge_partials(local, token);
#endif
#ifdef NORM
  var share = 0.0;
  for (var k4 = local; k4 < params.blocks * 8u; k4 += WORKGROUP) {
    let value = x_at(k4, token);
    share += dot(value, value);
#ifdef STAGED
    staged[k4] = scaled_by_gain(value, k4);
#endif
  }
#ifdef SUBGROUPS
  let factor = rms_factor(sum_of_squares(share, local, subgroup_lane, subgroup_size));
#else
  let factor = rms_factor(sum_of_squares(share, local));
#endif
#else
  let factor = 1.0;
#ifdef STAGED
  for (var k4 = local; k4 < params.blocks * 8u; k4 += WORKGROUP) {
    staged[k4] = x_at(k4, token);
  }
  workgroupBarrier();
#endif
#endif
#ifdef ROUNDED
  for (var block = local; block < params.blocks; block += WORKGROUP) {
    rounded[block] = round_block(block);
  }
  workgroupBarrier();
#endif
#ifdef SUBGROUPS
  let lane = local % LANES;
  let column = local / LANES;
#else
  let lane = local / PER;
  let column = local % PER;
#endif
  let first = (group.z * groups.y + group.y) * PER * PAIRS + column;
  let row0 = pair_row(min(first, params.pairs - 1u));
#ifdef PAIRS_2
  let row1 = pair_row(min(first + PER, params.pairs - 1u));
#endif
  var sums = vec4<f32>();
  for (var block = lane; block < params.blocks; block += LANES) {
    let in = input_block(block, token);
    sums.x += block_dot(row0, block, in);
    sums.y += block_dot(partner(row0), block, in);
#ifdef PAIRS_2
    sums.z += block_dot(row1, block, in);
    sums.w += block_dot(partner(row1), block, in);
#endif
  }
#ifdef SUBGROUPS
  for (var apart = LANES / 2u; apart > 0u; apart /= 2u) {
    sums += subgroupShuffleXor(sums, apart);
  }
#else
#ifdef LANES_1
#else
  partial[local] = sums;
  workgroupBarrier();
  for (var i = 1u; i < LANES; i++) {
    sums += partial[column + i * PER];
  }
#endif
#endif
  if (lane > 0u) {
    return;
  }
  sums *= factor;
  if (first < params.pairs) {
    store_pair(row0, token, sums.x, sums.y);
  }
#ifdef PAIRS_2
  if (first + PER < params.pairs) {
    store_pair(row1, token, sums.z, sums.w);
  }
#endif
}
