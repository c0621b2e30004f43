//! What happens between the matrix products: norms, RoPE, activations, sums.

use crate::graph::{Act, NormKind, RopePairs};

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

/// out = gain · norm(x) + bias.
pub fn norm(
    level: Level,
    kind: NormKind,
    x: &[f32],
    gain: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
) {
    match kind {
        NormKind::Rms => rms_norm(level, x, gain, eps, out),
        NormKind::Layer => level.run(Layer { x, gain, eps, out }),
    }
    if let Some(bias) = bias {
        add(level, out, bias);
    }
}

struct Layer<'a> {
    x: &'a [f32],
    gain: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for Layer<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, rest) = self.x.as_chunks::<8>();
        let count = self.x.len() as f32;
        let mut sum = s.splat(0.0);
        for x in x {
            sum = s.add(sum, s.load(x));
        }
        let mean = rest.iter().fold(s.sum(sum), |sum, x| sum + x) / count;
        let mut squares = s.splat(0.0);
        for x in x {
            let x = s.sub(s.load(x), s.splat(mean));
            squares = s.mul_add(x, x, squares);
        }
        let squares = rest.iter().fold(s.sum(squares), |sum, x| sum + (x - mean) * (x - mean));
        let factor = 1.0 / (squares / count + self.eps).sqrt();
        let (gain, gain_rest) = self.gain.as_chunks::<8>();
        let (out, out_rest) = self.out.as_chunks_mut::<8>();
        for ((x, gain), out) in x.iter().zip(gain).zip(out) {
            let x = s.sub(s.load(x), s.splat(mean));
            s.store(s.mul(s.mul(x, s.splat(factor)), s.load(gain)), out);
        }
        for ((x, gain), out) in rest.iter().zip(gain_rest).zip(out_rest) {
            *out = (x - mean) * factor * gain;
        }
    }
}

/// out = act(gate) ⊙ up.
pub fn gated(level: Level, act: Act, gate: &[f32], up: &[f32], out: &mut [f32]) {
    level.run(Gated { act, gate, up, out });
}

struct Gated<'a> {
    act: Act,
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Gated<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (gate, gate_rest) = self.gate.as_chunks::<8>();
        let (up, up_rest) = self.up.as_chunks::<8>();
        let (out, out_rest) = self.out.as_chunks_mut::<8>();
        for ((gate, up), out) in gate.iter().zip(up).zip(out) {
            s.store(s.mul(act(s, self.act, s.load(gate)), s.load(up)), out);
        }
        let (mut gate, mut out) = ([0.0; 8], [0.0; 8]);
        gate[..gate_rest.len()].copy_from_slice(gate_rest);
        s.store(act(s, self.act, s.load(&gate)), &mut out);
        for ((gate, up), out) in out.iter().zip(up_rest).zip(out_rest) {
            *out = gate * up;
        }
    }
}

/// x = act(x).
pub fn map(level: Level, act: Act, x: &mut [f32]) {
    level.run(Map { act, x });
}

struct Map<'a> {
    act: Act,
    x: &'a mut [f32],
}

impl Kernel for Map<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, rest) = self.x.as_chunks_mut::<8>();
        for x in x {
            s.store(act(s, self.act, s.load(x)), x);
        }
        let mut last = [0.0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let mapped = act(s, self.act, s.load(&last));
        s.store(mapped, &mut last);
        let count = rest.len();
        rest.copy_from_slice(&last[..count]);
    }
}

/// A function of eight values.
#[inline(always)]
fn act<S: Simd>(s: S, act: Act, x: S::F) -> S::F {
    let one = s.splat(1.0);
    match act {
        Act::Silu => s.div(x, s.add(one, s.exp(s.sub(s.splat(0.0), x)))),
        Act::Gelu => {
            // -2 √(2/π)
            let factor = s.splat(-1.595_769);
            let cubic = s.mul_add(s.mul(s.mul(x, x), x), s.splat(0.044_715), x);
            s.div(x, s.add(one, s.exp(s.mul(factor, cubic))))
        }
        Act::Cap(cap) => {
            // tanh(a) = 1 - 2 / (e^2a + 1)
            let e = s.exp(s.mul(x, s.splat(2.0 / cap)));
            s.mul(s.splat(cap), s.sub(one, s.div(s.splat(2.0), s.add(e, one))))
        }
    }
}

/// x = x · factor.
pub fn scale(level: Level, by: f32, x: &mut [f32]) {
    level.run(Scale { by, x });
}

struct Scale<'a> {
    by: f32,
    x: &'a mut [f32],
}

impl Kernel for Scale<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, rest) = self.x.as_chunks_mut::<8>();
        for x in x {
            s.store(s.mul(s.load(x), s.splat(self.by)), x);
        }
        rest.iter_mut().for_each(|x| *x *= self.by);
    }
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
