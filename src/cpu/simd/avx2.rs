//! AVX2 with FMA: one 256-bit register is one vector.

use std::arch::x86_64::*;

use super::{Kernel, Simd};

/// Exists only inside [`enter`], with `VNNI` inside [`enter_vnni`].
#[derive(Clone, Copy)]
pub struct Avx2<const VNNI: bool>(());

/// Runs a kernel compiled for AVX2.
///
/// # Safety
/// The processor must have AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn enter<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx2::<false>(()))
}

/// Runs a kernel compiled for AVX2 and AVX-VNNI.
///
/// # Safety
/// The processor must have AVX2, FMA and AVX-VNNI.
#[target_feature(enable = "avx2,fma,avxvnni")]
pub unsafe fn enter_vnni<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx2::<true>(()))
}

// SAFETY of every block below: a value of `Avx2` exists only inside a function whose caller has found
// the features; loads and stores are unaligned ones on arrays of their size.
impl<const VNNI: bool> Simd for Avx2<VNNI> {
    type I = __m256i;
    type F = __m256;
    const BYTE_DOTS: bool = true;
    const QUADS: bool = VNNI;

    #[inline(always)]
    fn load_bytes(self, from: &[u8; 32]) -> __m256i {
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }
    #[inline(always)]
    fn load_widened(self, from: &[u8; 16]) -> __m256i {
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(from.as_ptr().cast())) }
    }
    #[inline(always)]
    fn splat_i32(self, value: i32) -> __m256i {
        unsafe { _mm256_set1_epi32(value) }
    }
    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(a, b) }
    }
    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_or_si256(a, b) }
    }
    #[inline(always)]
    fn shr16(self, a: __m256i, by: u32) -> __m256i {
        unsafe { _mm256_srl_epi16(a, _mm_cvtsi32_si128(by as i32)) }
    }
    #[inline(always)]
    fn shl16(self, a: __m256i, by: u32) -> __m256i {
        unsafe { _mm256_sll_epi16(a, _mm_cvtsi32_si128(by as i32)) }
    }
    #[inline(always)]
    fn shl32(self, a: __m256i, by: u32) -> __m256i {
        unsafe { _mm256_sll_epi32(a, _mm_cvtsi32_si128(by as i32)) }
    }
    #[inline(always)]
    fn add_i32(self, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(a, b) }
    }
    #[inline(always)]
    fn dot_bytes(self, w: __m256i, x: __m256i, sum: __m256i) -> __m256i {
        unsafe { _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, x)) }
    }
    #[inline(always)]
    fn dot_quads(self, w: __m256i, x: __m256i, sum: __m256i) -> __m256i {
        // Never called without VNNI.
        if VNNI { unsafe { _mm256_dpbusd_avx_epi32(sum, w, x) } } else { sum }
    }
    #[inline(always)]
    fn dot_words(self, w: __m256i, x: __m256i, sum: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(w, x)) }
    }
    #[inline(always)]
    fn store_words(self, a: __m256i, to: &mut [i32; 4]) {
        unsafe {
            let words = _mm256_permute4x64_epi64::<0b1000>(_mm256_packs_epi32(a, a));
            _mm_storeu_si128(to.as_mut_ptr().cast(), _mm256_castsi256_si128(words));
        }
    }
    #[inline(always)]
    fn to_floats(self, a: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(a) }
    }
    #[inline(always)]
    fn as_floats(self, a: __m256i) -> __m256 {
        unsafe { _mm256_castsi256_ps(a) }
    }
    #[inline(always)]
    fn as_ints(self, a: __m256) -> __m256i {
        unsafe { _mm256_castps_si256(a) }
    }
    #[inline(always)]
    fn load_f16(self, from: &[u8; 16]) -> __m256 {
        // Exponent and fraction to their places in f32, then 2^112 for the other bias.
        unsafe {
            let halves = _mm256_cvtepi16_epi32(_mm_loadu_si128(from.as_ptr().cast()));
            let bits = _mm256_and_si256(_mm256_slli_epi32::<13>(halves), _mm256_set1_epi32(!0x7000_1fff));
            _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(f32::from_bits(0x7780_0000)))
        }
    }
    #[inline(always)]
    fn load_small_f16(self, from: &[u16; 8]) -> __m256 {
        unsafe {
            let halves = _mm256_cvtepi16_epi32(_mm_loadu_si128(from.as_ptr().cast()));
            let bits = _mm256_and_si256(_mm256_slli_epi32::<13>(halves), _mm256_set1_epi32(!0x7000_1fff));
            _mm256_castsi256_ps(bits)
        }
    }
    #[inline(always)]
    fn load_i8(self, from: &[u8; 8]) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn load_bf16(self, from: &[u8; 16]) -> __m256 {
        unsafe {
            let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
        }
    }
    #[inline(always)]
    fn load(self, from: &[f32; 8]) -> __m256 {
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, a: __m256, to: &mut [f32; 8]) {
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), a) }
    }
    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
}
