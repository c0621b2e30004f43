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

// Order of candidates: higher logit first, lower id first among equals. NaN never wins.
fn beats(value: f32, id: u32, other_value: f32, other_id: u32) -> bool {
  return value > other_value || (value == other_value && id < other_id);
}

const LOWEST: f32 = -3.4e38;
const NO_ID: u32 = 0xffffffffu;
