//! What is computed for up to four query rows and a span.

use std::f32::consts::LOG2_E;
use std::marker::PhantomData;
use std::ops::Range;

use super::super::panel::BLOCK;
use super::super::simd::{Kernel, Simd};
use super::cache::{Cell, Head, LANES, TILE};
use super::{SPAN, TOGETHER};

/// Largest whole number that factors of bytes are rounded to.
const WORD: f32 = 32_766.0;
/// Adding 1.5 · 2^23 rounds to the nearest integer and leaves it in the low bits.
const MAGIC: f32 = 12_582_912.0;
/// Cells of V's columns of a block.
const BLOCK_OCTETS: usize = BLOCK / LANES;

/// What a query row is beside its values.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Query {
    /// Factor of its scores.
    factor: f32,
    /// 0, or NaN if it holds what is not finite.
    poison: f32,
    /// The greatest score of all spans so far.
    pub highest: f32,
    /// Σ 2^(score - highest) of all spans so far.
    pub total: f32,
    /// The same of one span.
    pub span_highest: f32,
    pub span_total: f32,
}

impl Query {
    pub const FLOATS: usize = size_of::<Query>() / 4;

    /// Floats as queries.
    pub fn cast(floats: &mut [f32]) -> &mut [Query] {
        bytemuck::cast_slice_mut(floats)
    }
}

/// Memory for a span.
pub struct Span<'a> {
    /// (N, SPAN): scores, then what they are as powers of 2.
    pub p: &'a mut [f32],
    /// (N, D).
    pub sums: &'a mut [f32],
}

/// Floats of a [`Span`].
pub fn span_floats(dim: usize) -> usize {
    TOGETHER * (SPAN + dim)
}

impl<'a> Span<'a> {
    /// Of so many rows.
    pub fn new(floats: &'a mut [f32], dim: usize, rows: usize) -> Self {
        let (p, sums) = floats.split_at_mut(TOGETHER * SPAN);
        Span { p: &mut p[..rows * SPAN], sums: &mut sums[..rows * dim] }
    }
}

/// How cells meet queries and powers.
pub trait Operand: Cell {
    /// Powers are lifted by 2^LIFT.
    const LIFT: i32;
    /// What sums of values are to be multiplied with.
    const WORTH: f32;

    /// Puts a query into column `n` of factors (D / pair, `of`), and returns how much the factors are worth.
    fn prepare<S: Simd>(s: S, q: &[f32], factors: &mut [f32], n: usize, of: usize) -> f32;

    /// For eight positions, Σ of a panel's D columns times factors.
    fn scores<S: Simd, const N: usize>(
        s: S,
        panel: &[Self],
        scales: &[[f32; 8]],
        factors: &[f32],
    ) -> [S::F; N];

    /// See [`Values`].
    fn values<S: Simd, const N: usize>(s: S, values: Values<'_, Self, N>);
}

/// Cells that are widened to floats.
trait Float: Cell {
    /// What queries are multiplied with, and what sums are then to be multiplied with. Both are powers of 2, so that
    /// widening may leave the exponent as it is.
    const SHIFT: [f32; 2];
    /// [`Operand::LIFT`].
    const LIFT: i32;
    /// [`Operand::WORTH`].
    const WORTH: f32;
    fn load<S: Simd>(&self, s: S) -> S::F;
}

impl Float for [f32; 8] {
    const SHIFT: [f32; 2] = [1.0; 2];
    const LIFT: i32 = 0;
    const WORTH: f32 = 1.0;
    #[inline(always)]
    fn load<S: Simd>(&self, s: S) -> S::F {
        s.load(self)
    }
}

/// 2^-112 of what they are: a query brings 2^60 and its score 2^52; a power brings 2^100 and the sum 2^12.
impl Float for [u16; 8] {
    const SHIFT: [f32; 2] = [(1u64 << 60) as f32, (1u64 << 52) as f32];
    const LIFT: i32 = 100;
    const WORTH: f32 = 4096.0;
    #[inline(always)]
    fn load<S: Simd>(&self, s: S) -> S::F {
        s.load_small_f16(self)
    }
}

impl<C: Float> Operand for C {
    const LIFT: i32 = <C as Float>::LIFT;
    const WORTH: f32 = <C as Float>::WORTH;

    #[inline(always)]
    fn prepare<S: Simd>(_: S, q: &[f32], factors: &mut [f32], n: usize, of: usize) -> f32 {
        for (to, q) in factors.chunks_exact_mut(of).zip(q) {
            to[n] = q * C::SHIFT[0];
        }
        C::SHIFT[1]
    }

    #[inline(always)]
    fn scores<S: Simd, const N: usize>(s: S, panel: &[Self], _: &[[f32; 8]], factors: &[f32]) -> [S::F; N] {
        let mut sums = [s.splat(0.0); N];
        for (cell, factors) in panel.iter().zip(factors.as_chunks::<N>().0) {
            let cell = cell.load(s);
            for n in 0..N {
                sums[n] = s.mul_add(cell, s.splat(factors[n]), sums[n]);
            }
        }
        sums
    }

    #[inline(always)]
    fn values<S: Simd, const N: usize>(s: S, values: Values<'_, Self, N>) {
        let Values { head, dim, tile, here, p, sums } = values;
        sums.fill(0.0);
        for first in (here.start / TILE * TILE..here.end).step_by(TILE) {
            let v = of_tile(head.v, dim * TILE / LANES, tile + first / TILE);
            let mut powers = [&[0.0; TILE]; N];
            for n in 0..N {
                powers[n] = &p[n * SPAN + first..].as_chunks().0[0];
            }
            let Range { start, end } = ends(&here, first);
            for (octet, v) in v.as_chunks::<TILE>().0.iter().enumerate() {
                let mut total = load_rows::<S, N>(s, sums, dim, octet);
                for i in start..end {
                    let cell = v[i].load(s);
                    for n in 0..N {
                        total[n] = s.mul_add(cell, s.splat(powers[n][i]), total[n]);
                    }
                }
                store_rows(s, total, sums, dim, octet);
            }
        }
    }
}

/// Sixteen bytes meet words: dot products of whole numbers.
impl Operand for [i8; 16] {
    const LIFT: i32 = 0;
    const WORTH: f32 = 1.0;

    #[inline(always)]
    fn prepare<S: Simd>(s: S, q: &[f32], factors: &mut [f32], n: usize, of: usize) -> f32 {
        let mut most = s.splat(0.0);
        for q in q.as_chunks().0 {
            let q = s.load(q);
            most = s.max(most, s.max(q, s.sub(s.splat(0.0), q)));
        }
        let (steps, worth) = steps(s.max_lane(most));
        let words: &mut [i32] = bytemuck::cast_slice_mut(factors);
        for (q, words) in q.as_chunks().0.iter().zip(words.chunks_exact_mut(LANES / 2 * of)) {
            let mut pairs = [0; LANES / 2];
            s.store_words(round(s, s.mul(s.load(q), s.splat(steps))), &mut pairs);
            for (to, pair) in words.chunks_exact_mut(of).zip(pairs) {
                to[n] = pair;
            }
        }
        worth
    }

    #[inline(always)]
    fn scores<S: Simd, const N: usize>(
        s: S,
        panel: &[Self],
        scales: &[[f32; 8]],
        factors: &[f32],
    ) -> [S::F; N] {
        let mut sums = [s.splat(0.0); N];
        let words: &[i32] = bytemuck::cast_slice(factors);
        let words = words.as_chunks::<N>().0.chunks(BLOCK / 2);
        for ((cells, words), scale) in panel.chunks(BLOCK / 2).zip(words).zip(scales) {
            let mut whole = [s.splat_i32(0); N];
            for (cell, words) in cells.iter().zip(words) {
                let cell = s.load_widened(bytemuck::cast_ref(cell));
                for n in 0..N {
                    whole[n] = s.dot_words(cell, s.splat_i32(words[n]), whole[n]);
                }
            }
            let scale = s.load(scale);
            for n in 0..N {
                sums[n] = s.mul_add(s.to_floats(whole[n]), scale, sums[n]);
            }
        }
        sums
    }

    #[inline(always)]
    fn values<S: Simd, const N: usize>(s: S, values: Values<'_, Self, N>) {
        let Values { head, dim, tile, here, p, sums } = values;
        sums.fill(0.0);
        let blocks = dim.div_ceil(BLOCK);
        for first in (here.start / TILE * TILE..here.end).step_by(TILE) {
            let v = of_tile(head.v, dim * TILE / LANES / 2, tile + first / TILE);
            let v = v.as_chunks::<{ TILE / 2 }>().0;
            let scales = of_tile(head.v_scales, blocks * TILE, tile + first / TILE).as_chunks().0;
            let Range { start, end } = ends(&here, first);
            for (block, (v, scales)) in v.chunks(BLOCK_OCTETS).zip(scales).enumerate() {
                let (mut words, mut worth) = ([[0; TILE / 2]; N], [0.0; N]);
                for n in 0..N {
                    let p = &p[n * SPAN + first..].as_chunks().0[0];
                    worth[n] = weigh(s, p, scales, start / LANES..end.div_ceil(LANES), &mut words[n]);
                }
                for (octet, v) in v.iter().enumerate() {
                    let octet = block * BLOCK_OCTETS + octet;
                    let mut whole = [s.splat_i32(0); N];
                    for i in start / 2..end.div_ceil(2) {
                        let cell = s.load_widened(bytemuck::cast_ref(&v[i]));
                        for n in 0..N {
                            whole[n] = s.dot_words(cell, s.splat_i32(words[n][i]), whole[n]);
                        }
                    }
                    let mut total = load_rows::<S, N>(s, sums, dim, octet);
                    for n in 0..N {
                        total[n] = s.mul_add(s.to_floats(whole[n]), s.splat(worth[n]), total[n]);
                    }
                    store_rows(s, total, sums, dim, octet);
                }
            }
        }
    }
}

/// Whole numbers for a tile's powers times the scales of a block of V, and how much they are worth.
#[inline(always)]
fn weigh<S: Simd>(
    s: S,
    p: &[f32; TILE],
    scales: &[f32; TILE],
    panels: Range<usize>,
    words: &mut [i32; TILE / 2],
) -> f32 {
    let p = &p.as_chunks().0[panels.clone()];
    let scales = &scales.as_chunks().0[panels.clone()];
    let words = &mut words.as_chunks_mut().0[panels];
    let mut most = s.splat(0.0);
    for (p, scales) in p.iter().zip(scales) {
        most = s.max(s.mul(s.load(p), s.load(scales)), most);
    }
    let (steps, worth) = steps(s.max_lane(most));
    for ((p, scales), words) in p.iter().zip(scales).zip(words) {
        let weight = s.mul(s.load(p), s.load(scales));
        // Where the row sees nothing the scale may be anything: not a number then.
        let weight = s.max(s.mul(weight, s.splat(steps)), s.splat(0.0));
        s.store_words(round(s, weight), words);
    }
    worth
}

/// What makes numbers up to `most` words, and what a word is then worth.
fn steps(most: f32) -> (f32, f32) {
    // The inverse of a smaller number would be infinite.
    (if most > 1e-30 { WORD / most } else { 0.0 }, most / WORD)
}

/// To the nearest whole number.
#[inline(always)]
fn round<S: Simd>(s: S, a: S::F) -> S::I {
    s.add_i32(s.as_ints(s.add(a, s.splat(MAGIC))), s.splat_i32((MAGIC.to_bits() as i32).wrapping_neg()))
}

/// The `count` elements of a tile: tile 0 follows the last one.
#[inline(always)]
pub fn of_tile<T>(elements: &[T], count: usize, tile: usize) -> &[T] {
    &elements[tile % (elements.len() / count) * count..][..count]
}

/// Positions `here` of a tile that begins at `first`, counted from there.
#[inline(always)]
fn ends(here: &Range<usize>, first: usize) -> Range<usize> {
    here.start.saturating_sub(first).min(TILE)..here.end.saturating_sub(first).min(TILE)
}

#[inline(always)]
fn load_rows<S: Simd, const N: usize>(s: S, rows: &[f32], dim: usize, octet: usize) -> [S::F; N] {
    let mut loaded = [s.splat(0.0); N];
    for n in 0..N {
        loaded[n] = s.load(&rows[n * dim..].as_chunks().0[octet]);
    }
    loaded
}

#[inline(always)]
fn store_rows<S: Simd, const N: usize>(s: S, values: [S::F; N], rows: &mut [f32], dim: usize, octet: usize) {
    for n in 0..N {
        s.store(values[n], &mut rows[n * dim..].as_chunks_mut().0[octet]);
    }
}

/// Makes a query ready for its scores.
pub struct Prepare<'a, C> {
    pub q: &'a [f32],
    /// Factor of the scores.
    pub scale: f32,
    /// (D / pair, `of`).
    pub factors: &'a mut [f32],
    pub n: usize,
    pub of: usize,
    pub query: &'a mut Query,
    pub cells: PhantomData<C>,
}

impl<C: Operand> Kernel for Prepare<'_, C> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Prepare { q, scale, factors, n, of, query, .. } = self;
        let mut sum = s.splat(0.0);
        for q in q.as_chunks().0 {
            sum = s.add(sum, s.load(q));
        }
        *query = Query {
            factor: scale * C::prepare(s, q, factors, n, of),
            poison: 0.0 * s.sum(sum),
            highest: f32::NEG_INFINITY,
            total: 0.0,
            span_highest: f32::NEG_INFINITY,
            span_total: 0.0,
        };
    }
}

/// Scores of `N` rows, before their factor.
pub struct Scores<'a, C, const N: usize> {
    pub head: Head<'a, C>,
    pub dim: usize,
    /// The span's first.
    pub tile: usize,
    /// Positions of the span, whole panels.
    pub whole: Range<usize>,
    /// (D / pair, N).
    pub factors: &'a [f32],
    /// (N, SPAN).
    pub p: &'a mut [f32],
}

impl<C: Operand, const N: usize> Kernel for Scores<'_, C, N> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Scores { head, dim, tile, whole, factors, p } = self;
        let (cells, blocks) = (dim / C::PAIR, if C::SCALED { dim.div_ceil(BLOCK) } else { 0 });
        for panel in whole.start / LANES..whole.end / LANES {
            let (place, panel_of_tile) = (tile + panel / (TILE / LANES), panel % (TILE / LANES));
            let k = of_tile(head.k, cells * TILE / LANES, place);
            let k = &k[panel_of_tile * cells..][..cells];
            let mut scales: &[[f32; 8]] = &[];
            if C::SCALED {
                scales = of_tile(head.k_scales, blocks * TILE / LANES, place);
                scales = &scales[panel_of_tile * blocks..][..blocks];
            }
            let sums = C::scores::<S, N>(s, k, scales, factors);
            for n in 0..N {
                s.store(sums[n], &mut p[n * SPAN..].as_chunks_mut().0[panel]);
            }
        }
    }
}

/// Makes 2^(score - highest + lift) of a row's scores, of which it sees some.
pub struct Soften<'a> {
    /// Whole panels.
    pub p: &'a mut [f32],
    /// What the row sees of them.
    pub seen: Range<usize>,
    /// Soft cap of the scores; 0 is none.
    pub cap: f32,
    pub lift: i32,
    pub query: &'a mut Query,
}

impl Kernel for Soften<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Soften { p, seen, cap, lift, query } = self;
        if seen.is_empty() {
            p.fill(0.0);
            return;
        }
        let factor = s.splat(if cap > 0.0 { query.factor } else { query.factor * LOG2_E });
        for p in p.as_chunks_mut().0 {
            let mut score = s.mul(s.load(p), factor);
            if cap > 0.0 {
                score = s.mul(capped(s, score, cap), s.splat(LOG2_E));
            }
            s.store(score, p);
        }
        // What lies around may be anything, NaN included.
        p[..seen.start].fill(f32::NEG_INFINITY);
        p[seen.end..].fill(f32::NEG_INFINITY);
        let mut most = s.splat(f32::NEG_INFINITY);
        for p in p.as_chunks().0 {
            most = s.max(s.load(p), most);
        }
        let most = s.max_lane(most);
        for p in p.as_chunks_mut().0 {
            s.store(power(s, s.sub(s.load(p), s.splat(most)), lift), p);
        }
        p[..seen.start].fill(0.0);
        p[seen.end..].fill(0.0);
        let mut sum = s.splat(0.0);
        for p in p.as_chunks().0 {
            sum = s.add(sum, s.load(p));
        }
        query.span_highest = most;
        query.span_total = s.sum(sum) * f32::from_bits(((127 - lift) as u32) << 23) + query.poison;
    }
}

/// 2^(a + lift) within 3 ulp for a of at most 0; below -100 as at -100.
///
/// a = n + r; a polynomial, the best one of its degree, gives 2^r, and n goes into the exponent.
#[inline(always)]
#[allow(clippy::approx_constant)] // its coefficients are near those of the series, and not the same
fn power<S: Simd>(s: S, a: S::F, lift: i32) -> S::F {
    let a = s.max(a, s.splat(-100.0));
    let magic = s.splat(MAGIC + lift as f32);
    let shifted = s.add(a, magic);
    let r = s.sub(a, s.sub(shifted, magic));
    let mut p = s.splat(0.001_326_472_7);
    for coefficient in [0.009_671_513, 0.055_507_336, 0.240_222_42, 0.693_147, 1.0] {
        p = s.mul_add(p, r, s.splat(coefficient));
    }
    s.as_floats(s.add_i32(s.as_ints(p), s.shl32(s.as_ints(shifted), 23)))
}

/// cap · tanh(score / cap) = cap - 2 cap / (e^(2 score / cap) + 1).
#[inline(always)]
fn capped<S: Simd>(s: S, score: S::F, cap: f32) -> S::F {
    let e = s.exp(s.mul(score, s.splat(2.0 / cap)));
    s.sub(s.splat(cap), s.div(s.splat(2.0 * cap), s.add(e, s.splat(1.0))))
}

/// Sums of V's rows times powers, of `N` query rows: sums are overwritten.
pub struct Values<'a, C, const N: usize> {
    pub head: Head<'a, C>,
    pub dim: usize,
    /// The span's first.
    pub tile: usize,
    /// Positions of the span.
    pub here: Range<usize>,
    /// (N, SPAN).
    pub p: &'a [f32],
    /// (N, D).
    pub sums: &'a mut [f32],
}

impl<C: Operand, const N: usize> Kernel for Values<'_, C, N> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        C::values(s, self);
    }
}

/// Makes halves floats.
pub struct Widen<'a> {
    pub from: &'a [[u16; 8]],
    pub to: &'a mut [f32],
}

impl Kernel for Widen<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let exponent = s.splat(f32::from_bits((127 + 112) << 23));
        for (from, to) in self.from.iter().zip(self.to.as_chunks_mut().0) {
            s.store(s.mul(s.load_small_f16(from), exponent), to);
        }
    }
}

/// Adds what a span gave to what the spans before gave.
pub struct Merge<'a> {
    /// Of the span.
    pub sums: &'a [f32],
    /// What they are to be multiplied with.
    pub worth: f32,
    pub highest: f32,
    pub total: f32,
    /// So far.
    pub out: &'a mut [f32],
    pub highest_so_far: &'a mut f32,
    pub total_so_far: &'a mut f32,
}

impl Kernel for Merge<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Merge { sums, worth, highest, total, out, highest_so_far, total_so_far } = self;
        let most = if highest > *highest_so_far { highest } else { *highest_so_far };
        let mut factors = [0.0; 8];
        (factors[0], factors[1]) = (*highest_so_far - most, highest - most);
        let powers = power(s, s.load(&factors), 0);
        s.store(powers, &mut factors);
        let [old, new, ..] = factors;
        for (out, sums) in out.as_chunks_mut().0.iter_mut().zip(sums.as_chunks().0) {
            let kept = s.mul(s.load(out), s.splat(old));
            s.store(s.mul_add(s.load(sums), s.splat(new * worth), kept), out);
        }
        *total_so_far = *total_so_far * old + total * new;
        *highest_so_far = most;
    }
}
