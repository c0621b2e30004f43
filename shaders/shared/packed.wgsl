// Four bytes a word, all at once.

// Unsigned bytes below 64, less `by` below 128: signed bytes.
fn bytes_less(words: vec4<u32>, by: u32) -> vec4<u32> {
  // 128 - by is added, which carries nothing, and a flipped top bit takes 128 away.
  return (words + vec4<u32>((128u - by) * 0x01010101u)) ^ vec4<u32>(0x80808080u);
}

// Bits `shift` and above of each byte.
fn bits_of_bytes(words: vec4<u32>, shift: u32, mask: u32) -> vec4<u32> {
  return (words >> vec4<u32>(shift)) & vec4<u32>(mask * 0x01010101u);
}
