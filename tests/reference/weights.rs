//! File blocks: random ones, and their values in f64. Source of the formats: llama.cpp's ggml-quants.c.
//!
//! Written value by value from the definition, apart from `src/formats`; `tests/formats.rs` holds it against llama.cpp.

use crate::common::random::Random;
use emberglass::DType;

/// Where a block has f16 that scale its values, and by how much they are to be.
fn f16_scales(dtype: DType) -> &'static [(usize, f32)] {
    match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => &[(0, 0.02)],
        DType::Q4_1 | DType::Q5_1 => &[(0, 0.02), (2, 0.1)],
        DType::Q2_K => &[(80, 0.01), (82, 0.005)],
        DType::Q3_K => &[(108, 0.002)],
        DType::Q4_K | DType::Q5_K => &[(0, 0.001), (2, 0.002)],
        DType::Q6_K => &[(208, 0.0002)],
        DType::F32 | DType::F16 | DType::BF16 => &[],
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
    }
}
