//! Tensor element types: GGML's numbers, block layouts and values. One file a format, and one `.wgsl` of the same name
//! in `shaders/formats` that unpacks it on the GPU.
//!
//! Source: `ggml.h` (`enum ggml_type`), `ggml-common.h` (`block_q4_0` …) and `ggml-quants.c` of llama.cpp.

mod grids;

/// Elements of a [`Sub`], and the kernels' block.
pub const BLOCK: usize = 32;

/// 32 weights of a block. The two halves may have scales of their own: weight `i` is `scale[i / 16] · q[i] + low[i / 16]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sub {
    /// Whole numbers.
    pub q: [i8; BLOCK],
    /// What 1 is worth, of each half.
    pub scale: [f32; 2],
    /// What 0 is worth, of each half.
    pub low: [f32; 2],
}

/// What a block's elements are.
#[derive(Clone, Copy)]
pub enum Elements {
    /// One float: its value.
    Float(fn(&[u8]) -> f32),
    /// Whole numbers with scales: 32 of them, those from 32 times the second argument on.
    Blocks(fn(&[u8], usize) -> Sub),
}

/// Where a block holds the floats that all of its values are multiples of. Only they can be infinite or NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scales {
    /// The element itself is an f32.
    F32,
    /// The element itself is a bfloat16.
    BF16,
    /// f16 at these bytes.
    F16(&'static [usize]),
    /// An exponent of eight bits at this byte, 255 for NaN (E8M0 of the OCP Microscaling specification).
    E8M0(usize),
    /// An f16 whose nibbles are the highest of four 16-bit words from this byte on, lowest first.
    Nibbles(usize),
    /// Only small floats that are always finite.
    Small,
}

/// A weight format: one for each file of this folder.
pub struct Format {
    /// Its number in `enum ggml_type`.
    pub ggml: u32,
    /// Elements in a block of the file.
    pub block_len: usize,
    /// Bytes of a block in the file.
    pub block_bytes: usize,
    /// Which of its values are finite.
    pub scales: Scales,
    /// What its values are.
    pub elements: Elements,
    /// Bytes of a block (from, to) that the GPU has in `quants`, in this order; whole vec4s. Of the float formats it has
    /// all bytes there.
    pub body: &'static [(usize, usize)],
    /// Those that it has in `scales`, each range in words of its own. A single range of one or two bytes is packed.
    pub head: &'static [(usize, usize)],
    /// Whether the halves of 32 elements have scales of their own.
    pub two_scales: bool,
    /// Words of 16 bits that its quants are looked up in; on the GPU they come before the scales.
    pub grid: &'static [u16],
}

/// A format of float elements.
const fn float(ggml: u32, bytes: usize, scales: Scales, value: fn(&[u8]) -> f32) -> Format {
    Format {
        ggml,
        block_len: 1,
        block_bytes: bytes,
        scales,
        elements: Elements::Float(value),
        body: &[],
        head: &[],
        two_scales: false,
        grid: &[],
    }
}

macro_rules! formats {
    ($($(#[$doc:meta])* $name:ident $file:ident,)*) => {
        $(pub(crate) mod $file;)*

        /// A tensor type that Emberglass computes with: an index of its table. The weights stay in this form in memory.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types)] // GGML's names
        pub enum DType {
            $($(#[$doc])* $name,)*
        }

        const NAMES: &[&str] = &[$(stringify!($name)),*];

        static FORMATS: &[Format] = &[$($file::FORMAT),*];

        /// What selects a format's file when a shader is expanded, the file's name as in `#import`, and its text.
        pub(crate) const SHADERS: &[(&str, &str, &str)] = &[$((
            concat!("W_", stringify!($name)),
            concat!("formats/", stringify!($file), ".wgsl"),
            include_str!(concat!("../../shaders/formats/", stringify!($file), ".wgsl")),
        )),*];

        impl DType {
            /// Every supported type.
            pub const ALL: [DType; NAMES.len()] = [$(DType::$name),*];
        }
    };
}

formats! {
    /// 32-bit float.
    F32 float32,
    /// 16-bit IEEE float.
    F16 float16,
    /// bfloat16.
    BF16 bfloat16,
    /// 32 × 4 bits, one f16 scale.
    Q4_0 q4_0,
    /// 32 × 4 bits, f16 scale and minimum.
    Q4_1 q4_1,
    /// 32 × 5 bits, one f16 scale.
    Q5_0 q5_0,
    /// 32 × 5 bits, f16 scale and minimum.
    Q5_1 q5_1,
    /// 32 × 8 bits, one f16 scale.
    Q8_0 q8_0,
    /// 256 × 2 bits, a scale and a minimum of 4 bits for each 16.
    Q2_K q2_k,
    /// 256 × 3 bits, a scale of 6 bits for each 16.
    Q3_K q3_k,
    /// 256 × 4 bits, a scale and a minimum of 6 bits for each 32.
    Q4_K q4_k,
    /// 256 × 5 bits, a scale and a minimum of 6 bits for each 32.
    Q5_K q5_k,
    /// 256 × 6 bits, a scale of 8 bits for each 16.
    Q6_K q6_k,
    /// 32 × 4 bits that stand for 16 numbers, one f16 scale.
    IQ4_NL iq4_nl,
    /// 256 × the same, a scale of 6 bits for each 32.
    IQ4_XS iq4_xs,
    /// 256 weights, fours of a grid of 512, a scale of 4 bits for each 32.
    IQ3_S iq3_s,
    /// 256 weights, fours of a grid of 256, a scale of 4 bits for each 32.
    IQ3_XXS iq3_xxs,
    /// 256 weights, eights of a grid of 1024, a scale of 4 bits for each 16.
    IQ2_S iq2_s,
    /// 256 weights, eights of a grid of 512, a scale of 4 bits for each 16.
    IQ2_XS iq2_xs,
    /// 256 weights, eights of a grid of 256, a scale of 4 bits for each 32.
    IQ2_XXS iq2_xxs,
    /// 256 weights, eights of a grid of 2048, a scale of 3 bits for each 32.
    IQ1_S iq1_s,
    /// 256 weights, eights of a grid of 2048, a scale of 3 bits for each 16.
    IQ1_M iq1_m,
    /// 256 weights of three values, five a byte, one f16 scale.
    TQ1_0 tq1_0,
    /// 256 weights of three values, four a byte, one f16 scale.
    TQ2_0 tq2_0,
    /// 32 floats of 4 bits, one scale that is a power of two.
    MXFP4 mxfp4,
    /// 64 floats of 4 bits, a scale of 8 bits for each 16.
    NVFP4 nvfp4,
    /// 128 × 1 bit, one f16 scale.
    Q1_0 q1_0,
    /// 64 × 2 bits, one f16 scale.
    Q2_0 q2_0,
}

impl DType {
    /// Its line of the table.
    #[must_use]
    pub fn format(self) -> &'static Format {
        // The table has a line for each variant, in their order.
        &FORMATS[self as usize]
    }

    /// From `enum ggml_type`; `None` if there is no kernel for it.
    #[must_use]
    pub fn from_ggml(code: u32) -> Option<Self> {
        DType::ALL.into_iter().find(|dtype| dtype.ggml() == code)
    }

    /// Its number in `enum ggml_type`.
    #[must_use]
    pub fn ggml(self) -> u32 {
        self.format().ggml
    }

    /// GGML's name of the type.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES[self as usize]
    }

    /// The define that selects its file when a shader is expanded.
    pub(crate) fn define(self) -> &'static str {
        SHADERS[self as usize].0
    }

    /// Elements in one block of the file.
    #[must_use]
    pub fn block_len(self) -> u64 {
        self.format().block_len as u64
    }

    /// Bytes of one block in the file.
    #[must_use]
    pub fn block_bytes(self) -> u64 {
        self.format().block_bytes as u64
    }

    /// Bytes of so many elements, whole blocks of them.
    #[must_use]
    pub fn bytes_of(self, elements: u64) -> u64 {
        elements / self.block_len() * self.block_bytes()
    }

    /// Whether its elements are floats, one a block.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self.format().elements, Elements::Float(_))
    }

    /// The values of whole elements as f32; `None` for types of blocks.
    #[must_use]
    pub fn floats(self, bytes: &[u8]) -> Option<Vec<f32>> {
        let format = self.format();
        let Elements::Float(value) = format.elements else { return None };
        Some(bytes.chunks_exact(format.block_bytes).map(value).collect())
    }

    /// Whether whole blocks hold numbers only: no NaN and no infinity. A block of quants is as finite as its scales.
    #[must_use]
    pub fn all_finite(self, bytes: &[u8]) -> bool {
        // All bits of the exponent are set in NaN and infinities.
        const F16: u16 = 0x7c00;
        // Every block is looked at, without an early end, so that the compiler may use vectors.
        fn floats<const BLOCK: usize>(bytes: &[u8], exponent: u16) -> bool {
            let of =
                |b: &[u8; BLOCK]| u16::from_le_bytes([b[BLOCK - 2], b[BLOCK - 1]]) & exponent == exponent;
            !bytes.as_chunks::<BLOCK>().0.iter().fold(false, |found, block| found | of(block))
        }
        let format = self.format();
        let mut blocks = bytes.chunks_exact(format.block_bytes);
        match format.scales {
            Scales::F32 => floats::<4>(bytes, 0x7f80),
            Scales::BF16 => floats::<2>(bytes, 0x7f80),
            Scales::F16(_) if format.block_bytes == 2 => floats::<2>(bytes, F16),
            Scales::F16(places) => {
                blocks.all(|block| places.iter().all(|&at| u16_at(block, at) & F16 != F16))
            }
            Scales::E8M0(at) => blocks.all(|block| block[at] != 0xff),
            Scales::Nibbles(at) => blocks.all(|block| nibbles_f16(block, at) & F16 != F16),
            Scales::Small => true,
        }
    }

    /// Gives a block of any bytes scales of about `value`, for self-tests and benches.
    pub(crate) fn put_scale(self, block: &mut [u8], value: f32) {
        let half = half::f16::from_f32(value);
        match self.format().scales {
            Scales::F32 => block.copy_from_slice(&value.to_le_bytes()),
            Scales::BF16 => block.copy_from_slice(&half::bf16::from_f32(value).to_le_bytes()),
            Scales::F16(places) => {
                places.iter().for_each(|&at| block[at..at + 2].copy_from_slice(&half.to_le_bytes()));
            }
            Scales::E8M0(at) => block[at] = 120 + block[at] % 8,
            Scales::Nibbles(at) => {
                for (i, byte) in block[at..].iter_mut().skip(1).step_by(2).take(4).enumerate() {
                    *byte = *byte & 15 | ((half.to_bits() >> (4 * i) & 15) as u8) << 4;
                }
            }
            Scales::Small => {}
        }
    }
}

/// What `#import format` stands for, with these defines.
pub(crate) fn shader_of(is_defined: impl Fn(&str) -> bool) -> Option<&'static str> {
    SHADERS.iter().find(|(define, ..)| is_defined(define)).map(|(_, name, _)| *name)
}

// What several formats unpack alike. Blocks have the size that their table says.

fn u16_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

fn u32_at(block: &[u8], at: usize) -> u32 {
    u32::from(u16_at(block, at)) | u32::from(u16_at(block, at + 2)) << 16
}

fn f16_at(block: &[u8], at: usize) -> f32 {
    half::f16::from_bits(u16_at(block, at)).to_f32()
}

/// The f16 of [`Scales::Nibbles`].
fn nibbles_f16(block: &[u8], at: usize) -> u16 {
    (0..4).fold(0, |bits, i| bits | (u16_at(block, at + 2 * i) >> 12) << (4 * i))
}

/// `N` bytes from `at` on: of a known number, so that the compiler makes vectors of what is done with them.
fn bytes_at<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    match block.get(at..).and_then(|bytes| bytes.first_chunk()) {
        Some(bytes) => bytes,
        None => &[0; N], // never: blocks have the size that their table says
    }
}

/// Sixteen bytes' low nibbles, then their high nibbles.
fn nibbles(bytes: &[u8]) -> [i8; BLOCK] {
    let bytes = bytes_at::<16>(bytes, 0);
    let mut q = [0; BLOCK];
    for (i, byte) in bytes.iter().enumerate() {
        q[i] = (byte & 15) as i8;
        q[16 + i] = (byte >> 4) as i8;
    }
    q
}

/// What codes of four bits stand for: a tree of choices by bits, of which the compiler makes vectors.
fn meanings(codes: [i8; BLOCK], table: &[i8; 16]) -> [i8; BLOCK] {
    let mut q = [0; BLOCK];
    for (q, code) in q.iter_mut().zip(codes) {
        let either = |low: i8, high: i8, bit: i8| {
            let mask = -(code >> bit & 1);
            low ^ (low ^ high) & mask
        };
        let of_two = |i: usize| either(table[i], table[i + 1], 0);
        let of_four = |i: usize| either(of_two(i), of_two(i + 2), 1);
        let of_eight = |i: usize| either(of_four(i), of_four(i + 4), 2);
        *q = either(of_eight(0), of_eight(8), 3);
    }
    q
}

/// The low nibble, then the high one.
fn two_nibbles(byte: u8) -> [f32; 2] {
    [byte & 15, byte >> 4].map(f32::from)
}

/// 32 quants with one scale and one low.
fn even(q: [i8; BLOCK], scale: f32, low: f32) -> Sub {
    Sub { q, scale: [scale; 2], low: [low; 2] }
}

/// The fifth bits of [`nibbles`], bit `i` of quant `i`.
fn fifth_bits(q: [i8; BLOCK], bits: &[u8]) -> [i8; BLOCK] {
    std::array::from_fn(|i| q[i] | ((bits[i / 8] >> (i % 8) & 1) << 4) as i8)
}

/// GGML's name for any type number, for error messages; `None` if even GGML has none.
#[must_use]
pub fn ggml_type_name(code: u32) -> Option<&'static str> {
    if let Some(dtype) = DType::from_ggml(code) {
        return Some(dtype.name());
    }
    Some(match code {
        9 => "Q8_1",
        15 => "Q8_K",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        _ => return None,
    })
}
