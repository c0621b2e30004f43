// How pictures lie in memory: four channels as f32; with HALF as f16, two to a word, which asks nothing of the
// device. Arithmetic is f32 either way.

#ifdef HALF
alias Four = vec2<u32>;
const LARGEST: f32 = 65504.0;

fn unpacked(v: Four) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y));
}

// Beyond the range of f16 what pack2x16float gives is not said: the ends stand for what lies beyond them.
fn packed(v: vec4<f32>) -> Four {
  let c = clamp(v, vec4<f32>(-LARGEST), vec4<f32>(LARGEST));
  return vec2<u32>(pack2x16float(c.xy), pack2x16float(c.zw));
}
#else
alias Four = vec4<f32>;

fn unpacked(v: Four) -> vec4<f32> {
  return v;
}

fn packed(v: vec4<f32>) -> Four {
  return v;
}
#endif
