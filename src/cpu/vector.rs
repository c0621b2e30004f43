//! What happens between the matrix products: RMSNorm, RoPE, SwiGLU, sums.

use crate::graph::RopePairs;

use super::simd::{Kernel, Level, Simd};

/// out = x / rms(x) · gain.
pub fn rms_norm(level: Level, x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) {
    level.run(RmsNorm { x, gain, eps, out });
}

struct RmsNorm<'a> {
    x: &'a [f32],
    gain: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, rest) = self.x.as_chunks::<8>();
        let mut squares = s.splat(0.0);
        for x in x {
            let x = s.load(x);
            squares = s.mul_add(x, x, squares);
        }
        let squares = rest.iter().fold(s.sum(squares), |sum, x| sum + x * x);
        let factor = 1.0 / (squares / self.x.len() as f32 + self.eps).sqrt();
        let (gain, gain_rest) = self.gain.as_chunks::<8>();
        let (out, out_rest) = self.out.as_chunks_mut::<8>();
        for ((x, gain), out) in x.iter().zip(gain).zip(out) {
            s.store(s.mul(s.mul(s.load(x), s.splat(factor)), s.load(gain)), out);
        }
        for ((x, gain), out) in rest.iter().zip(gain_rest).zip(out_rest) {
            *out = x * factor * gain;
        }
    }
}

/// out = silu(gate) ⊙ up, silu(a) = a / (1 + e^-a).
pub fn swiglu(level: Level, gate: &[f32], up: &[f32], out: &mut [f32]) {
    level.run(SwiGlu { gate, up, out });
}

struct SwiGlu<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for SwiGlu<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (gate, gate_rest) = self.gate.as_chunks::<8>();
        let (up, up_rest) = self.up.as_chunks::<8>();
        let (out, out_rest) = self.out.as_chunks_mut::<8>();
        for ((gate, up), out) in gate.iter().zip(up).zip(out) {
            eight(s, gate, up, out);
        }
        let n = out_rest.len();
        let (mut a, mut b, mut c) = ([0.0; 8], [0.0; 8], [0.0; 8]);
        a[..n].copy_from_slice(gate_rest);
        b[..n].copy_from_slice(up_rest);
        eight(s, &a, &b, &mut c);
        out_rest.copy_from_slice(&c[..n]);
    }
}

#[inline(always)]
fn eight<S: Simd>(s: S, gate: &[f32; 8], up: &[f32; 8], out: &mut [f32; 8]) {
    let gate = s.load(gate);
    let e = s.exp(s.sub(s.splat(0.0), gate));
    let silu = s.div(gate, s.add(s.splat(1.0), e));
    s.store(s.mul(silu, s.load(up)), out);
}

/// a += b.
pub fn add(level: Level, a: &mut [f32], b: &[f32]) {
    level.run(Add { a, b });
}

struct Add<'a> {
    a: &'a mut [f32],
    b: &'a [f32],
}

impl Kernel for Add<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (a, a_rest) = self.a.as_chunks_mut::<8>();
        let (b, b_rest) = self.b.as_chunks::<8>();
        for (a, b) in a.iter_mut().zip(b) {
            s.store(s.add(s.load(a), s.load(b)), a);
        }
        for (a, b) in a_rest.iter_mut().zip(b_rest) {
            *a += b;
        }
    }
}

/// Rotates the pairs of a head by `turns`, the (cos, sin) of each pair at the head's position. Elements behind the last
/// pair stay as they are.
pub fn rope(head: &mut [f32], turns: &[f32], pairs: RopePairs) {
    let rotated = &mut head[..turns.len()];
    let turns = turns.as_chunks::<2>().0;
    match pairs {
        RopePairs::Adjacent => {
            for (pair, turn) in rotated.as_chunks_mut::<2>().0.iter_mut().zip(turns) {
                let ([a, b], [cos, sin]) = (*pair, *turn);
                *pair = [a * cos - b * sin, a * sin + b * cos];
            }
        }
        RopePairs::Halves => {
            let (low, high) = rotated.split_at_mut(turns.len());
            for ((a, b), [cos, sin]) in low.iter_mut().zip(high).zip(turns) {
                (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
            }
        }
    }
}
