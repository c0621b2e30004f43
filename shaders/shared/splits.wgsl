// Over how many workgroups `attention_decode` divides the positions of a token that sees `length` of them: four for each 256
// begun, at most `params.splits`. So a part has no more than 64 positions until there are most. With a sliding window there
// are never more than the window needs, so that `length` may count what lies before it. `gpu/kernels/attention.rs` counts
// the same.
fn splits_of(length: u32) -> u32 {
  return min((length + 255u) / 256u * 4u, params.splits);
}
