//! WebAssembly: two 128-bit registers are one vector. `simd128` is on for the whole build
//! (`.cargo/config.toml`); relaxed SIMD only in the build with the feature of that name.

use std::arch::wasm32::*;

#[cfg(feature = "relaxed-simd")]
use super::Kernel;
use super::Simd;

/// Lanes 0–3 and 4–7.
#[derive(Clone, Copy)]
pub struct Pair(v128, v128);

/// One instruction on both halves. Not a function: instructions cannot be passed as values.
macro_rules! each {
    ($f:ident, $a:expr $(, $more:expr)*) => {
        Pair($f($a.0 $(, $more.0)*), $f($a.1 $(, $more.1)*))
    };
}

/// Exponent and fraction of finite f16 to their places in f32, which has another bias: 2^-112 of what they are.
#[inline(always)]
fn bits_of_halves(a: v128) -> v128 {
    v128_and(i32x4_shl(a, 13), i32x4_splat(!0x7000_1fff))
}

#[inline(always)]
fn halves(a: v128) -> v128 {
    f32x4_mul(bits_of_halves(a), f32x4_splat(f32::from_bits(0x7780_0000)))
}

macro_rules! common {
    () => {
        type I = Pair;
        type F = Pair;

        // SAFETY of the loads and stores: WebAssembly has no alignment faults, and the arrays have
        // the sizes.
        #[inline(always)]
        fn load_bytes(self, from: &[u8; 32]) -> Pair {
            let at = from.as_ptr().cast::<v128>();
            unsafe { Pair(v128_load(at), v128_load(at.add(1))) }
        }
        #[inline(always)]
        fn load_widened(self, from: &[u8; 16]) -> Pair {
            let at = from.as_ptr().cast::<i8>();
            unsafe { Pair(i16x8_load_extend_i8x8(at), i16x8_load_extend_i8x8(at.add(8))) }
        }
        #[inline(always)]
        fn splat_i32(self, value: i32) -> Pair {
            Pair(i32x4_splat(value), i32x4_splat(value))
        }
        #[inline(always)]
        fn and(self, a: Pair, b: Pair) -> Pair {
            each!(v128_and, a, b)
        }
        #[inline(always)]
        fn or(self, a: Pair, b: Pair) -> Pair {
            each!(v128_or, a, b)
        }
        #[inline(always)]
        fn shr16(self, a: Pair, by: u32) -> Pair {
            Pair(u16x8_shr(a.0, by), u16x8_shr(a.1, by))
        }
        #[inline(always)]
        fn shl16(self, a: Pair, by: u32) -> Pair {
            Pair(i16x8_shl(a.0, by), i16x8_shl(a.1, by))
        }
        #[inline(always)]
        fn shl32(self, a: Pair, by: u32) -> Pair {
            Pair(i32x4_shl(a.0, by), i32x4_shl(a.1, by))
        }
        #[inline(always)]
        fn add_i32(self, a: Pair, b: Pair) -> Pair {
            each!(i32x4_add, a, b)
        }
        #[inline(always)]
        fn dot_words(self, w: Pair, x: Pair, sum: Pair) -> Pair {
            each!(i32x4_add, sum, each!(i32x4_dot_i16x8, w, x))
        }
        #[inline(always)]
        fn store_words(self, a: Pair, to: &mut [i32; 4]) {
            // SAFETY: see above.
            unsafe { v128_store(to.as_mut_ptr().cast(), i16x8_narrow_i32x4(a.0, a.1)) }
        }
        #[inline(always)]
        fn to_floats(self, a: Pair) -> Pair {
            each!(f32x4_convert_i32x4, a)
        }
        #[inline(always)]
        fn as_floats(self, a: Pair) -> Pair {
            a
        }
        #[inline(always)]
        fn as_ints(self, a: Pair) -> Pair {
            a
        }
        #[inline(always)]
        fn load_f16(self, from: &[u8; 16]) -> Pair {
            let at = from.as_ptr().cast::<i16>();
            let (low, high) = unsafe { (i32x4_load_extend_i16x4(at), i32x4_load_extend_i16x4(at.add(4))) };
            Pair(halves(low), halves(high))
        }
        #[inline(always)]
        fn load_small_f16(self, from: &[u16; 8]) -> Pair {
            let at = from.as_ptr().cast::<i16>();
            let (low, high) = unsafe { (i32x4_load_extend_i16x4(at), i32x4_load_extend_i16x4(at.add(4))) };
            Pair(bits_of_halves(low), bits_of_halves(high))
        }
        #[inline(always)]
        fn load_i8(self, from: &[u8; 8]) -> Pair {
            let words = unsafe { i16x8_load_extend_i8x8(from.as_ptr().cast::<i8>()) };
            let (low, high) = (i32x4_extend_low_i16x8(words), i32x4_extend_high_i16x8(words));
            Pair(f32x4_convert_i32x4(low), f32x4_convert_i32x4(high))
        }
        #[inline(always)]
        fn load_bf16(self, from: &[u8; 16]) -> Pair {
            let at = from.as_ptr().cast::<u16>();
            let (low, high) = unsafe { (u32x4_load_extend_u16x4(at), u32x4_load_extend_u16x4(at.add(4))) };
            Pair(i32x4_shl(low, 16), i32x4_shl(high, 16))
        }
        #[inline(always)]
        fn load(self, from: &[f32; 8]) -> Pair {
            let at = from.as_ptr().cast::<v128>();
            unsafe { Pair(v128_load(at), v128_load(at.add(1))) }
        }
        #[inline(always)]
        fn store(self, a: Pair, to: &mut [f32; 8]) {
            let at = to.as_mut_ptr().cast::<v128>();
            unsafe {
                v128_store(at, a.0);
                v128_store(at.add(1), a.1);
            }
        }
        #[inline(always)]
        fn splat(self, value: f32) -> Pair {
            Pair(f32x4_splat(value), f32x4_splat(value))
        }
        #[inline(always)]
        fn add(self, a: Pair, b: Pair) -> Pair {
            each!(f32x4_add, a, b)
        }
        #[inline(always)]
        fn sub(self, a: Pair, b: Pair) -> Pair {
            each!(f32x4_sub, a, b)
        }
        #[inline(always)]
        fn mul(self, a: Pair, b: Pair) -> Pair {
            each!(f32x4_mul, a, b)
        }
        #[inline(always)]
        fn div(self, a: Pair, b: Pair) -> Pair {
            each!(f32x4_div, a, b)
        }
        #[inline(always)]
        fn max(self, a: Pair, b: Pair) -> Pair {
            each!(f32x4_pmax, b, a)
        }
    };
}

/// Fixed-width SIMD, in every browser that has WebAssembly SIMD at all.
#[cfg(not(feature = "relaxed-simd"))]
#[derive(Clone, Copy)]
pub struct Simd128;

#[cfg(not(feature = "relaxed-simd"))]
impl Simd for Simd128 {
    const BYTE_DOTS: bool = false;
    common!();

    #[inline(always)]
    fn dot_bytes(self, _: Pair, _: Pair, sum: Pair) -> Pair {
        sum // never called: BYTE_DOTS is false
    }
    #[inline(always)]
    fn mul_add(self, a: Pair, b: Pair, c: Pair) -> Pair {
        self.add(self.mul(a, b), c)
    }
}

/// Relaxed SIMD. Exists only inside [`relaxed`], with `QUADS` inside [`relaxed_quads`].
#[cfg(feature = "relaxed-simd")]
#[derive(Clone, Copy)]
pub struct Relaxed<const QUADS: bool>(());

/// Runs a kernel compiled for relaxed SIMD.
#[cfg(feature = "relaxed-simd")]
#[target_feature(enable = "simd128,relaxed-simd")]
pub fn relaxed<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Relaxed::<false>(()))
}

/// The same with dot products of four bytes.
#[cfg(feature = "relaxed-simd")]
#[target_feature(enable = "simd128,relaxed-simd")]
pub fn relaxed_quads<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Relaxed::<true>(()))
}

/// Whether the dot product of four bytes is one instruction: SDOT of ARM, or one of AVX-VNNI. Without them a browser on x86
/// takes three, the first of which adds pairs and cuts the sum off at 32,767; two products of 255 and 127 show that.
#[cfg(feature = "relaxed-simd")]
#[target_feature(enable = "simd128,relaxed-simd")]
pub fn has_quads() -> bool {
    let (most, ones) = std::hint::black_box((i8x16_splat(127), i8x16_splat(-1)));
    let sums = i32x4_relaxed_dot_i8x16_i7x16_add(most, ones, i32x4_splat(0));
    matches!(i32x4_extract_lane::<0>(sums), 129_540 | -508)
}

#[cfg(feature = "relaxed-simd")]
impl<const QUADS: bool> Simd for Relaxed<QUADS> {
    const BYTE_DOTS: bool = true;
    const QUADS: bool = QUADS;
    common!();

    #[inline(always)]
    fn dot_bytes(self, w: Pair, x: Pair, sum: Pair) -> Pair {
        // The second operand's bytes are below 128, where all machines agree.
        each!(i16x8_add, sum, each!(i16x8_relaxed_dot_i8x16_i7x16, x, w))
    }
    #[inline(always)]
    fn dot_quads(self, w: Pair, x: Pair, sum: Pair) -> Pair {
        each!(i32x4_relaxed_dot_i8x16_i7x16_add, x, w, sum)
    }
    #[inline(always)]
    fn mul_add(self, a: Pair, b: Pair, c: Pair) -> Pair {
        each!(f32x4_relaxed_madd, a, b, c)
    }
}
