// Four nibbles a word as four bytes; shift by 4 first for the high ones.
fn low_nibbles(words: vec4<u32>) -> vec4<u32> {
  return words & vec4<u32>(0x0f0f0f0fu);
}

// Bits 0..3 of `high` to bit 4 of the four bytes: the multiplication puts bit i at 8 i, none carries.
fn fifth_bits(high: u32) -> u32 {
  return (((high & 15u) * 0x00204081u) & 0x01010101u) << 4u;
}
fn fifth_bits_of_words(high: u32) -> vec4<u32> {
  return vec4<u32>(fifth_bits(high), fifth_bits(high >> 4u), fifth_bits(high >> 8u), fifth_bits(high >> 12u));
}
