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
        Some(match code {
            0 => DType::F32,
            1 => DType::F16,
            30 => DType::BF16,
            2 => DType::Q4_0,
            3 => DType::Q4_1,
            6 => DType::Q5_0,
            7 => DType::Q5_1,
            8 => DType::Q8_0,
            _ => return None,
        })
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
            _ => 32,
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
