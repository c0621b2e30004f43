// Shared by sample_groups and sample_draw.
struct Params {
  vocab: u32,       // logits
  group_size: u32,  // logits in one group
  groups: u32,      // number of groups
  top_k: u32,       // candidates to keep, 1..=MAX_TOP_K; 1 is greedy
  top_p: f32,
  min_p: f32,
  temperature: f32, // 0 is greedy
  seed_low: u32,
  seed_high: u32,
  repetition: f32,  // penalties over the last `window` tokens
  presence: f32,
  frequency: f32,
  window: u32,
  stride: u32,      // logits from one row to the next
  pad0: u32,
  pad1: u32,
}

// The place of a logit in the order of candidates: higher for higher logits, 0 for NaN and minus infinity,
// which are no candidates. In integers, since WGSL lets a compiler assume that no float is NaN or infinite.
fn rank(logit: f32) -> u32 {
  let bits = bitcast<u32>(logit);
  if ((bits & 0x7fffffffu) > INFINITY_BITS || bits == (SIGN | INFINITY_BITS)) {
    return 0u;
  }
  if (bits == SIGN) {
    return SIGN; // -0 is equal to 0
  }
  return select(bits | SIGN, ~bits, (bits & SIGN) != 0u);
}

// The logit of a place other than 0. Not for that of infinity.
fn logit_of(place: u32) -> f32 {
  return bitcast<f32>(select(~place, place & ~SIGN, (place & SIGN) != 0u));
}

// Higher place first, lower id first among equals.
fn beats(place: u32, id: u32, other_place: u32, other_id: u32) -> bool {
  return place > other_place || (place == other_place && id < other_id);
}

const SIGN: u32 = 0x80000000u;
const INFINITY_BITS: u32 = 0x7f800000u;
const INFINITE: u32 = SIGN | INFINITY_BITS; // rank of infinity
const NO_ID: u32 = 0xffffffffu;
