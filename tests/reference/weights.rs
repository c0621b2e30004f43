//! File blocks: random ones, and their values in f64. Source of the formats: llama.cpp's ggml-quants.c.
//!
//! Written value by value from the definition, apart from `src/formats`; `tests/formats.rs` holds it against llama.cpp.

use crate::common::random::Random;
use emberglass::DType;

/// Where a block has f16 that scale its values, and by how much they are to be.
pub fn f16_scales(dtype: DType) -> &'static [(usize, f32)] {
    match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => &[(0, 0.02)],
        DType::Q4_1 | DType::Q5_1 => &[(0, 0.02), (2, 0.1)],
        DType::Q2_K => &[(80, 0.01), (82, 0.005)],
        DType::Q3_K => &[(108, 0.002)],
        DType::Q4_K | DType::Q5_K => &[(0, 0.001), (2, 0.002)],
        DType::Q6_K => &[(208, 0.0002)],
        DType::IQ4_NL | DType::Q1_0 | DType::Q2_0 => &[(0, 0.01)],
        DType::IQ4_XS => &[(0, 0.0005)],
        DType::IQ3_S | DType::IQ3_XXS | DType::IQ2_S | DType::IQ2_XS | DType::IQ2_XXS => &[(0, 0.005)],
        DType::IQ1_S => &[(0, 0.05)],
        DType::TQ1_0 => &[(52, 0.1)],
        DType::TQ2_0 => &[(64, 0.1)],
        DType::F32 | DType::F16 | DType::BF16 | DType::IQ1_M | DType::MXFP4 | DType::NVFP4 => &[],
    }
}

/// Random rows as they would stand in a file.
pub fn random_rows(dtype: DType, rows: usize, cols: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..rows * cols / dtype.block_len() as usize {
        match dtype {
            DType::F32 => bytes.extend(random.float().to_le_bytes()),
            DType::F16 => bytes.extend(half::f16::from_f32(random.float()).to_le_bytes()),
            DType::BF16 => bytes.extend(half::bf16::from_f32(random.float()).to_le_bytes()),
            _ => {
                let start = bytes.len();
                bytes.extend((0..dtype.block_bytes()).map(|_| random.bits() as u8));
                let block = &mut bytes[start..];
                match dtype {
                    DType::MXFP4 => block[0] = 118 + (random.below(8) as u8),
                    // The upper nibbles of four words are an f16, here of 2^-7 to 2^-3.
                    DType::IQ1_M => block[55] = (block[55] & 0x8f) | 0x20,
                    _ => {}
                }
                for &(at, size) in f16_scales(dtype) {
                    let scale = half::f16::from_f32(size * random.float());
                    bytes[start + at..start + at + 2].copy_from_slice(&scale.to_le_bytes());
                }
            }
        }
    }
    bytes
}

/// Random rows whose values are small whole numbers, times one power of two for all: sums of 32, in any order, have no
/// more than 11 bits. `None` for formats that have none such.
pub fn plain_rows(dtype: DType, rows: usize, cols: usize, random: &mut Random) -> Option<Vec<u8>> {
    const UNIT: f32 = 1.0 / 64.0;
    let unit = half::f16::from_f32(UNIT).to_le_bytes();
    let mut bytes = random_rows(dtype, rows, cols, random);
    for block in bytes.chunks_exact_mut(dtype.block_bytes() as usize) {
        let value = UNIT * (random.below(63) as f32 - 31.0);
        match dtype {
            DType::F32 => block.copy_from_slice(&value.to_le_bytes()),
            DType::F16 => block.copy_from_slice(&half::f16::from_f32(value).to_le_bytes()),
            DType::BF16 => block.copy_from_slice(&half::bf16::from_f32(value).to_le_bytes()),
            DType::Q4_0 | DType::Q5_0 => block[..2].copy_from_slice(&unit),
            DType::Q4_1 | DType::Q5_1 => {
                block[..2].copy_from_slice(&unit);
                block[2..4].copy_from_slice(&half::f16::from_f32(value).to_le_bytes());
            }
            DType::Q8_0 => {
                block[..2].copy_from_slice(&unit);
                block[2..].iter_mut().for_each(|q| *q = ((*q & 63) as i8 - 32) as u8);
            }
            DType::Q2_K => {
                // Scales of 1 and minima of 0 to 3.
                block[..16].iter_mut().for_each(|s| *s = *s & 0x30 | 1);
                block[80..].copy_from_slice(&[unit, unit].concat());
            }
            DType::Q6_K => {
                block[192..208].iter_mut().for_each(|s| *s = if *s < 128 { 1 } else { 255 });
                block[208..].copy_from_slice(&unit);
            }
            _ => return None,
        }
    }
    Some(bytes)
}

/// The values of file bytes.
pub fn dequantize(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    values(dtype, bytes).into_iter().map(|(value, _)| value).collect()
}

/// The same, each less the middle of what its block can hold: scale times a whole number, of either sign.
pub fn spread(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    values(dtype, bytes).into_iter().map(|(_, spread)| spread).collect()
}

/// What codes of IQ4 stand for, `kvalues_iq4nl`.
const IQ4: [i32; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// A float of one sign bit, two of exponent with a bias of 1, one of fraction (E2M1).
fn e2m1(code: u32) -> f64 {
    let fraction = f64::from(code & 1) / 2.0;
    let size = match code >> 1 & 3 {
        0 => fraction,
        exponent => (1.0 + fraction) * 2f64.powi(exponent as i32 - 1),
    };
    if code & 8 == 8 { -size } else { size }
}

/// Element `i` of a grid's point `index`, codes of `bits` bits. The table is the product's: that it is llama.cpp's is
/// shown by the digests of `tests/formats.rs`.
fn code(dtype: DType, index: usize, i: usize, bits: u32) -> usize {
    usize::from(dtype.format().grid[index] >> (bits * i as u32)) & ((1 << bits) - 1)
}

/// -1 if bit `i` of seven is set, or as bit 7 if an odd number of them is (`ksigns_iq2xs`).
fn sign_of_seven(seven: u32, i: usize) -> f64 {
    let is_set = if i == 7 { seven.count_ones() % 2 == 1 } else { seven >> i & 1 == 1 };
    if is_set { -1.0 } else { 1.0 }
}

/// Value, and value less the middle of its block.
fn values(dtype: DType, bytes: &[u8]) -> Vec<(f64, f64)> {
    let blocks = bytes.chunks_exact(dtype.block_bytes() as usize);
    blocks.flat_map(|block| (0..dtype.block_len() as usize).map(|i| value(dtype, block, i))).collect()
}

fn f16(block: &[u8], at: usize) -> f64 {
    half::f16::from_le_bytes([block[at], block[at + 1]]).to_f64()
}

/// Bits `from` to `from + count` of a run of bytes, the lowest first.
fn bits(bytes: &[u8], from: usize, count: usize) -> u32 {
    (0..count).map(|i| u32::from(bytes[(from + i) / 8] >> ((from + i) % 8) & 1) << i).sum()
}

/// Element `i` of a block, and the same less the block's middle.
fn value(dtype: DType, b: &[u8], i: usize) -> (f64, f64) {
    let alone = |value: f64| (value, value);
    // scale · q with q of either sign.
    let signed = |scale: f64, q: i32| alone(scale * f64::from(q));
    // Nibble `i` of bytes that hold the first half of the elements low, the second high.
    let nibble = |at: usize| u32::from(if i < 16 { b[at + i] & 15 } else { b[at + i - 16] >> 4 });
    // Of super-blocks: element of its group of 128, group, and element of its block of 32.
    let (of_128, n, l) = (i % 128, i / 128, i % 32);
    let two_bits = |at: usize| u32::from(b[at + 32 * n + l] >> (2 * (of_128 / 32)) & 3);
    // Scale and minimum of Q4_K and Q5_K (`get_scale_min_k4`).
    let k4 = || {
        let (j, q) = (i / 32, &b[4..16]);
        let (s, m) = if j < 4 {
            (q[j] & 63, q[j + 4] & 63)
        } else {
            ((q[j + 4] & 15) | ((q[j - 4] >> 6) << 4), (q[j + 4] >> 4) | ((q[j] >> 6) << 4))
        };
        (f16(b, 0) * f64::from(s), f16(b, 2) * f64::from(m))
    };
    match dtype {
        DType::F32 => alone(f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
        DType::F16 => alone(f16(b, 0)),
        DType::BF16 => alone(half::bf16::from_le_bytes([b[0], b[1]]).to_f64()),
        DType::Q8_0 => signed(f16(b, 0), i32::from(b[2 + i] as i8)),
        DType::Q4_0 => signed(f16(b, 0), nibble(2) as i32 - 8),
        DType::Q4_1 => {
            let (d, q) = (f16(b, 0), f64::from(nibble(4)));
            (d * q + f16(b, 2), d * (q - 8.0))
        }
        DType::Q5_0 => signed(f16(b, 0), (nibble(6) | bits(&b[2..], i, 1) << 4) as i32 - 16),
        DType::Q5_1 => {
            let (d, q) = (f16(b, 0), f64::from(nibble(8) | bits(&b[4..], i, 1) << 4));
            (d * q + f16(b, 2), d * (q - 16.0))
        }
        DType::Q2_K => {
            let s = b[i / 16];
            let (d, m) = (f16(b, 80) * f64::from(s & 15), f16(b, 82) * f64::from(s >> 4));
            let q = f64::from(two_bits(16));
            (d * q - m, d * (q - 2.0))
        }
        DType::Q3_K => {
            // The twelve bytes of scales: four low bits each of 16, then two high bits each.
            let (j, s) = (i / 16, &b[96..108]);
            let low = if j < 8 { s[j] & 15 } else { s[j - 8] >> 4 };
            let scale = i32::from(low | (s[8 + j % 4] >> (2 * (j / 4)) & 3) << 4) - 32;
            let has_third = b[l] >> (4 * n + of_128 / 32) & 1 == 1;
            let q = two_bits(32) as i32 - if has_third { 0 } else { 4 };
            signed(f16(b, 108) * f64::from(scale), q)
        }
        DType::Q4_K => {
            let (d, m) = k4();
            let q = f64::from(b[16 + 32 * (i / 64) + l] >> (4 * (i / 32 % 2)) & 15);
            (d * q - m, d * (q - 8.0))
        }
        DType::Q5_K => {
            let (d, m) = k4();
            let low = b[48 + 32 * (i / 64) + l] >> (4 * (i / 32 % 2)) & 15;
            let q = f64::from(low | (b[16 + l] >> (i / 32) & 1) << 4);
            (d * q - m, d * (q - 16.0))
        }
        DType::Q6_K => {
            let low = b[64 * n + of_128 % 64] >> (4 * (of_128 / 64)) & 15;
            let q = i32::from(low | (b[128 + 32 * n + l] >> (2 * (of_128 / 32)) & 3) << 4) - 32;
            signed(f16(b, 208) * f64::from(b[192 + i / 16] as i8), q)
        }
        DType::IQ4_NL => signed(f16(b, 0), IQ4[nibble(2) as usize]),
        DType::IQ4_XS => {
            let j = i / 32;
            let scale = bits(&b[4..8], 4 * j, 4) | bits(&b[2..4], 2 * j, 2) << 4;
            let q = bits(&b[8 + 16 * j..], 8 * (l % 16) + 4 * (l / 16), 4);
            signed(f16(b, 0) * (f64::from(scale) - 32.0), IQ4[q as usize])
        }
        DType::IQ3_S => {
            let index = u32::from(b[2 + i / 4]) | bits(&b[66..74], i / 4, 1) << 8;
            let size = 1.0 + 2.0 * code(dtype, index as usize, i % 4, 4) as f64;
            let sign = if bits(&b[74..106], i, 1) == 1 { -1.0 } else { 1.0 };
            let scale = f64::from(1 + 2 * bits(&b[106..110], 4 * (i / 32), 4));
            alone(f16(b, 0) * scale * size * sign)
        }
        DType::IQ3_XXS => {
            let word = bits(&b[66 + 4 * (i / 32)..], 0, 32);
            let size = [4, 12, 20, 28, 36, 44, 52, 62][code(dtype, usize::from(b[2 + i / 4]), i % 4, 4)];
            let sign = sign_of_seven(word >> (7 * (l / 8)) & 127, i % 8);
            alone(f16(b, 0) * (0.5 + f64::from(word >> 28)) * 0.5 * f64::from(size) * sign)
        }
        DType::IQ2_XXS => {
            let at = 2 + 8 * (i / 32);
            let word = bits(&b[at + 4..], 0, 32);
            let size = [8, 25, 43][code(dtype, usize::from(b[at + l / 8]), i % 8, 2)];
            let sign = sign_of_seven(word >> (7 * (l / 8)) & 127, i % 8);
            alone(f16(b, 0) * (0.5 + f64::from(word >> 28)) * 0.25 * f64::from(size) * sign)
        }
        DType::IQ2_XS => {
            let word = bits(&b[2 + 2 * (i / 8)..], 0, 16);
            let size = [8, 25, 43][code(dtype, (word & 511) as usize, i % 8, 2)];
            let scale = 0.5 + f64::from(bits(&b[66..], 4 * (i / 16), 4));
            alone(f16(b, 0) * scale * 0.25 * f64::from(size) * sign_of_seven(word >> 9, i % 8))
        }
        DType::IQ2_S => {
            let index = u32::from(b[2 + i / 8]) | bits(&b[66..74], 2 * (i / 8), 2) << 8;
            let size = [8, 25, 43][code(dtype, index as usize, i % 8, 2)];
            let sign = if bits(&b[34..66], i, 1) == 1 { -1.0 } else { 1.0 };
            let scale = 0.5 + f64::from(bits(&b[74..], 4 * (i / 16), 4));
            alone(f16(b, 0) * scale * 0.25 * f64::from(size) * sign)
        }
        DType::IQ1_S => {
            let word = bits(&b[34 + 2 * (i / 32)..], 0, 16);
            let index = u32::from(b[2 + i / 8]) | (word >> (3 * (l / 8)) & 7) << 8;
            let delta = if word >> 15 == 1 { -0.125 } else { 0.125 };
            let point = code(dtype, index as usize, i % 8, 2) as f64 - 1.0;
            alone(f16(b, 0) * f64::from(2 * (word >> 12 & 7) + 1) * (point + delta))
        }
        DType::IQ1_M => {
            let four = bits(&b[32..48], 4 * (i / 8), 4);
            let index = u32::from(b[i / 8]) | (four & 7) << 8;
            let delta = if four & 8 == 8 { -0.125 } else { 0.125 };
            let point = code(dtype, index as usize, i % 8, 2) as f64 - 1.0;
            // Each 16-bit word has four scales, of 16 elements each, and a nibble of d.
            let scale = bits(&b[48 + 2 * (i / 64)..], 3 * (i % 64 / 16), 3);
            let d = (0..4).map(|k| bits(&b[48 + 2 * k..], 12, 4) << (4 * k)).sum::<u32>();
            alone(half::f16::from_bits(d as u16).to_f64() * f64::from(2 * scale + 1) * (point + delta))
        }
        DType::TQ1_0 => {
            let (at, digit) = match i {
                0..160 => (i % 32, i / 32),
                160..240 => (32 + i % 16, (i - 160) / 16),
                _ => (48 + i % 4, (i - 240) / 4),
            };
            // The byte is its five digits times 256 / 243, rounded up: digits come off the top.
            let mut fraction = u32::from(b[at]);
            for _ in 0..digit {
                fraction = fraction * 3 % 256;
            }
            signed(f16(b, 52), (fraction * 3 / 256) as i32 - 1)
        }
        DType::TQ2_0 => signed(f16(b, 64), two_bits(0) as i32 - 1),
        DType::MXFP4 => alone(e2m1(nibble(1)) * 2f64.powi(i32::from(b[0]) - 127)),
        DType::NVFP4 => {
            let (exponent, fraction) = (i32::from(b[i / 16] >> 3 & 15), f64::from(b[i / 16] & 7) / 8.0);
            let scale = match exponent {
                _ if b[i / 16] == 0x7f => 0.0,
                0 => fraction * 2f64.powi(-6),
                _ => (1.0 + fraction) * 2f64.powi(exponent - 7),
            };
            let byte = b[4 + 8 * (i / 16) + i % 8];
            alone(scale * e2m1(u32::from(if i % 16 < 8 { byte & 15 } else { byte >> 4 })))
        }
        DType::Q1_0 => alone(f16(b, 0) * if bits(&b[2..], i, 1) == 1 { 1.0 } else { -1.0 }),
        DType::Q2_0 => signed(f16(b, 0), bits(&b[2..], 2 * i, 2) as i32 - 1),
    }
}
