//! Activations on their way into a matrix product: as floats, and quantized to integers.
//!
//! A block of 32 columns is `scale · q`, scale = max|x| / M, q integers in −M…M, so that each value is
//! off by at most half a step. Where there are dot products of i16 only, M is 32766. Where there are those of bytes, M is
//! 127, as in llama.cpp's Q8_0 and Q8_1, and a second byte for each value makes it 256 · 127 in the blocks that need
//! it. What either costs a model is measured in docs/NUMERICS.md.

use std::ops::Range;

use super::panel::BLOCK;
use super::simd::{Kernel, Level, Simd};
use super::team::{Spread, Team};

/// How finely activations are rounded before they meet a quantized weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bits {
    /// Eight, where dot products of bytes are faster (four- to six-bit weights, on machines that
    /// have them); else as [`Bits::Sixteen`].
    Eight,
    /// As [`Bits::Eight`], but sixteen in the blocks whose largest value is far above the row's usual one: those
    /// make nearly all of the error.
    #[default]
    Mixed,
    /// Sixteen: as good as f32.
    Sixteen,
}

impl Bits {
    /// In order of their numbers.
    pub const ALL: [Bits; 3] = [Bits::Eight, Bits::Mixed, Bits::Sixteen];

    /// For people, where it is not [`Bits::Sixteen`]; levels without dot products of bytes know nothing else.
    #[must_use]
    pub fn label(self, level: Level) -> Option<&'static str> {
        match self {
            Bits::Eight if level.has_byte_dots() => Some("8-bit activations"),
            Bits::Mixed if level.has_byte_dots() => Some("8- and 16-bit activations"),
            _ => None,
        }
    }
}

/// M of bytes; a fine block has 256 times the steps.
const BYTE: f32 = 127.0;
/// The most of a block that bytes take, in root mean squares of its row.
const MOST_OF_BYTES: f32 = 3.0;
/// M of words: 258 · 127, so that words hold exactly what bytes do.
const WORD: f32 = 32_766.0;
/// Rounding a float takes so many times as long as what else is done to one.
const QUANTIZE: usize = 4;

/// One block of a row for dot products of i16.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Zeroable)]
pub struct Words {
    /// The quantized values, two i16 each, in order.
    pub q: [i32; 16],
    /// What 1 is worth, and sums.
    pub sums: Sums,
}

/// One block of a row for dot products of bytes: 256 · high + low. Eight times four bytes each, in the order of the nibbles
/// of a panel (columns 0 4 1 5 and 2 6 3 7 of each octet).
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Zeroable)]
pub struct Bytes {
    /// The upper bytes.
    pub high: [i32; 8],
    /// The lower bytes, signed; all zero if not `fine`.
    pub low: [i32; 8],
    /// What 1 is worth, and sums.
    pub sums: Sums,
    /// Whether `low` counts.
    pub fine: bool,
}

/// What a product needs to know of a block beside its integers.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Zeroable)]
pub struct Sums {
    /// What 1 is worth. NaN if a value is, so that the damage shows.
    pub scale: f32,
    /// scale · Σ q.
    pub sum: f32,
    /// Σ q.
    pub count: i32,
    /// Σ q of the first half.
    pub first: i32,
}

/// Rows of activations, quantized when a weight format asks for it.
#[derive(Default)]
pub struct Activations {
    rows: usize,
    cols: usize,
    floats: Vec<f32>,
    bytes: Vec<Bytes>,
    words: Vec<Words>,
    /// Whether these rows are in `bytes`, in `words`.
    has_bytes: bool,
    has_words: bool,
}

/// What a product reads: plain slices, so that any thread can take a copy along.
#[derive(Clone, Copy)]
pub struct View<'a> {
    rows: usize,
    cols: usize,
    floats: &'a [f32],
    bytes: &'a [Bytes],
    words: &'a [Words],
}

impl<'a> View<'a> {
    /// Rows held.
    #[inline(always)]
    pub fn rows(self) -> usize {
        self.rows
    }

    #[inline(always)]
    fn blocks(self, t: usize) -> Range<usize> {
        let blocks = self.cols.div_ceil(BLOCK);
        t * blocks..(t + 1) * blocks
    }

    /// Row `t`, without its padding.
    #[inline(always)]
    pub fn row(self, t: usize) -> &'a [f32] {
        let stride = self.cols.next_multiple_of(BLOCK);
        &self.floats[t * stride..t * stride + self.cols]
    }

    /// Row `t` for byte dot products.
    #[inline(always)]
    pub fn bytes(self, t: usize) -> &'a [Bytes] {
        &self.bytes[self.blocks(t)]
    }

    /// Row `t` for dot products of i16.
    #[inline(always)]
    pub fn words(self, t: usize) -> &'a [Words] {
        &self.words[self.blocks(t)]
    }
}

impl Activations {
    /// Makes room for (rows, cols), padded with zeros to whole blocks: all rows, to be written, and the floats from one to the
    /// next.
    pub fn room(&mut self, rows: usize, cols: usize) -> (&mut [f32], usize) {
        let stride = cols.next_multiple_of(BLOCK);
        (self.rows, self.cols) = (rows, cols);
        (self.has_bytes, self.has_words) = (false, false);
        self.floats.resize(rows * stride, 0.0);
        if stride > cols {
            self.floats.chunks_exact_mut(stride).for_each(|row| row[cols..].fill(0.0));
        }
        (&mut self.floats, stride)
    }

    /// Fills it row by row.
    #[cfg(test)]
    pub fn set(&mut self, rows: usize, cols: usize, mut fill: impl FnMut(usize, &mut [f32])) {
        let (floats, stride) = self.room(rows, cols);
        floats.fill(0.0);
        for (t, row) in floats.chunks_exact_mut(stride.max(1)).enumerate() {
            fill(t, &mut row[..cols]);
        }
    }

    /// Rows held.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Blocks of a row.
    fn blocks(&self) -> usize {
        self.cols.div_ceil(BLOCK)
    }

    /// As products read them; [`Activations::quantize`] must have run.
    pub fn view(&self) -> View<'_> {
        let Activations { rows, cols, floats, bytes, words, .. } = self;
        View { rows: *rows, cols: *cols, floats, bytes, words }
    }

    /// Quantizes to bytes if bits are given, else to words, if that has not been done, on all threads.
    pub fn quantize(&mut self, level: Level, bytes: Option<Bits>, team: &mut Team) {
        let (rows, blocks) = (self.rows, self.blocks());
        let (stride, floats) = (blocks * BLOCK, self.floats.as_slice());
        let row = move |t: usize| &floats[t * stride..(t + 1) * stride];
        match bytes {
            Some(bits) if !self.has_bytes => {
                self.has_bytes = true;
                self.bytes.resize(rows * blocks, bytemuck::Zeroable::zeroed());
                let out = Spread::new(&mut self.bytes);
                team.rows(rows, QUANTIZE * stride, move |t, _| {
                    // SAFETY: each row is taken once.
                    let to = unsafe { out.part(t * blocks..(t + 1) * blocks) };
                    level.run(ToBytes { row: row(t), bits, to });
                });
            }
            None if !self.has_words => {
                self.has_words = true;
                self.words.resize(rows * blocks, bytemuck::Zeroable::zeroed());
                let out = Spread::new(&mut self.words);
                team.rows(rows, QUANTIZE * stride, move |t, _| {
                    // SAFETY: each row is taken once.
                    let to = unsafe { out.part(t * blocks..(t + 1) * blocks) };
                    level.run(ToWords { row: row(t), to });
                });
            }
            _ => {}
        }
    }
}

/// Four bytes each, in the order of a panel's nibbles.
#[inline(always)]
fn nibbles(q: &[i32; BLOCK]) -> [i32; 8] {
    let mut words = [0; 8];
    for (i, word) in words.iter_mut().enumerate() {
        let octet = 8 * (i / 2);
        let columns = if i % 2 == 0 { [0, 4, 1, 5] } else { [2, 6, 3, 7] };
        for (byte, c) in columns.into_iter().enumerate() {
            *word |= (q[octet + c] & 0xff) << (8 * byte);
        }
    }
    words
}

/// The largest magnitude of a block, and 0, or NaN if a value is not finite: 0 · ∞.
#[inline(always)]
fn most<S: Simd>(s: S, block: &[f32; BLOCK]) -> (f32, f32) {
    let (mut most, mut sum) = (s.splat(0.0), s.splat(0.0));
    for x in block.as_chunks::<8>().0 {
        let x = s.load(x);
        most = s.max(most, s.max(x, s.sub(s.splat(0.0), x)));
        sum = s.add(sum, x);
    }
    (s.max_lane(most), 0.0 * s.sum(sum))
}

/// The integers nearest to block · factor.
#[inline(always)]
fn round<S: Simd>(s: S, block: &[f32; BLOCK], factor: f32) -> [i32; BLOCK] {
    // Adding 1.5 · 2^23 rounds to the nearest integer and leaves it in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    let mut q = [0; BLOCK];
    for (x, q) in block.as_chunks::<8>().0.iter().zip(q.as_chunks_mut::<8>().0) {
        let mut rounded = [0.0; 8];
        s.store(s.add(s.mul(s.load(x), s.splat(factor)), s.splat(MAGIC)), &mut rounded);
        for (q, rounded) in q.iter_mut().zip(rounded) {
            // Integers of values that are not finite may be any: then the scale is not finite either.
            *q = (rounded.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
        }
    }
    q
}

impl Sums {
    #[inline(always)]
    fn of(q: &[i32; BLOCK], unit: i32, scale: f32) -> Self {
        let (mut count, mut first) = (0i32, 0);
        for (i, q) in q.iter().enumerate() {
            if i == BLOCK / 2 {
                first = count;
            }
            count = count.wrapping_add(*q);
        }
        let (count, first) = (count.wrapping_mul(unit), first.wrapping_mul(unit));
        Sums { scale, sum: scale * count as f32, count, first }
    }
}

struct ToWords<'a> {
    row: &'a [f32],
    to: &'a mut [Words],
}

impl Kernel for ToWords<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (block, to) in self.row.as_chunks::<BLOCK>().0.iter().zip(self.to) {
            let (most, zero) = most(s, block);
            let q = round(s, block, if most > 0.0 { WORD / most } else { 0.0 });
            let sums = Sums::of(&q, 1, most / WORD + zero);
            let mut words = [0; 16];
            for (word, q) in words.iter_mut().zip(q.as_chunks::<2>().0) {
                *word = q[0] & 0xffff | q[1] << 16;
            }
            *to = Words { q: words, sums };
        }
    }
}

struct ToBytes<'a> {
    row: &'a [f32],
    bits: Bits,
    to: &'a mut [Bytes],
}

impl Kernel for ToBytes<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (limit, every) = match self.bits {
            Bits::Eight => (f32::INFINITY, usize::MAX),
            Bits::Sixteen => (0.0, usize::MAX),
            Bits::Mixed => match usual(s, self.row) {
                // A row of zeros, as where a load is rehearsed without weights, is to take as long as others: a third of
                // theirs is fine.
                0.0 => (0.0, 3),
                usual => (MOST_OF_BYTES * usual, usize::MAX),
            },
        };
        for (i, (block, to)) in self.row.as_chunks::<BLOCK>().0.iter().zip(self.to).enumerate() {
            let (most, zero) = most(s, block);
            let fine = most > limit || (i + 1).is_multiple_of(every);
            let scale = most / (256.0 * BYTE) + zero;
            let steps = if fine { 256.0 * BYTE } else { BYTE };
            let q = round(s, block, if most > 0.0 { steps / most } else { 0.0 });
            let sums = Sums::of(&q, if fine { 1 } else { 256 }, scale);
            let (high, low) = if fine {
                let mut high = q;
                for high in &mut high {
                    *high = high.wrapping_add(128) >> 8;
                }
                (nibbles(&high), nibbles(&q))
            } else {
                (nibbles(&q), [0; 8])
            };
            *to = Bytes { high, low, sums, fine };
        }
    }
}

/// The root of a row's mean square.
#[inline(always)]
fn usual<S: Simd>(s: S, row: &[f32]) -> f32 {
    let mut sum = s.splat(0.0);
    for x in row.as_chunks::<8>().0 {
        let x = s.load(x);
        sum = s.mul_add(x, x, sum);
    }
    (s.sum(sum) / row.len() as f32).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The integers of a block of words, in order of columns.
    fn of_words(block: &Words) -> Vec<i32> {
        (0..BLOCK).map(|c| i32::from((block.q[c / 2] >> (16 * (c % 2))) as i16)).collect()
    }

    /// The same of bytes.
    fn of_bytes(block: &Bytes) -> Vec<i32> {
        (0..BLOCK)
            .map(|c| {
                let place = [0, 2, 0, 2, 1, 3, 1, 3][c % 8];
                let group = 2 * (c / 8) + usize::from([2, 3, 6, 7].contains(&(c % 8)));
                let byte = |q: &[i32; 8]| i32::from(q[group].to_le_bytes()[place] as i8);
                256 * byte(&block.high) + byte(&block.low)
            })
            .collect()
    }

    fn check(q: &[i32], sums: &Sums, values: &[f32], step: i32, largest: i32) {
        for (q, value) in q.iter().zip(values) {
            let error = (sums.scale * *q as f32 - value).abs();
            assert!(error <= sums.scale * step as f32 * 0.507, "{value} is {error} off");
            assert!(q.abs() <= largest);
            assert_eq!(q % step, 0);
        }
        assert!(q.iter().any(|q| q.abs() == largest), "the scale wastes range");
        assert_eq!(sums.count, q.iter().sum::<i32>());
        assert_eq!(sums.first, q[..16].iter().sum::<i32>());
        assert_eq!(sums.sum, sums.scale * sums.count as f32);
    }

    #[test]
    fn values_come_back_within_half_a_step() {
        // The third block's largest value is far above the others'.
        let mut values: Vec<f32> = (0..320).map(|i| ((i * 37 % 64) as f32 - 30.3) * 0.37).collect();
        values[70] = -90.0;
        for level in Level::available() {
            let mut x = Activations::default();
            x.set(1, 320, |_, row| row.copy_from_slice(&values));
            x.quantize(level, None, &mut Team::solo());
            for (block, values) in x.view().words(0).iter().zip(values.chunks_exact(BLOCK)) {
                check(&of_words(block), &block.sums, values, 1, 32766);
            }
            for bits in [Bits::Eight, Bits::Mixed, Bits::Sixteen] {
                x.set(1, 320, |_, row| row.copy_from_slice(&values));
                x.quantize(level, Some(bits), &mut Team::solo());
                for (b, (block, values)) in
                    x.view().bytes(0).iter().zip(values.chunks_exact(BLOCK)).enumerate()
                {
                    let fine = bits == Bits::Sixteen || bits == Bits::Mixed && b == 2;
                    assert_eq!(block.fine, fine, "{bits:?} {b}");
                    check(&of_bytes(block), &block.sums, values, if fine { 1 } else { 256 }, 32512);
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_shows() {
        for level in Level::available() {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                // One alone, and so many that sums of their integers do not fit.
                for count in [1, 20, 32] {
                    for bits in [None, Some(Bits::Eight), Some(Bits::Mixed), Some(Bits::Sixteen)] {
                        let mut x = Activations::default();
                        x.set(1, 32, |_, row| row[32 - count..].fill(bad));
                        x.quantize(level, bits, &mut Team::solo());
                        let scale = match bits {
                            Some(_) => x.view().bytes(0)[0].sums.scale,
                            None => x.view().words(0)[0].sums.scale,
                        };
                        assert!(!scale.is_finite(), "{count} × {bad}");
                    }
                }
            }
        }
    }
}
