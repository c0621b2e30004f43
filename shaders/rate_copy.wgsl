// A copy, to measure memory bandwidth: each byte is read once and written once. Neighbouring threads take
// neighbouring vec4s; a workgroup of 256 takes 1024 of them.

@group(0) @binding(0) var<storage, read> input: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<u32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first = (group.y * groups.x + group.x) * 1024u + local;
  for (var i = 0u; i < 4u; i++) {
    let at = first + i * 256u;
    if (at < arrayLength(&input)) {
      out[at] = input[at];
    }
  }
}
