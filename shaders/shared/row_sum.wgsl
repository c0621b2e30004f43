// The sum of a number of each thread of a workgroup, for all of them. Called by all at once.
const WORKGROUP: u32 = 64u;
var<workgroup> shares: array<f32, WORKGROUP>;

fn row_sum(mine: f32, local: u32) -> f32 {
  // What an earlier call left has been read.
  workgroupBarrier();
  shares[local] = mine;
  workgroupBarrier();
  if (local < 8u) {
    var sum = 0.0;
    for (var i = 0u; i < 8u; i++) {
      sum += shares[local * 8u + i];
    }
    // Only this thread reads its eight.
    shares[local * 8u] = sum;
  }
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < 8u; i++) {
    sum += shares[i * 8u];
  }
  return sum;
}
