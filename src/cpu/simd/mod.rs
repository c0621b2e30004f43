//! Vectors of eight lanes: what the kernels are written over. One file for each machine.
//!
//! A kernel is generic over [`Simd`] and starts in [`Level::run`], which enters a function compiled
//! for that machine's features; everything below is inlined into it. A lane is one row of a weight
//! panel, one cache position or one column.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(not(target_arch = "wasm32"))]
mod portable;
#[cfg(target_arch = "wasm32")]
mod wasm;

/// One machine's vectors. Integer vectors are 32 bytes that hold i8×32, i16×16 or i32×8, whichever
/// the operation says.
pub trait Simd: Copy {
    /// 32 bytes of integers.
    type I: Copy;
    /// f32×8.
    type F: Copy;
    /// Whether [`Simd::dot_bytes`] exists; otherwise kernels use [`Simd::dot_words`] throughout.
    const BYTE_DOTS: bool;
    /// Whether [`Simd::dot_quads`] exists. Only [`Level::run_products`] makes such vectors.
    const QUADS: bool = false;

    /// 32 bytes as they are.
    fn load_bytes(self, from: &[u8; 32]) -> Self::I;
    /// 16 signed bytes as i16×16.
    fn load_widened(self, from: &[u8; 16]) -> Self::I;
    /// i32×8, all the same.
    fn splat_i32(self, value: i32) -> Self::I;
    /// Bitwise and.
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    /// Bitwise or.
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    /// u16×16 shifted right.
    fn shr16(self, a: Self::I, by: u32) -> Self::I;
    /// u16×16 shifted left.
    fn shl16(self, a: Self::I, by: u32) -> Self::I;
    /// i32×8 shifted left.
    fn shl32(self, a: Self::I, by: u32) -> Self::I;
    /// i32×8 added.
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I;
    /// i16×16 `sum` + products of neighbouring bytes added in pairs: `w` u8 of at most 31, `x` i8.
    /// The caller keeps sums below 2^15.
    fn dot_bytes(self, w: Self::I, x: Self::I, sum: Self::I) -> Self::I;
    /// i32×8 `sum` + products of neighbouring bytes added in fours: `w` u8 of at most 127, `x` i8. One instruction.
    #[inline(always)]
    fn dot_quads(self, _w: Self::I, _x: Self::I, sum: Self::I) -> Self::I {
        sum // never called: QUADS is false
    }
    /// i32×8 `sum` + products of neighbouring i16 added in pairs.
    fn dot_words(self, w: Self::I, x: Self::I, sum: Self::I) -> Self::I;
    /// i32×8 that fit, as words in order.
    fn store_words(self, a: Self::I, to: &mut [i32; 4]);
    /// i32×8 → f32×8.
    fn to_floats(self, a: Self::I) -> Self::F;
    /// The same bits.
    fn as_floats(self, a: Self::I) -> Self::F;
    /// The same bits.
    fn as_ints(self, a: Self::F) -> Self::I;
    /// Eight finite f16.
    fn load_f16(self, from: &[u8; 16]) -> Self::F;
    /// 2^-112 of eight f16 that are finite and not subnormal.
    fn load_small_f16(self, from: &[u16; 8]) -> Self::F;
    /// Eight signed bytes.
    fn load_i8(self, from: &[u8; 8]) -> Self::F;
    /// Eight bf16.
    fn load_bf16(self, from: &[u8; 16]) -> Self::F;

    /// Eight floats.
    fn load(self, from: &[f32; 8]) -> Self::F;
    /// Eight floats.
    fn store(self, a: Self::F, to: &mut [f32; 8]);
    /// f32×8, all the same.
    fn splat(self, value: f32) -> Self::F;
    /// a + b.
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// a - b.
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// a · b.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// a / b.
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// The greater; `b` if one of them is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// a · b + c, rounded once or twice.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;

    /// Sum of the lanes, in a fixed order.
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        let mut l = [0.0; 8];
        self.store(a, &mut l);
        ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
    }

    /// The greatest lane; NaN is passed over.
    #[inline(always)]
    fn max_lane(self, a: Self::F) -> f32 {
        let mut lanes = [0.0; 8];
        self.store(a, &mut lanes);
        // `f32::max` would be a call of a function in WebAssembly.
        lanes.into_iter().fold(f32::NEG_INFINITY, |most, lane| if lane > most { lane } else { most })
    }

    /// e^a within 2 ulp; 0 or rather e^-87 below -87, e^88 above 88.
    ///
    /// a = n ln 2 + r; a polynomial gives e^r, and n goes into the exponent. Coefficients: Cephes,
    /// `expf.c` (S. Moshier).
    #[inline(always)]
    fn exp(self, a: Self::F) -> Self::F {
        // Adding 1.5 · 2^23 rounds to an integer and leaves it in the low bits.
        const MAGIC: f32 = 12_582_912.0;
        let least = self.splat(-87.0);
        let a = self.max(a, least);
        let most = self.splat(-88.0);
        let negated = self.sub(self.splat(0.0), a);
        let a = self.sub(self.splat(0.0), self.max(negated, most));
        let shifted = self.add(self.mul(a, self.splat(std::f32::consts::LOG2_E)), self.splat(MAGIC));
        let n = self.sub(shifted, self.splat(MAGIC));
        let r = self.mul_add(n, self.splat(-0.693_359_4), a);
        let r = self.mul_add(n, self.splat(2.121_944_4e-4), r);
        let mut p = self.splat(1.987_569_1e-4);
        for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = self.mul_add(p, r, self.splat(coefficient));
        }
        let p = self.add(self.mul_add(self.mul(p, r), r, r), self.splat(1.0));
        let exponent = self.shl32(self.as_ints(shifted), 23);
        self.as_floats(self.add_i32(self.as_ints(p), exponent))
    }
}

/// Something to compute with whatever vectors there are.
pub trait Kernel {
    /// Its result.
    type Out;
    /// Must be `#[inline(always)]`, so that it is compiled for the features of its caller.
    fn run<S: Simd>(self, s: S) -> Self::Out;
}

/// The vectors of this machine. Only [`Level::available`] makes one, so that none stands for
/// instructions that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// WebAssembly's fixed-width SIMD.
    #[cfg(all(target_arch = "wasm32", not(feature = "relaxed-simd")))]
    Simd128,
    /// The same with relaxed byte dot products and fused multiply-add.
    #[cfg(all(target_arch = "wasm32", feature = "relaxed-simd"))]
    Relaxed,
    /// The same where the browser makes one instruction of a dot product of four bytes.
    #[cfg(all(target_arch = "wasm32", feature = "relaxed-simd"))]
    RelaxedQuads,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// The same and AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// Plain Rust, vectorized by the compiler with the target's baseline (NEON, SSE2).
    #[cfg(not(target_arch = "wasm32"))]
    Portable,
}

impl Level {
    /// The best of this machine; in wasm, that of this build.
    #[must_use]
    pub fn best() -> Self {
        Self::available()[0]
    }

    /// All that run here, best first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        vec![
            #[cfg(all(target_arch = "wasm32", feature = "relaxed-simd"))]
            Level(Kind::RelaxedQuads),
            #[cfg(all(target_arch = "wasm32", feature = "relaxed-simd"))]
            Level(Kind::Relaxed),
            #[cfg(all(target_arch = "wasm32", not(feature = "relaxed-simd")))]
            Level(Kind::Simd128),
            #[cfg(target_arch = "x86_64")]
            Level(Kind::AvxVnni),
            #[cfg(target_arch = "x86_64")]
            Level(Kind::Avx2),
            #[cfg(not(target_arch = "wasm32"))]
            Level(Kind::Portable),
        ]
        .into_iter()
        .filter(|level| level.is_there())
        .collect()
    }

    fn is_there(self) -> bool {
        match self.0 {
            #[cfg(all(target_arch = "wasm32", feature = "relaxed-simd"))]
            Kind::RelaxedQuads => wasm::has_quads(),
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => Level(Kind::Avx2).is_there() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            _ => true,
        }
    }

    /// For people: `simd128`, `relaxed-simd`, `avx2`, `avx-vnni`, `portable`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(all(target_arch = "wasm32", not(feature = "relaxed-simd")))]
            Kind::Simd128 => "simd128",
            #[cfg(all(target_arch = "wasm32", feature = "relaxed-simd"))]
            Kind::Relaxed | Kind::RelaxedQuads => "relaxed-simd",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => "avx-vnni",
            #[cfg(not(target_arch = "wasm32"))]
            Kind::Portable => "portable",
        }
    }

    /// For people, what browsers differ in where the name is the same.
    #[must_use]
    pub fn dots(self) -> Option<&'static str> {
        match self.0 {
            #[cfg(all(target_arch = "wasm32", feature = "relaxed-simd"))]
            Kind::RelaxedQuads => Some("dot products of four bytes"),
            _ => None,
        }
    }

    /// [`Simd::BYTE_DOTS`].
    pub(super) fn has_byte_dots(self) -> bool {
        struct Ask;
        impl Kernel for Ask {
            type Out = bool;
            #[inline(always)]
            fn run<S: Simd>(self, _: S) -> bool {
                S::BYTE_DOTS
            }
        }
        self.run(Ask)
    }

    /// Runs a kernel with this level's vectors. Not inlined: engines keep the registers of a small function better.
    #[inline(never)]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Out {
        match self.0 {
            #[cfg(all(target_arch = "wasm32", not(feature = "relaxed-simd")))]
            Kind::Simd128 => kernel.run(wasm::Simd128),
            #[cfg(all(target_arch = "wasm32", feature = "relaxed-simd"))]
            Kind::Relaxed | Kind::RelaxedQuads => wasm::relaxed(kernel),
            // SAFETY: these levels exist only where `is_there` has found the features.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::AvxVnni => unsafe { avx2::enter(kernel) },
            #[cfg(not(target_arch = "wasm32"))]
            Kind::Portable => kernel.run(portable::Portable),
        }
    }

    /// The same, with dot products of four bytes where there are any. Apart, so that there is one code of all other kernels.
    #[inline(never)]
    pub(super) fn run_products<K: Kernel>(self, kernel: K) -> K::Out {
        match self.0 {
            #[cfg(all(target_arch = "wasm32", feature = "relaxed-simd"))]
            Kind::RelaxedQuads => wasm::relaxed_quads(kernel),
            // SAFETY: this level exists only where `is_there` has found the features.
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => unsafe { avx2::enter_vnni(kernel) },
            _ => self.run(kernel),
        }
    }
}
