//! Activations on their way into a matrix product: as floats, and quantized to integers.
//!
//! A block of 32 columns is `scale · q`, scale = max|x| / M, q integers in −M…M, so that each value is
//! off by at most half a step. M is 32766, or 127 for [`Bits::Eight`], as llama.cpp's Q8_0 and Q8_1.
//! What eight bits cost a small model is measured in docs/NUMERICS.md.

use std::ops::Range;

use super::panel::BLOCK;
use super::simd::{Kernel, Level, Simd};
use super::team::{Spread, Team};

/// How finely activations are rounded before they meet a quantized weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bits {
    /// Eight, where dot products of bytes are faster (four- and five-bit weights, on machines that
    /// have them); else as [`Bits::Sixteen`].
    Eight,
    /// Sixteen: as good as f32.
    #[default]
    Sixteen,
}

/// M of bytes.
const BYTE: f32 = 127.0;
/// M of words: 258 · 127, so that words hold exactly what bytes do.
const WORD: f32 = 32_766.0;
/// Rounding a float takes so many times as long as what else is done to one.
const QUANTIZE: usize = 4;

/// One block of a row. `N` words: eight of four bytes each, in the order of the nibbles of a panel
/// (columns 0 4 1 5 and 2 6 3 7 of each octet), or sixteen of two i16, in order.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Zeroable)]
pub struct Block<const N: usize> {
    /// The quantized values.
    pub q: [i32; N],
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
    bytes: Vec<Block<8>>,
    words: Vec<Block<16>>,
}

/// What a product reads: plain slices, so that any thread can take a copy along.
#[derive(Clone, Copy)]
pub struct View<'a> {
    rows: usize,
    cols: usize,
    floats: &'a [f32],
    bytes: &'a [Block<8>],
    words: &'a [Block<16>],
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
    pub fn bytes(self, t: usize) -> &'a [Block<8>] {
        &self.bytes[self.blocks(t)]
    }

    /// Row `t` for dot products of i16.
    #[inline(always)]
    pub fn words(self, t: usize) -> &'a [Block<16>] {
        &self.words[self.blocks(t)]
    }
}

impl Activations {
    /// Makes room for (rows, cols), padded with zeros to whole blocks: all rows, to be written, and the floats from one to the
    /// next.
    pub fn room(&mut self, rows: usize, cols: usize) -> (&mut [f32], usize) {
        let stride = cols.next_multiple_of(BLOCK);
        (self.rows, self.cols) = (rows, cols);
        self.bytes.clear();
        self.words.clear();
        self.floats.clear();
        self.floats.resize(rows * stride, 0.0);
        (&mut self.floats, stride)
    }

    /// Fills it row by row.
    #[cfg(test)]
    pub fn set(&mut self, rows: usize, cols: usize, mut fill: impl FnMut(usize, &mut [f32])) {
        let (floats, stride) = self.room(rows, cols);
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
        let Activations { rows, cols, floats, bytes, words } = self;
        View { rows: *rows, cols: *cols, floats, bytes, words }
    }

    /// Quantizes to bytes or words, if that has not been done, on all threads.
    pub fn quantize(&mut self, level: Level, to_bytes: bool, team: &mut Team) {
        let (rows, blocks) = (self.rows, self.blocks());
        let (stride, floats) = (blocks * BLOCK, self.floats.as_slice());
        let row = move |t: usize| &floats[t * stride..(t + 1) * stride];
        if to_bytes && self.bytes.len() != rows * blocks {
            self.bytes.resize(rows * blocks, bytemuck::Zeroable::zeroed());
            let out = Spread::new(&mut self.bytes);
            team.rows(rows, QUANTIZE * stride, move |t, _| {
                // SAFETY: each row is taken once.
                let to = unsafe { out.part(t * blocks..(t + 1) * blocks) };
                level.run(Quantize { floats: row(t), to, largest: BYTE, arrange: bytes });
            });
        }
        if !to_bytes && self.words.len() != rows * blocks {
            self.words.resize(rows * blocks, bytemuck::Zeroable::zeroed());
            let out = Spread::new(&mut self.words);
            team.rows(rows, QUANTIZE * stride, move |t, _| {
                // SAFETY: each row is taken once.
                let to = unsafe { out.part(t * blocks..(t + 1) * blocks) };
                level.run(Quantize { floats: row(t), to, largest: WORD, arrange: words });
            });
        }
    }
}

#[inline(always)]
fn bytes(q: &[i32; BLOCK]) -> [i32; 8] {
    std::array::from_fn(|i| {
        let octet = 8 * (i / 2);
        let columns = if i % 2 == 0 { [0, 4, 1, 5] } else { [2, 6, 3, 7] };
        i32::from_le_bytes(columns.map(|c| q[octet + c] as u8))
    })
}

#[inline(always)]
fn words(q: &[i32; BLOCK]) -> [i32; 16] {
    std::array::from_fn(|i| q[2 * i] & 0xffff | q[2 * i + 1] << 16)
}

struct Quantize<'a, const N: usize, A> {
    floats: &'a [f32],
    to: &'a mut [Block<N>],
    /// M.
    largest: f32,
    arrange: A,
}

impl<const N: usize, A: Fn(&[i32; BLOCK]) -> [i32; N]> Kernel for Quantize<'_, N, A> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // Adding 1.5 · 2^23 rounds to the nearest integer and leaves it in the low bits.
        const MAGIC: f32 = 12_582_912.0;
        for (block, to) in self.floats.as_chunks::<BLOCK>().0.iter().zip(self.to) {
            let x = block.as_chunks::<8>().0;
            let (mut most, mut sum) = (s.splat(0.0), s.splat(0.0));
            for x in x {
                let x = s.load(x);
                most = s.max(most, s.max(x, s.sub(s.splat(0.0), x)));
                sum = s.add(sum, x);
            }
            let most = s.max_lane(most);
            // Not a number if any value is not finite: 0 · ∞.
            let scale = most / self.largest + 0.0 * s.sum(sum);
            let inverse = if most > 0.0 { self.largest / most } else { 0.0 };
            let mut q = [0; BLOCK];
            let (mut count, mut first) = (0i32, 0);
            for (i, (x, q)) in x.iter().zip(q.as_chunks_mut::<8>().0).enumerate() {
                let mut rounded = [0.0; 8];
                s.store(s.add(s.mul(s.load(x), s.splat(inverse)), s.splat(MAGIC)), &mut rounded);
                for (q, rounded) in q.iter_mut().zip(rounded) {
                    // Integers of values that are not finite may be any: then the scale is not finite either.
                    *q = (rounded.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
                    count = count.wrapping_add(*q);
                }
                if i == 1 {
                    first = count;
                }
            }
            *to = Block { q: (self.arrange)(&q), scale, sum: scale * count as f32, count, first };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The integers of a block, in order of columns.
    fn integers<const N: usize>(block: &Block<N>) -> Vec<i32> {
        (0..BLOCK)
            .map(|c| {
                if N == 16 {
                    return i32::from((block.q[c / 2] >> (16 * (c % 2))) as i16);
                }
                let place = [0, 2, 0, 2, 1, 3, 1, 3][c % 8];
                let group = 2 * (c / 8) + usize::from([2, 3, 6, 7].contains(&(c % 8)));
                i32::from(block.q[group].to_le_bytes()[place] as i8)
            })
            .collect()
    }

    fn check<const N: usize>(block: &Block<N>, values: &[f32], largest: i32) {
        let q = integers(block);
        for (q, value) in q.iter().zip(values) {
            let error = (block.scale * *q as f32 - value).abs();
            assert!(error <= block.scale * 0.507, "{value} is {error} off");
            assert!(q.abs() <= largest);
        }
        assert!(q.iter().any(|q| q.abs() == largest), "the scale wastes range");
        assert_eq!(block.count, q.iter().sum::<i32>());
        assert_eq!(block.first, q[..16].iter().sum::<i32>());
        assert_eq!(block.sum, block.scale * block.count as f32);
    }

    #[test]
    fn values_come_back_within_half_a_step() {
        for level in Level::available() {
            let values: Vec<f32> = (0..64).map(|i| ((i * 37 % 64) as f32 - 30.3) * 0.37).collect();
            let mut x = Activations::default();
            x.set(1, 64, |_, row| row.copy_from_slice(&values));
            x.quantize(level, true, &mut Team::solo());
            x.quantize(level, false, &mut Team::solo());
            for (b, values) in values.chunks_exact(BLOCK).enumerate() {
                check(&x.view().bytes(0)[b], values, 127);
                check(&x.view().words(0)[b], values, 32766);
            }
        }
    }

    #[test]
    fn what_is_not_finite_shows() {
        for level in Level::available() {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                // One alone, and so many that sums of their integers do not fit.
                for count in [1, 20, 32] {
                    let mut x = Activations::default();
                    x.set(1, 32, |_, row| row[32 - count..].fill(bad));
                    x.quantize(level, true, &mut Team::solo());
                    x.quantize(level, false, &mut Team::solo());
                    assert!(!x.view().bytes(0)[0].scale.is_finite(), "{count} × {bad}");
                    assert!(!x.view().words(0)[0].scale.is_finite(), "{count} × {bad}");
                }
            }
        }
    }
}
