//! File blocks: random ones, and their values. Source of the formats: llama.cpp's ggml-quants.c.

use crate::common::random::Random;
use emberglass::DType;

/// Random rows as they would stand in a file.
pub fn random_rows(dtype: DType, rows: usize, cols: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..rows * cols / dtype.block_len() as usize {
        let scale = half::f16::from_f32(0.02 * random.float()).to_le_bytes();
        let minimum = half::f16::from_f32(0.1 * random.float()).to_le_bytes();
        let (scales, rest): (Vec<u8>, usize) = match dtype {
            DType::F32 => (random.float().to_le_bytes().to_vec(), 0),
            DType::F16 => (half::f16::from_f32(random.float()).to_le_bytes().to_vec(), 0),
            DType::BF16 => (half::bf16::from_f32(random.float()).to_le_bytes().to_vec(), 0),
            DType::Q4_0 => (scale.to_vec(), 16),
            DType::Q8_0 => (scale.to_vec(), 32),
            DType::Q5_0 => (scale.to_vec(), 20),
            DType::Q4_1 => ([scale, minimum].concat(), 16),
            DType::Q5_1 => ([scale, minimum].concat(), 20),
        };
        bytes.extend(scales);
        bytes.extend((0..rest).map(|_| random.bits() as u8));
    }
    bytes
}

/// Random rows whose values are small whole numbers, times one power of two for all: sums of 32, in any order, have no
/// more than 11 bits.
pub fn plain_rows(dtype: DType, rows: usize, cols: usize, random: &mut Random) -> Vec<u8> {
    const UNIT: f32 = 1.0 / 64.0;
    let mut bytes = random_rows(dtype, rows, cols, random);
    for block in bytes.chunks_exact_mut(dtype.block_bytes() as usize) {
        let value = UNIT * (random.below(63) as f32 - 31.0);
        match dtype {
            DType::F32 => block.copy_from_slice(&value.to_le_bytes()),
            DType::F16 => block.copy_from_slice(&half::f16::from_f32(value).to_le_bytes()),
            DType::BF16 => block.copy_from_slice(&half::bf16::from_f32(value).to_le_bytes()),
            _ => {
                block[..2].copy_from_slice(&half::f16::from_f32(UNIT).to_le_bytes());
                match dtype {
                    DType::Q4_1 | DType::Q5_1 => {
                        block[2..4].copy_from_slice(&half::f16::from_f32(value).to_le_bytes())
                    }
                    DType::Q8_0 => block[2..].iter_mut().for_each(|q| *q = ((*q & 63) as i8 - 32) as u8),
                    _ => {}
                }
            }
        }
    }
    bytes
}

/// The values of file bytes.
pub fn dequantize(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    values(dtype, bytes, false)
}

/// The same, each less the middle of what its block can hold: scale times a whole number, of either sign.
pub fn spread(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    values(dtype, bytes, true)
}

fn values(dtype: DType, bytes: &[u8], spread: bool) -> Vec<f64> {
    let f16 = |b: &[u8]| half::f16::from_le_bytes([b[0], b[1]]).to_f64();
    let mut values = Vec::new();
    for block in bytes.chunks_exact(dtype.block_bytes() as usize) {
        match dtype {
            DType::F32 => {
                values.push(f64::from(f32::from_le_bytes([block[0], block[1], block[2], block[3]])))
            }
            DType::F16 => values.push(f16(block)),
            DType::BF16 => values.push(half::bf16::from_le_bytes([block[0], block[1]]).to_f64()),
            DType::Q8_0 => {
                let d = f16(block);
                values.extend(block[2..].iter().map(|&q| d * f64::from(q as i8)));
            }
            DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 => {
                let affine = matches!(dtype, DType::Q4_1 | DType::Q5_1);
                let five = matches!(dtype, DType::Q5_0 | DType::Q5_1);
                let d = f16(block);
                let m = if affine && !spread { f16(&block[2..]) } else { 0.0 };
                let at = if affine { 4 } else { 2 };
                let high = if five {
                    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
                } else {
                    0
                };
                let quants = &block[if five { at + 4 } else { at }..];
                for i in 0..32 {
                    let nibble = if i < 16 { quants[i] & 15 } else { quants[i - 16] >> 4 };
                    let q = f64::from(u32::from(nibble) | (high >> i & 1) << 4);
                    let zero = match dtype {
                        DType::Q4_0 => 8.0,
                        DType::Q5_0 => 16.0,
                        DType::Q4_1 if spread => 8.0,
                        DType::Q5_1 if spread => 16.0,
                        _ => 0.0,
                    };
                    values.push(d * (q - zero) + m);
                }
            }
        }
    }
    values
}
