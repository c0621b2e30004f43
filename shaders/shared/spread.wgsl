// The lowest four bits, one a byte: the multiplication puts bit i at 8 i, none carries.
fn spread_1(bits: u32) -> u32 {
  return ((bits & 15u) * 0x00204081u) & 0x01010101u;
}

// The lowest four pairs of bits, one a byte.
fn spread_2(bits: u32) -> u32 {
  let low = bits & 255u;
  return (low | (low << 6u) | (low << 12u) | (low << 18u)) & 0x03030303u;
}
