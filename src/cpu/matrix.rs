//! Matrix products: panels of weights times rows of activations.
//!
//! One micro-tile does both decode and prefill: a panel (eight rows, in lanes) times `N` tokens, all
//! columns. A panel's block is unpacked once for its `N` tokens; each token's sums are added in the
//! same order whatever `N` is, so that how a prompt is cut does not change a bit of its result.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::formats::{DType, Sub};

use super::activations::{Activations, Bits, Bytes as ByteBlock, Sums, View, Words as WordBlock};
use super::fetch::{AT_ONCE, fetch};
use super::pack;
use super::panel::{self, BlockLayout, ROWS, Scaling};
use super::simd::{Kernel, Level, Simd};
use super::team::{Spread, Team};

/// Tokens of a micro-tile: their sums still fit into sixteen registers of 128 bits.
pub const TOKENS: usize = 4;

/// A matrix (rows, cols) in panels; rows that the last panel has too much are zero.
pub struct Matrix {
    dtype: DType,
    rows: usize,
    cols: usize,
    panels: Vec<u8>,
}

impl Matrix {
    /// All zeros.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn new(label: &str, dtype: DType, rows: usize, cols: usize) -> Result<Self> {
        let mut panels = Vec::new();
        let bytes = panel::panel_bytes(dtype, cols).checked_mul(rows.div_ceil(ROWS));
        if bytes.is_none_or(|bytes| panels.try_reserve_exact(bytes).is_err()) {
            let bytes = bytes.map_or(u64::MAX, |b| b as u64);
            return Err(Error::OutOfMemory { what: label.to_owned(), bytes });
        }
        panels.resize(bytes.unwrap_or(0), 0);
        Ok(Matrix { dtype, rows, cols, panels })
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.panels.len()
    }

    /// Panels.
    pub fn panels(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    /// Bytes of a row in the file.
    pub fn row_bytes(&self) -> usize {
        panel::row_bytes(self.dtype, self.cols)
    }

    /// Bytes of a panel.
    pub fn panel_bytes(&self) -> usize {
        panel::panel_bytes(self.dtype, self.cols)
    }

    /// Fills rows from `row` on with file bytes, once each.
    ///
    /// # Errors
    /// [`Error::Internal`] for bytes that are not whole rows of this matrix.
    pub fn fill(&mut self, row: usize, file: &[u8]) -> Result<()> {
        let row_bytes = self.row_bytes();
        let rows = file.len() / row_bytes.max(1);
        if !file.len().is_multiple_of(row_bytes.max(1)) || row + rows > self.rows {
            return Err(Error::Internal { what: format!("{} bytes are no rows from {row} on", file.len()) });
        }
        let panel_bytes = self.panel_bytes();
        pack::pack_rows(self.dtype, row_bytes.max(1), row, file, &mut self.panels, panel_bytes);
        Ok(())
    }

    /// The values of one row.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let bytes = self.panel_bytes();
        let at = row / ROWS;
        panel::unpack_row(self.dtype, &self.panels[at * bytes..(at + 1) * bytes], row % ROWS, out);
    }

    /// Puts the activations into the form that [`Matrix::product`] reads.
    pub fn prepare(&self, level: Level, bits: Bits, x: &mut Activations, team: &mut Team) {
        if !self.dtype.is_float() {
            let bytes = level.has_byte_dots() && takes_bytes(self.dtype);
            x.quantize(level, bytes.then_some(bits), team);
        }
    }

    /// The product with [prepared](Matrix::prepare) x.
    pub fn product<'a>(&'a self, level: Level, x: &'a Activations) -> Product<'a> {
        let Matrix { dtype, rows, cols, ref panels } = *self;
        Product { level, dtype, rows, cols, panels, x: x.view() }
    }
}

/// Whether the product is one of bytes, where there are such: weights of eight bits are too large for it.
fn takes_bytes(dtype: DType) -> bool {
    BlockLayout::of(dtype).is_some_and(|layout| layout.bits < 8)
}

/// A product of a matrix: plain slices, so that any thread can take a copy along and compute some panels.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    level: Level,
    dtype: DType,
    rows: usize,
    cols: usize,
    panels: &'a [u8],
    x: View<'a>,
}

impl Product<'_> {
    /// For each token `t` and each row of the panels: out\[t · stride + row − first row\] = W x.
    ///
    /// # Safety
    /// Nobody else has these places of `out`.
    #[inline(always)]
    pub unsafe fn run(self, panels: Range<usize>, out: Spread<'_, f32>, stride: usize) {
        let bytes = panel::panel_bytes(self.dtype, self.cols);
        let at_once = (AT_ONCE / bytes.max(1)).max(1);
        for first in panels.clone().step_by(at_once) {
            let some = first..panels.end.min(first + at_once);
            if self.x.rows() <= TOKENS {
                fetch(&self.panels[some.start * bytes..some.end * bytes]);
            }
            let out = out.from((first - panels.start) * ROWS);
            let project = Project { product: self, panels: some, out, stride };
            if takes_bytes(self.dtype) {
                self.level.run_products(project);
            } else {
                self.level.run(project);
            }
        }
    }
}

struct Project<'a> {
    product: Product<'a>,
    panels: Range<usize>,
    out: Spread<'a, f32>,
    stride: usize,
}

impl Kernel for Project<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        macro_rules! packed {
            ($($dtype:ident)*) => {
                match (self.product.dtype, S::BYTE_DOTS) {
                    $((DType::$dtype, true) => self.tiles::<S, Bytes<{ DType::$dtype as usize }>>(s),
                    (DType::$dtype, false) => self.tiles::<S, Words<{ DType::$dtype as usize }>>(s),)*
                    // Those that do not take bytes, see `Product::run`.
                    _ if S::QUADS => {}
                    (DType::Q8_0, _) => self.tiles::<S, Eight>(s),
                    (DType::F32, _) => self.tiles::<S, Single>(s),
                    (DType::F16, _) => self.tiles::<S, Half>(s),
                    (DType::BF16, _) => self.tiles::<S, Brain>(s),
                    _ => self.rows(s),
                }
            };
        }
        packed!(Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q5_K Q6_K)
    }
}

impl Project<'_> {
    #[inline(always)]
    fn tiles<S: Simd, F: Format>(self, s: S) {
        let Project {
            product: Product { dtype, rows: all, cols, panels: weights, x, .. },
            panels,
            out,
            stride,
        } = self;
        let bytes = panel::panel_bytes(dtype, cols);
        for (i, at) in panels.clone().enumerate() {
            let panel = &weights[at * bytes..(at + 1) * bytes];
            let rows = ROWS.min(all - at * ROWS);
            let mut t = 0;
            while t + 1 < x.rows() {
                // A remainder of two or three tokens is computed as a full tile; the spare slots repeat the last token.
                let count = TOKENS.min(x.rows() - t);
                let mut tokens = [F::row(x, t); TOKENS];
                for n in 1..TOKENS {
                    tokens[n] = F::row(x, t + n.min(count - 1));
                }
                let sums = F::tile::<S, TOKENS>(s, panel, tokens);
                for n in 0..count {
                    put(s, sums[n], out, (t + n) * stride + i * ROWS, rows);
                }
                t += count;
            }
            if t < x.rows() {
                let [sums] = F::tile::<S, 1>(s, panel, [F::row(x, t)]);
                put(s, sums, out, t * stride + i * ROWS, rows);
            }
        }
    }
}

impl Project<'_> {
    /// Of file blocks: row by row.
    #[inline(always)]
    fn rows<S: Simd>(self, s: S) {
        let Project {
            product: Product { dtype, rows: all, cols, panels: weights, x, .. },
            panels,
            out,
            stride,
        } = self;
        let bytes = panel::panel_bytes(dtype, cols);
        let mut subs = Vec::new();
        for (i, at) in panels.enumerate() {
            let panel = &weights[at * bytes..(at + 1) * bytes];
            for r in 0..ROWS.min(all - at * ROWS) {
                panel::expand(dtype, panel, r, &mut subs);
                let mut t = 0;
                while t < x.rows() {
                    let count = TOKENS.min(x.rows() - t);
                    let mut sums = [0.0; TOKENS];
                    if count == 1 {
                        [sums[0]] = row(s, &subs, [x.words(t)]);
                    } else {
                        let mut tokens = [x.words(t); TOKENS];
                        for n in 1..TOKENS {
                            tokens[n] = x.words(t + n.min(count - 1));
                        }
                        sums = row(s, &subs, tokens);
                    }
                    for n in 0..count {
                        let at = (t + n) * stride + i * ROWS + r;
                        // SAFETY: the places are this call's own, see `Product::run`.
                        unsafe { out.part(at..at + 1) }.copy_from_slice(&sums[n..n + 1]);
                    }
                    t += count;
                }
            }
        }
    }
}

/// The lanes that are rows.
#[inline(always)]
fn put<S: Simd>(s: S, sums: S::F, out: Spread<'_, f32>, at: usize, rows: usize) {
    let mut lanes = [0.0; ROWS];
    s.store(sums, &mut lanes);
    // SAFETY: the places are this call's own, see `Product::run`.
    let to = unsafe { out.part(at..at + rows) };
    to.copy_from_slice(&lanes[..to.len()]);
}

/// A weight format's micro-tile.
trait Format {
    /// Activations of one column or block.
    type X;
    /// A token's row of them.
    fn row(x: View<'_>, t: usize) -> &[Self::X];
    /// (eight rows) · N tokens.
    fn tile<S: Simd, const N: usize>(s: S, panel: &[u8], x: [&[Self::X]; N]) -> [S::F; N];
}

/// Packed formats of four to six bits by dot products of bytes; the parameter is a [`DType`].
struct Bytes<const DTYPE: usize>;
/// Packed formats of four to six bits by dot products of i16.
struct Words<const DTYPE: usize>;
/// Q8_0, by dot products of i16.
struct Eight;
/// F32.
struct Single;
/// F16.
struct Half;
/// BF16.
struct Brain;

/// `N` bytes of a block from `at` on.
#[inline(always)]
fn bytes_at<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    const { assert!(N == 8 || N == 16 || N == 32) };
    match block[at..].first_chunk() {
        Some(bytes) => bytes,
        None => &[0; N], // never: blocks have their layout's size
    }
}

/// The integer part of a block format.
///
/// No closures here or below: the compiler gives a closure's body no processor features of its own,
/// and then calls each vector instruction as a function.
trait Blocks {
    const LAYOUT: BlockLayout;
    type X: Quantized;
    /// Σ quants · q of eight rows over octets of columns, for N tokens.
    fn ints<S: Simd, const N: usize>(s: S, block: &[u8], octets: Range<usize>, x: [&Self::X; N])
    -> [S::I; N];
}

/// What the float part needs to know of an activation block.
trait Quantized {
    fn sums(&self) -> Sums;
}

impl Quantized for ByteBlock {
    #[inline(always)]
    fn sums(&self) -> Sums {
        self.sums
    }
}

impl Quantized for WordBlock {
    #[inline(always)]
    fn sums(&self) -> Sums {
        self.sums
    }
}

/// Less what is subtracted from quants, `count` times. A count may be any number if an activation is not finite, and the
/// scale is not finite then.
#[inline(always)]
fn less_zero<S: Simd, B: Blocks>(s: S, ints: S::I, count: i32) -> S::F {
    let zero = B::LAYOUT.zero;
    let ints = if zero == 0 { ints } else { s.add_i32(ints, s.splat_i32(count.wrapping_mul(-zero))) };
    s.to_floats(ints)
}

/// Block by block: sums + scales · (ints − zero · Σ q) + minima · Σ x.
#[inline(always)]
fn blocks<S: Simd, B: Blocks, const N: usize>(s: S, panel: &[u8], x: [&[B::X]; N]) -> [S::F; N] {
    let layout = B::LAYOUT;
    let mut sums = [s.splat(0.0); N];
    let mut at = [&x[0][0]; N];
    let mut b = 0;
    for blocks in panel.chunks_exact(layout.super_bytes()) {
        let (header, blocks) = blocks.split_at(layout.header);
        for block in blocks.chunks_exact(layout.bytes) {
            for n in 0..N {
                at[n] = &x[n][b];
            }
            b += 1;
            if let Scaling::SuperHalves = layout.scaling {
                let factor = s.load_f16(bytes_at::<16>(header, 0));
                let first = B::ints::<S, N>(s, block, 0..2, at);
                let last = B::ints::<S, N>(s, block, 2..4, at);
                let scale0 = s.mul(factor, s.load_i8(bytes_at::<8>(block, 0)));
                let scale1 = s.mul(factor, s.load_i8(bytes_at::<8>(block, 8)));
                for n in 0..N {
                    let Sums { scale, count, first: count0, .. } = at[n].sums();
                    let y = s.mul(less_zero::<S, B>(s, first[n], count0), scale0);
                    let y = s.mul_add(less_zero::<S, B>(s, last[n], count.wrapping_sub(count0)), scale1, y);
                    sums[n] = s.mul_add(y, s.splat(scale), sums[n]);
                }
                continue;
            }
            let ints = B::ints::<S, N>(s, block, 0..4, at);
            let (scales, minima) = match layout.scaling {
                Scaling::Half | Scaling::SuperHalves => (s.load_f16(bytes_at::<16>(block, 0)), None),
                Scaling::Affine => {
                    (s.load_f16(bytes_at::<16>(block, 0)), Some(s.load_f16(bytes_at::<16>(block, 16))))
                }
                Scaling::SuperAffine => {
                    let factor = s.load_f16(bytes_at::<16>(header, 0));
                    // Minima are subtracted.
                    let least = s.sub(s.splat(0.0), s.load_f16(bytes_at::<16>(header, 16)));
                    let scales = s.mul(factor, s.load_i8(bytes_at::<8>(block, 0)));
                    (scales, Some(s.mul(least, s.load_i8(bytes_at::<8>(block, 8)))))
                }
            };
            for n in 0..N {
                let Sums { scale, sum, count, .. } = at[n].sums();
                let y = less_zero::<S, B>(s, ints[n], count);
                sums[n] = s.mul_add(y, s.mul(scales, s.splat(scale)), sums[n]);
                if let Some(minima) = minima {
                    sums[n] = s.mul_add(minima, s.splat(sum), sums[n]);
                }
            }
        }
    }
    sums
}

const fn layout(dtype: usize) -> BlockLayout {
    match BlockLayout::of(DType::ALL[dtype]) {
        Some(layout) => layout,
        None => BlockLayout::EIGHT, // never: kernels are of packed formats
    }
}

/// Upper bits of a block: five of all octets, or six of the two from `octet` on.
#[inline(always)]
fn upper<S: Simd>(s: S, layout: &BlockLayout, block: &[u8], octet: usize) -> S::I {
    match layout.bits {
        5 => s.load_bytes(bytes_at::<32>(block, layout.high)),
        6 => s.load_bytes(bytes_at::<32>(block, layout.high + 32 * (octet / 2))),
        _ => s.splat_i32(0),
    }
}

/// Those that belong to the low (0) or high (1) nibbles of bytes, moved above their four bits; the others away.
#[inline(always)]
fn above<S: Simd>(s: S, layout: &BlockLayout, high: S::I, octet: usize, nibble: usize) -> S::I {
    // A byte has those of its two nibbles, octet after octet.
    let (bit, mask) = match layout.bits {
        5 => (2 * octet + nibble, 0x1010_1010),
        _ => (4 * (octet % 2) + 2 * nibble, 0x3030_3030),
    };
    let moved = if bit < 4 { s.shl16(high, 4 - bit as u32) } else { s.shr16(high, bit as u32 - 4) };
    s.and(moved, s.splat_i32(mask))
}

impl<const DTYPE: usize> Blocks for Bytes<DTYPE> {
    type X = ByteBlock;
    const LAYOUT: BlockLayout = layout(DTYPE);

    #[inline(always)]
    fn ints<S: Simd, const N: usize>(
        s: S,
        block: &[u8],
        octets: Range<usize>,
        x: [&ByteBlock; N],
    ) -> [S::I; N] {
        let layout = &Self::LAYOUT;
        let mut ints = [s.splat_i32(0); N];
        if N == 1 {
            // The block is unpacked once for both bytes.
            if x[0].fine {
                let [high, low] = planes(s, layout, block, octets, [&x[0].high, &x[0].low], [HIGH, LOW]);
                ints[0] = s.add_i32(high, low);
            } else {
                [ints[0]] = planes(s, layout, block, octets, [&x[0].high], [HIGH]);
            }
            return ints;
        }
        let (mut fine, mut high, mut low) = (false, [&x[0].high; N], [&x[0].low; N]);
        for n in 0..N {
            fine |= x[n].fine;
            (high[n], low[n]) = (&x[n].high, &x[n].low);
        }
        ints = planes(s, layout, block, octets.clone(), high, [HIGH; N]);
        if fine {
            let low = planes(s, layout, block, octets, low, [LOW; N]);
            for n in 0..N {
                ints[n] = s.add_i32(ints[n], low[n]);
            }
        }
        ints
    }
}

/// What a byte of a plane is worth, as two i16.
const HIGH: i32 = 0x0100_0100;
const LOW: i32 = 0x0001_0001;

/// Σ quants · bytes of eight rows over octets of columns, for each of N planes of bytes, times its factor.
#[inline(always)]
fn planes<S: Simd, const N: usize>(
    s: S,
    layout: &BlockLayout,
    block: &[u8],
    octets: Range<usize>,
    x: [&[i32; 8]; N],
    factors: [i32; N],
) -> [S::I; N] {
    let high = upper(s, layout, block, octets.start);
    let mut ints = [s.splat_i32(0); N];
    let mut small = [s.splat_i32(0); N];
    for octet in octets {
        let quants = s.load_bytes(bytes_at::<32>(block, layout.quants + 32 * octet));
        for half in 0..2 {
            let shifted = if half == 0 { quants } else { s.shr16(quants, 4) };
            let mut part = s.and(shifted, s.splat_i32(0x0f0f_0f0f));
            if layout.bits > 4 {
                part = s.or(part, above(s, layout, high, octet, half));
            }
            for n in 0..N {
                let x = s.splat_i32(x[n][2 * octet + half]);
                if S::QUADS {
                    ints[n] = s.dot_quads(part, x, ints[n]);
                } else {
                    small[n] = s.dot_bytes(part, x, small[n]);
                }
            }
        }
        if S::QUADS {
            continue;
        }
        // An i16 takes 8 · 2 · 15 · 128 = 30 720, or half a block of 31 · 128, or a quarter of 63 · 128.
        if octet == 3 || layout.bits == 5 && octet == 1 || layout.bits == 6 {
            for n in 0..N {
                ints[n] = s.dot_words(small[n], s.splat_i32(factors[n]), ints[n]);
                small[n] = s.splat_i32(0);
            }
        }
    }
    if S::QUADS {
        for n in 0..N {
            if factors[n] == HIGH {
                ints[n] = s.shl32(ints[n], 8);
            }
        }
    }
    ints
}

impl<const DTYPE: usize> Blocks for Words<DTYPE> {
    type X = WordBlock;
    const LAYOUT: BlockLayout = layout(DTYPE);

    #[inline(always)]
    fn ints<S: Simd, const N: usize>(
        s: S,
        block: &[u8],
        octets: Range<usize>,
        x: [&WordBlock; N],
    ) -> [S::I; N] {
        let layout = Self::LAYOUT;
        let high = upper(s, &layout, block, octets.start);
        let mut ints = [s.splat_i32(0); N];
        for octet in octets {
            let quants = s.load_bytes(bytes_at::<32>(block, layout.quants + 32 * octet));
            if layout.bits == 4 {
                for j in 0..4 {
                    let shifted = if j == 0 { quants } else { s.shr16(quants, 4 * j as u32) };
                    let pair = if j == 3 { shifted } else { s.and(shifted, s.splat_i32(0x000f_000f)) };
                    for n in 0..N {
                        ints[n] = s.dot_words(pair, s.splat_i32(x[n].q[4 * octet + j]), ints[n]);
                    }
                }
                continue;
            }
            // Upper bits meet bytes, two nibbles at a time.
            for half in 0..2 {
                let shifted = if half == 0 { quants } else { s.shr16(quants, 4) };
                let part = s.and(shifted, s.splat_i32(0x0f0f_0f0f));
                let part = s.or(part, above(s, &layout, high, octet, half));
                for byte in 0..2 {
                    let pair =
                        if byte == 0 { s.and(part, s.splat_i32(0x00ff_00ff)) } else { s.shr16(part, 8) };
                    for n in 0..N {
                        let x = s.splat_i32(x[n].q[4 * octet + half + 2 * byte]);
                        ints[n] = s.dot_words(pair, x, ints[n]);
                    }
                }
            }
        }
        ints
    }
}

impl Blocks for Eight {
    type X = WordBlock;
    const LAYOUT: BlockLayout = layout(DType::Q8_0 as usize);

    #[inline(always)]
    fn ints<S: Simd, const N: usize>(
        s: S,
        block: &[u8],
        octets: Range<usize>,
        x: [&WordBlock; N],
    ) -> [S::I; N] {
        let mut ints = [s.splat_i32(0); N];
        for pair in 4 * octets.start..4 * octets.end {
            let w = s.load_widened(bytes_at::<16>(block, Self::LAYOUT.quants + 16 * pair));
            for n in 0..N {
                ints[n] = s.dot_words(w, s.splat_i32(x[n].q[pair]), ints[n]);
            }
        }
        ints
    }
}

/// A row of expanded file blocks · N tokens. A vector's lanes are columns here, each with a sum of its own until the end:
/// so nothing of a row has to be put in order, which would take longer than the products.
#[inline(always)]
fn row<S: Simd, const N: usize>(s: S, subs: &[Sub], x: [&[WordBlock]; N]) -> [f32; N] {
    let mut sums = [s.splat(0.0); N];
    let mut lows = [0.0; N];
    for (b, sub) in subs.iter().enumerate() {
        for half in 0..2 {
            let (scale, low) = (sub.scale[half], sub.low[half]);
            let w: &[u8; 16] = bytemuck::cast_ref(&sub.q.as_chunks::<16>().0[half]);
            let w = s.load_widened(w);
            for n in 0..N {
                let block = &x[n][b];
                let q: &[u8; 32] = bytemuck::cast_ref(&block.q.as_chunks::<8>().0[half]);
                let ints = s.dot_words(w, s.load_bytes(q), s.splat_i32(0));
                sums[n] = s.mul_add(s.to_floats(ints), s.splat(scale * block.sums.scale), sums[n]);
                let count = if half == 0 {
                    block.sums.first
                } else {
                    block.sums.count.wrapping_sub(block.sums.first)
                };
                lows[n] += low * (block.sums.scale * count as f32);
            }
        }
    }
    let mut out = [0.0; N];
    for n in 0..N {
        out[n] = s.sum(sums[n]) + lows[n];
    }
    out
}

macro_rules! block_format {
    ([$($generics:tt)*] $name:ty, $row:ident) => {
        impl<$($generics)*> Format for $name {
            type X = <Self as Blocks>::X;

            #[inline(always)]
            fn row(x: View<'_>, t: usize) -> &[Self::X] {
                x.$row(t)
            }

            #[inline(always)]
            fn tile<S: Simd, const N: usize>(s: S, panel: &[u8], x: [&[Self::X]; N]) -> [S::F; N] {
                blocks::<S, Self, N>(s, panel, x)
            }
        }
    };
}

block_format!([const DTYPE: usize] Bytes<DTYPE>, bytes);
block_format!([const DTYPE: usize] Words<DTYPE>, words);
block_format!([] Eight, words);

macro_rules! float_format {
    (Single, $s:ident, $w:ident) => {
        $s.as_floats($s.load_bytes($w))
    };
    (Half, $s:ident, $w:ident) => {
        $s.load_f16($w)
    };
    (Brain, $s:ident, $w:ident) => {
        $s.load_bf16($w)
    };
    ($name:ident, $bytes:literal) => {
        impl Format for $name {
            type X = f32;

            #[inline(always)]
            fn row(x: View<'_>, t: usize) -> &[f32] {
                x.row(t)
            }

            #[inline(always)]
            fn tile<S: Simd, const N: usize>(s: S, panel: &[u8], x: [&[f32]; N]) -> [S::F; N] {
                let mut sums = [s.splat(0.0); N];
                for (column, w) in panel.as_chunks::<$bytes>().0.iter().enumerate() {
                    let w = float_format!($name, s, w);
                    for n in 0..N {
                        sums[n] = s.mul_add(w, s.splat(x[n][column]), sums[n]);
                    }
                }
                sums
            }
        }
    };
}

float_format!(Single, 32);
float_format!(Half, 16);
float_format!(Brain, 16);

#[cfg(test)]
mod tests {
    use super::*;

    /// Debug builds check integers for overflow, and quantized infinities may be any.
    #[test]
    fn activations_that_are_no_numbers_give_no_numbers() {
        let cols = 256;
        for (level, dtype) in Level::available().into_iter().flat_map(|l| DType::ALL.map(|d| (l, d))) {
            // No scale is 0, and no float.
            let mut block = vec![0x55; dtype.block_bytes() as usize];
            dtype.put_scale(&mut block, 1.0);
            let mut matrix = Matrix::new("test", dtype, 3, cols).unwrap();
            matrix.fill(0, &block.repeat(3 * cols / dtype.block_len() as usize)).unwrap();
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for (bits, count) in
                    [Bits::Eight, Bits::Mixed, Bits::Sixteen].into_iter().flat_map(|b| [(b, 1), (b, cols)])
                {
                    let mut x = Activations::default();
                    x.set(5, cols, |_, row| row[..count].fill(bad));
                    matrix.prepare(level, bits, &mut x, &mut Team::solo());
                    let mut out = [0.0; 15];
                    let product = matrix.product(level, &x);
                    // SAFETY: nobody else has `out`.
                    unsafe { product.run(0..matrix.panels(), Spread::new(&mut out), 3) };
                    assert!(
                        out.iter().all(|y| !y.is_finite()),
                        "{} {bits:?} {count} × {bad}: {out:?}",
                        dtype.name()
                    );
                }
            }
        }
    }

    /// Levels whose products are of bytes give the same bits, however they add them up.
    #[test]
    fn dot_products_of_four_bytes_change_no_bit() {
        let (cols, rows, tokens) = (512, 24, 5);
        let levels: Vec<Level> =
            Level::available().into_iter().filter(|level| level.has_byte_dots()).collect();
        for dtype in DType::ALL.into_iter().filter(|dtype| takes_bytes(*dtype)) {
            let mut matrix = Matrix::new("test", dtype, rows, cols).unwrap();
            let mut file: Vec<u8> = (0..rows * matrix.row_bytes()).map(|i| (i * i % 253) as u8).collect();
            file.chunks_exact_mut(dtype.block_bytes() as usize)
                .for_each(|block| dtype.put_scale(block, 0.01));
            matrix.fill(0, &file).unwrap();
            for bits in Bits::ALL {
                let mut seen = levels.iter().map(|level| {
                    let mut x = Activations::default();
                    x.set(tokens, cols, |t, row| {
                        row.iter_mut()
                            .enumerate()
                            .for_each(|(i, x)| *x = ((t * 31 + i * 17) % 101) as f32 - 50.0);
                        row[64 * t + 7] = 900.0;
                    });
                    matrix.prepare(*level, bits, &mut x, &mut Team::solo());
                    let mut out = vec![0.0f32; tokens * rows];
                    // SAFETY: nobody else has `out`.
                    unsafe {
                        matrix.product(*level, &x).run(0..matrix.panels(), Spread::new(&mut out), rows)
                    };
                    out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                });
                let Some(first) = seen.next() else { return };
                assert!(seen.all(|other| other == first), "{} {bits:?}", dtype.name());
            }
        }
    }

    /// Tokens of which one or another has a block that takes sixteen bits: together as alone, and near what floats give.
    #[test]
    fn a_tokens_products_do_not_depend_on_its_neighbours() {
        let (cols, rows, tokens) = (512, 11, 5);
        for (level, dtype) in Level::available().into_iter().flat_map(|l| DType::ALL.map(|d| (l, d))) {
            let mut matrix = Matrix::new("test", dtype, rows, cols).unwrap();
            let size = dtype.block_bytes() as usize;
            let mut file: Vec<u8> =
                (0..rows * matrix.row_bytes()).map(|i| (i * i % 251) as u8 & 0x3f).collect();
            file.chunks_exact_mut(size).for_each(|block| dtype.put_scale(block, 0.01));
            matrix.fill(0, &file).unwrap();
            let fill = |t: usize, row: &mut [f32]| {
                for (i, x) in row.iter_mut().enumerate() {
                    *x = ((i * 29 + t * 7) % 61) as f32 / 61.0 - 0.4;
                }
                if t > 0 {
                    row[64 * t + 3] = 20.0;
                }
            };
            for bits in Bits::ALL {
                let product = |range: Range<usize>| {
                    let mut x = Activations::default();
                    x.set(range.len(), cols, |t, row| fill(range.start + t, row));
                    matrix.prepare(level, bits, &mut x, &mut Team::solo());
                    let mut out = vec![0.0; range.len() * rows];
                    // SAFETY: nobody else has `out`.
                    unsafe { matrix.product(level, &x).run(0..matrix.panels(), Spread::new(&mut out), rows) };
                    out
                };
                let together = product(0..tokens);
                let alone: Vec<f32> = (0..tokens).flat_map(|t| product(t..t + 1)).collect();
                assert_eq!(together, alone, "{} {bits:?}", dtype.name());
                let (mut w, mut x) = (vec![0.0; cols], vec![0.0; cols]);
                for (i, y) in together.iter().enumerate() {
                    matrix.row(i % rows, &mut w);
                    fill(i / rows, &mut x);
                    let want: f64 = w.iter().zip(&x).map(|(w, x)| f64::from(w * x)).sum();
                    let terms: f64 = w.iter().map(|w| f64::from(w.abs())).sum();
                    // Half a step of the blocks that have none of the large values, or of the large one's.
                    let step = if bits == Bits::Eight && i >= rows { 20.0 } else { 0.6 } / 127.0;
                    let error = (f64::from(*y) - want).abs();
                    assert!(error <= terms * (step / 2.0 + 1e-5), "{} {bits:?} {i}: {error}", dtype.name());
                }
            }
        }
    }
}
