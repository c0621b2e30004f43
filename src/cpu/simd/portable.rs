//! Plain arrays; the compiler vectorizes the loops for the target's baseline.

use super::Simd;

/// Works everywhere.
#[derive(Clone, Copy)]
pub struct Portable;

/// Low and high i16 of an i32 lane.
#[inline(always)]
fn words(lane: u32) -> [i32; 2] {
    [i32::from(lane as i16), i32::from((lane >> 16) as i16)]
}

#[inline(always)]
fn map<A: Copy, B: Copy, R>(a: [A; 8], b: [B; 8], f: impl Fn(A, B) -> R) -> [R; 8] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    type I = [u32; 8];
    type F = [f32; 8];
    const BYTE_DOTS: bool = false;

    #[inline(always)]
    fn load_bytes(self, from: &[u8; 32]) -> [u32; 8] {
        std::array::from_fn(|i| {
            u32::from_le_bytes([from[4 * i], from[4 * i + 1], from[4 * i + 2], from[4 * i + 3]])
        })
    }
    #[inline(always)]
    fn load_widened(self, from: &[u8; 16]) -> [u32; 8] {
        std::array::from_fn(|i| {
            let [low, high] = [from[2 * i], from[2 * i + 1]].map(|b| u32::from(b as i8 as i16 as u16));
            low | high << 16
        })
    }
    #[inline(always)]
    fn splat_i32(self, value: i32) -> [u32; 8] {
        [value as u32; 8]
    }
    #[inline(always)]
    fn and(self, a: [u32; 8], b: [u32; 8]) -> [u32; 8] {
        map(a, b, |a, b| a & b)
    }
    #[inline(always)]
    fn or(self, a: [u32; 8], b: [u32; 8]) -> [u32; 8] {
        map(a, b, |a, b| a | b)
    }
    #[inline(always)]
    fn shr16(self, a: [u32; 8], by: u32) -> [u32; 8] {
        let keep = 0xffff >> by;
        a.map(|a| a >> by & (keep | keep << 16))
    }
    #[inline(always)]
    fn shl16(self, a: [u32; 8], by: u32) -> [u32; 8] {
        let keep = 0xffff << by & 0xffff;
        a.map(|a| a << by & (keep | keep << 16))
    }
    #[inline(always)]
    fn shl32(self, a: [u32; 8], by: u32) -> [u32; 8] {
        a.map(|a| a << by)
    }
    #[inline(always)]
    fn add_i32(self, a: [u32; 8], b: [u32; 8]) -> [u32; 8] {
        map(a, b, u32::wrapping_add)
    }
    #[inline(always)]
    fn dot_bytes(self, _: [u32; 8], _: [u32; 8], sum: [u32; 8]) -> [u32; 8] {
        sum // never called: BYTE_DOTS is false
    }
    #[inline(always)]
    fn add_pairs(self, a: [u32; 8]) -> [u32; 8] {
        a.map(|a| words(a).iter().sum::<i32>() as u32)
    }
    #[inline(always)]
    fn dot_words(self, w: [u32; 8], x: [u32; 8], sum: [u32; 8]) -> [u32; 8] {
        let products = map(w, x, |w, x| {
            let ([a, b], [c, d]) = (words(w), words(x));
            // Words of activations that are not finite may be any.
            a.wrapping_mul(c).wrapping_add(b.wrapping_mul(d)) as u32
        });
        map(sum, products, u32::wrapping_add)
    }
    #[inline(always)]
    fn store_words(self, a: [u32; 8], to: &mut [i32; 4]) {
        *to = std::array::from_fn(|i| (a[2 * i] & 0xffff | a[2 * i + 1] << 16) as i32);
    }
    #[inline(always)]
    fn to_floats(self, a: [u32; 8]) -> [f32; 8] {
        a.map(|a| a as i32 as f32)
    }
    #[inline(always)]
    fn as_floats(self, a: [u32; 8]) -> [f32; 8] {
        a.map(f32::from_bits)
    }
    #[inline(always)]
    fn as_ints(self, a: [f32; 8]) -> [u32; 8] {
        a.map(f32::to_bits)
    }
    #[inline(always)]
    fn load_f16(self, from: &[u8; 16]) -> [f32; 8] {
        std::array::from_fn(|i| half::f16::from_le_bytes([from[2 * i], from[2 * i + 1]]).to_f32())
    }
    #[inline(always)]
    fn load_small_f16(self, from: &[u16; 8]) -> [f32; 8] {
        from.map(|half| f32::from_bits((i32::from(half as i16) << 13) as u32 & !0x7000_1fff))
    }
    #[inline(always)]
    fn load_i8(self, from: &[u8; 8]) -> [f32; 8] {
        from.map(|byte| f32::from(byte as i8))
    }
    #[inline(always)]
    fn load_bf16(self, from: &[u8; 16]) -> [f32; 8] {
        std::array::from_fn(|i| f32::from_bits(u32::from_le_bytes([0, 0, from[2 * i], from[2 * i + 1]])))
    }
    #[inline(always)]
    fn load(self, from: &[f32; 8]) -> [f32; 8] {
        *from
    }
    #[inline(always)]
    fn store(self, a: [f32; 8], to: &mut [f32; 8]) {
        *to = a;
    }
    #[inline(always)]
    fn splat(self, value: f32) -> [f32; 8] {
        [value; 8]
    }
    #[inline(always)]
    fn add(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        map(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        map(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        map(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        map(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn max(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        map(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn mul_add(self, a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
}
