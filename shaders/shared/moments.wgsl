// Count, mean and sum of squared differences of two sets together: Chan, Golub and LeVeque, "Algorithms
// for computing the sample variance", 1983.
fn merged(a: vec3<f32>, b: vec3<f32>) -> vec3<f32> {
  let count = a.x + b.x;
  if (count == 0.0) {
    return vec3<f32>();
  }
  let difference = b.y - a.y;
  let share = b.x / count;
  return vec3<f32>(count, a.y + difference * share, a.z + b.z + difference * difference * a.x * share);
}
