#import shared/codes_fp4.wgsl
#import shared/codebook.wgsl
// NVFP4: 64 weights. quants: two vec4, one a block of 32: eight bytes hold 16 weights, the first eight low. scales: a byte
// for each 16 weights, a float of four bits of exponent and three of fraction.
const ZERO_POINT = 0.0;

// Half of it, since codes are doubled; 0 for the code of NaN.
fn small_float(byte: u32) -> f32 {
  let exponent = (byte >> 3u) & 15u;
  let fraction = byte & 7u;
  let value = select(bitcast<f32>(((exponent + 119u) << 23u) | (fraction << 20u)), f32(fraction) / 1024.0, exponent == 0u);
  return select(value, 0.0, byte == 127u);
}

fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let q = quants[panel_index(row, block / 2u, blocks / 2u, 2u) + (block & 1u) * PANEL];
  let pair = scales[panel_index(row, block / 2u, blocks / 2u, 1u)] >> (16u * (block & 1u));
  let low = meanings(bits_of_bytes(q, 0u, 15u));
  let high = meanings(bits_of_bytes(q, 4u, 15u));
  return Packed(
    vec4<u32>(low.xy, high.xy),
    vec4<u32>(low.zw, high.zw),
    small_float(pair & 255u),
    0.0,
    small_float((pair >> 8u) & 255u),
    0.0,
  );
}
