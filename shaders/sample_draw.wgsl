// Second half of sampling, one workgroup of 256 for each row of logits: picks the top k candidates in order, cuts them by
// top-p and min-p, applies the temperature and draws one (llama.cpp's order of samplers).
//
// Each round takes the best of all groups' best, then looks for the next best inside that group,
// so the cost is k rounds over `groups` values and one group; the logits are not sorted.
#import shared/sampling.wgsl
#import shared/step.wgsl
#import shared/random.wgsl

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> best: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read_write> tokens: array<u32>; // each row's drawn id
#ifdef ADJUST
@group(0) @binding(5) var<storage, read_write> counts: array<u32>;
@group(0) @binding(6) var<storage, read_write> history: array<u32>; // ring of the last `window` ids
#endif

const WORKGROUP: u32 = 256u;
const MAX_TOP_K: u32 = 128u;

var<workgroup> places: array<u32, WORKGROUP>;
var<workgroup> ids: array<u32, WORKGROUP>;
var<workgroup> top_places: array<u32, MAX_TOP_K>;
var<workgroup> top_ids: array<u32, MAX_TOP_K>;

// Leaves the best candidate of all threads in places[0], ids[0].
fn reduce_best(local: u32, place: u32, id: u32) {
  workgroupBarrier();
  places[local] = place;
  ids[local] = id;
  for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (local < half && beats(places[local + half], ids[local + half], places[local], ids[local])) {
      places[local] = places[local + half];
      ids[local] = ids[local + half];
    }
  }
  workgroupBarrier();
}

// What candidate i weighs at a temperature, the best one 1. Beside infinity nothing else weighs anything.
// Below exp(-200) an f32 is 0.
fn weight(i: u32, temperature: f32) -> f32 {
  if (top_places[i] == top_places[0]) {
    return 1.0;
  }
  if (top_places[0] == INFINITE) {
    return 0.0;
  }
  return exp(max((logit_of(top_places[i]) - logit_of(top_places[0])) / temperature, -200.0));
}

// top-p, min-p, temperature and the draw; one thread, at most 128 candidates.
fn draw(counter: u32) -> u32 {
  var count = 0u;
  var total = 0.0;
  for (var i = 0u; i < params.top_k; i++) {
    if (top_ids[i] == NO_ID) {
      break;
    }
    total += weight(i, 1.0);
    count++;
  }
  var kept = count;
  if (params.top_p < 1.0) {
    var sum = 0.0;
    for (var i = 0u; i < count; i++) {
      sum += weight(i, 1.0);
      if (sum >= params.top_p * total) {
        kept = i + 1u;
        break;
      }
    }
  }
  if (params.min_p > 0.0) {
    for (var i = 1u; i < kept; i++) {
      if (weight(i, 1.0) < params.min_p) {
        kept = i;
        break;
      }
    }
  }
  var weights = 0.0;
  for (var i = 0u; i < kept; i++) {
    weights += weight(i, params.temperature);
  }
  let target_weight = uniform_random(params.seed_low, params.seed_high, counter) * weights;
  var sum = 0.0;
  for (var i = 0u; i < kept; i++) {
    sum += weight(i, params.temperature);
    if (target_weight < sum) {
      return top_ids[i];
    }
  }
  return top_ids[max(kept, 1u) - 1u];
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = group.y;
  let logits_at = row * params.stride;
  let best_at = row * params.groups;
  let greedy = params.top_k == 1u || params.temperature <= 0.0;
  let rounds = select(params.top_k, 1u, greedy);
  for (var round = 0u; round < rounds; round++) {
    var place = 0u;
    var id = NO_ID;
    for (var g = local; g < params.groups; g += WORKGROUP) {
      let candidate = best[best_at + g];
      if (beats(candidate.x, candidate.y, place, id)) {
        place = candidate.x;
        id = candidate.y;
      }
    }
    reduce_best(local, place, id);
    let won_place = places[0];
    let won_id = ids[0];
    if (local == 0u) {
      top_places[round] = won_place;
      top_ids[round] = won_id;
    }
    if (round + 1u < rounds) {
      // The winner's group: its best among those after the winner in the order.
      let won = min(won_id, params.vocab - 1u) / params.group_size;
      let end = min((won + 1u) * params.group_size, params.vocab);
      place = 0u;
      id = NO_ID;
      for (var i = won * params.group_size + local; i < end; i += WORKGROUP) {
        let candidate = rank(logits[logits_at + i]);
        if (beats(won_place, won_id, candidate, i) && candidate > place) {
          place = candidate;
          id = i;
        }
      }
      reduce_best(local, place, id);
      if (local == 0u) {
        best[best_at + won] = vec2<u32>(places[0], ids[0]);
      }
      storageBarrier();
    }
  }
  if (local == 0u) {
    var id = top_ids[0];
    if (!greedy) {
      id = draw(step.counter + row);
    }
    // NO_ID if there is no candidate.
    tokens[row] = id;
#ifdef ADJUST
    if (params.window > 0u) {
      let slot = step.counter % params.window;
      let old = history[slot];
      if (old < params.vocab) {
        counts[old] -= 1u;
      }
      history[slot] = id;
      if (id < params.vocab) {
        counts[id] += 1u;
      }
    }
#endif
  }
}
