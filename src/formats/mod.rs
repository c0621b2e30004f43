//! Tensor element types: GGML's numbering and block layouts.
//!
//! Source: `ggml.h` (`enum ggml_type`) and `ggml-common.h` (`block_q4_0` …) of llama.cpp.

/// A tensor type that Emberglass computes with. The weights stay in this form on the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// bfloat16.
    BF16,
    /// 32 × 4 bit, one f16 scale: `w = d (q - 8)`.
    Q4_0,
    /// 32 × 4 bit, f16 scale and minimum: `w = d q + m`.
    Q4_1,
    /// 32 × 5 bit, one f16 scale: `w = d (q - 16)`.
    Q5_0,
    /// 32 × 5 bit, f16 scale and minimum: `w = d q + m`.
    Q5_1,
    /// 32 × 8 bit, one f16 scale: `w = d q`, `q` signed.
    Q8_0,
}

impl DType {
    /// Every supported type.
    pub const ALL: [DType; 8] = [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
        DType::Q8_0,
    ];

    /// From `enum ggml_type`; `None` if there is no kernel for it.
    #[must_use]
    pub fn from_ggml(code: u32) -> Option<Self> {
        DType::ALL.into_iter().find(|dtype| dtype.ggml() == code)
    }

    /// Its number in `enum ggml_type`.
    #[must_use]
    pub fn ggml(self) -> u32 {
        match self {
            DType::F32 => 0,
            DType::F16 => 1,
            DType::BF16 => 30,
            DType::Q4_0 => 2,
            DType::Q4_1 => 3,
            DType::Q5_0 => 6,
            DType::Q5_1 => 7,
            DType::Q8_0 => 8,
        }
    }

    /// GGML's name of the type.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "F32",
            DType::F16 => "F16",
            DType::BF16 => "BF16",
            DType::Q4_0 => "Q4_0",
            DType::Q4_1 => "Q4_1",
            DType::Q5_0 => "Q5_0",
            DType::Q5_1 => "Q5_1",
            DType::Q8_0 => "Q8_0",
        }
    }

    /// Elements in one block of the file.
    #[must_use]
    pub fn block_len(self) -> u64 {
        match self {
            DType::F32 | DType::F16 | DType::BF16 => 1,
            DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::Q8_0 => 32,
        }
    }

    /// Bytes of one block in the file.
    #[must_use]
    pub fn block_bytes(self) -> u64 {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::BF16 => 2,
            DType::Q4_0 => 2 + 16,
            DType::Q4_1 => 2 + 2 + 16,
            DType::Q5_0 => 2 + 4 + 16,
            DType::Q5_1 => 2 + 2 + 4 + 16,
            DType::Q8_0 => 2 + 32,
        }
    }

    /// The values of whole elements as f32; `None` for types of blocks.
    #[must_use]
    pub fn floats(self, bytes: &[u8]) -> Option<Vec<f32>> {
        Some(match self {
            DType::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            DType::F16 => bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
            DType::BF16 => {
                bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()
            }
            DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::Q8_0 => return None,
        })
    }

    /// Whether whole blocks hold numbers only: no NaN and no infinity. A block of quants is as finite as its scales.
    #[must_use]
    pub fn all_finite(self, bytes: &[u8]) -> bool {
        // All bits of the exponent are set in NaN and infinities. Every block is looked at, without an early end, so
        // that the compiler may use vectors.
        fn halves<const BLOCK: usize>(bytes: &[u8], at: usize, exponent: u16) -> bool {
            let of = |b: &[u8; BLOCK]| u16::from_le_bytes([b[at], b[at + 1]]) & exponent == exponent;
            !bytes.as_chunks::<BLOCK>().0.iter().fold(false, |found, block| found | of(block))
        }
        const F16: u16 = 0x7c00;
        match self {
            DType::F32 => halves::<4>(bytes, 2, 0x7f80),
            DType::BF16 => halves::<2>(bytes, 0, 0x7f80),
            DType::F16 => halves::<2>(bytes, 0, F16),
            DType::Q4_0 => halves::<18>(bytes, 0, F16),
            DType::Q4_1 => halves::<20>(bytes, 0, F16) && halves::<20>(bytes, 2, F16),
            DType::Q5_0 => halves::<22>(bytes, 0, F16),
            DType::Q5_1 => halves::<24>(bytes, 0, F16) && halves::<24>(bytes, 2, F16),
            DType::Q8_0 => halves::<34>(bytes, 0, F16),
        }
    }
}

/// GGML's name for any type number, for error messages; `None` if even GGML has none.
#[must_use]
pub fn ggml_type_name(code: u32) -> Option<&'static str> {
    Some(match code {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        6 => "Q5_0",
        7 => "Q5_1",
        8 => "Q8_0",
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        12 => "Q4_K",
        13 => "Q5_K",
        14 => "Q6_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        30 => "BF16",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::DType;

    #[test]
    fn numbers_and_sizes_are_ggmls() {
        for dtype in DType::ALL {
            assert_eq!(DType::from_ggml(dtype.ggml()), Some(dtype));
            assert_eq!(super::ggml_type_name(dtype.ggml()), Some(dtype.name()));
        }
        // `ggml_blck_size` and `ggml_type_size` of llama.cpp.
        let sizes = [(1, 4), (1, 2), (1, 2), (32, 18), (32, 20), (32, 22), (32, 24), (32, 34)];
        assert_eq!(DType::ALL.map(|dtype| (dtype.block_len(), dtype.block_bytes())), sizes);
    }

    /// Where a block holds what decides whether its values are finite: bytes of floats of these many bytes.
    fn scales(dtype: DType) -> (usize, Vec<usize>) {
        match dtype {
            DType::F32 => (4, vec![0]),
            DType::F16 | DType::BF16 | DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => (2, vec![0]),
            DType::Q4_1 | DType::Q5_1 => (2, vec![0, 2]),
        }
    }

    #[test]
    fn values_that_are_no_numbers_are_found_wherever_they_are() {
        for dtype in DType::ALL {
            let block = usize::try_from(dtype.block_bytes()).unwrap();
            let (width, places) = scales(dtype);
            // Quants may have any bits; scales are the largest number there is.
            let mut good = vec![0xffu8; 70 * block];
            let write = |bytes: &mut [u8], value: f32| match (dtype, width) {
                (DType::F32, _) => bytes[..4].copy_from_slice(&value.to_le_bytes()),
                (DType::BF16, _) => {
                    let value = half::bf16::from_f32(value).to_bits();
                    bytes[..2].copy_from_slice(&value.to_le_bytes());
                }
                _ => bytes[..2].copy_from_slice(&half::f16::from_f32(value).to_le_bytes()),
            };
            for start in (0..good.len()).step_by(block) {
                places.iter().for_each(|place| write(&mut good[start + place..], -65504.0));
            }
            assert!(dtype.all_finite(&good), "{}", dtype.name());
            for start in [0, 31 * block, 69 * block] {
                for place in &places {
                    for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                        let mut bytes = good.clone();
                        write(&mut bytes[start + place..], bad);
                        assert!(!dtype.all_finite(&bytes), "{} at {start}: {bad}", dtype.name());
                    }
                }
            }
        }
    }
}
