// First half of sampling: the best logit of every group of neighbouring logits, one group of one row
// a workgroup of 64. With ADJUST, which is for one row only, logit bias and penalties (llama.cpp's formulas, bias first) are
// applied to the logits in place on the way.
#import shared/sampling.wgsl

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> best: array<vec2<u32>>; // (row, group): (rank of the logit, id)
#ifdef ADJUST
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> counts: array<u32>; // occurrences in the penalty window
#endif

var<workgroup> places: array<u32, 64>;
var<workgroup> ids: array<u32, 64>;

#ifdef ADJUST
fn adjusted(row: u32, id: u32) -> f32 {
  // Minus infinity forbids a token, whatever its logit is.
  let forbidden = bitcast<u32>(bias[id]) == (SIGN | INFINITY_BITS);
  var value = select(logits[id] + bias[id], bias[id], forbidden);
  let count = f32(counts[id]);
  if (count > 0.0) {
    value = select(value / params.repetition, value * params.repetition, value <= 0.0);
    value -= count * params.frequency + params.presence;
  }
  logits[id] = value;
  return value;
}
#else
fn adjusted(row: u32, id: u32) -> f32 {
  return logits[row * params.stride + id];
}
#endif

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let end = min((group.x + 1u) * params.group_size, params.vocab);
  var place = 0u;
  var id = NO_ID;
  for (var i = group.x * params.group_size + local; i < end; i += 64u) {
    let candidate = rank(adjusted(group.y, i));
    if (candidate > place) {
      place = candidate;
      id = i;
    }
  }
  places[local] = place;
  ids[local] = id;
  for (var half = 32u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (local < half && beats(places[local + half], ids[local + half], places[local], ids[local])) {
      places[local] = places[local + half];
      ids[local] = ids[local + half];
    }
  }
  if (local == 0u) {
    best[group.y * params.groups + group.x] = vec2<u32>(places[0], ids[0]);
  }
}
