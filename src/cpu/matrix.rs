//! Matrix products: panels of weights times rows of activations.
//!
//! One micro-tile does both decode and prefill: a panel (eight rows, in lanes) times `N` tokens, all
//! columns. A panel's block is unpacked once for its `N` tokens; each token's sums are added in the
//! same order whatever `N` is, so that how a prompt is cut does not change a bit of its result.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::formats::DType;

use super::activations::{Activations, Bits, Block};
use super::panel::{self, BLOCK, BlockLayout, ROWS};
use super::simd::{Kernel, Level, Simd};

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
        let bytes = panel::row_bytes(dtype, cols).checked_mul(rows.next_multiple_of(ROWS));
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

    /// Columns.
    #[cfg(target_arch = "wasm32")]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Rows, without the padding.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Panels.
    pub fn panels(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    /// Bytes of a row in the file.
    pub fn row_bytes(&self) -> usize {
        panel::row_bytes(self.dtype, self.cols)
    }

    fn panel_bytes(&self) -> usize {
        self.row_bytes() * ROWS
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
        for (i, bytes) in file.chunks_exact(row_bytes).enumerate() {
            let (at, r) = ((row + i) / ROWS, (row + i) % ROWS);
            let panel = &mut self.panels[at * panel_bytes..(at + 1) * panel_bytes];
            panel::pack_row(self.dtype, bytes, r, panel);
        }
        Ok(())
    }

    /// The values of one row.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let bytes = self.panel_bytes();
        let at = row / ROWS;
        panel::unpack_row(self.dtype, &self.panels[at * bytes..(at + 1) * bytes], row % ROWS, out);
    }

    /// Whether the product is one of bytes: Q8_0's weights are too large for it.
    fn takes_bytes(&self, level: Level, bits: Bits) -> bool {
        bits == Bits::Eight && level.has_byte_dots() && self.dtype != DType::Q8_0
    }

    /// Puts the activations into the form that [`Matrix::project`] reads.
    pub fn prepare(&self, level: Level, bits: Bits, x: &mut Activations) {
        if BlockLayout::of(self.dtype).is_some() {
            x.quantize(level, self.takes_bytes(level, bits));
        }
    }

    /// For [prepared](Matrix::prepare) x: for each token `t` and each row of the panels: out\[t · stride + row − first row\] = W x.
    pub fn project(
        &self,
        level: Level,
        bits: Bits,
        x: &Activations,
        panels: Range<usize>,
        out: &mut [f32],
        stride: usize,
    ) {
        let bytes = self.takes_bytes(level, bits);
        level.run(Project { matrix: self, bytes, x, panels, out, stride });
    }
}

struct Project<'a> {
    matrix: &'a Matrix,
    bytes: bool,
    x: &'a Activations,
    panels: Range<usize>,
    out: &'a mut [f32],
    stride: usize,
}

impl Kernel for Project<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match (self.matrix.dtype, S::BYTE_DOTS && self.bytes) {
            (DType::Q4_0, true) => self.tiles::<S, Bytes<false, false>>(s),
            (DType::Q4_1, true) => self.tiles::<S, Bytes<true, false>>(s),
            (DType::Q5_0, true) => self.tiles::<S, Bytes<false, true>>(s),
            (DType::Q5_1, true) => self.tiles::<S, Bytes<true, true>>(s),
            (DType::Q4_0, false) => self.tiles::<S, Words<false, false>>(s),
            (DType::Q4_1, false) => self.tiles::<S, Words<true, false>>(s),
            (DType::Q5_0, false) => self.tiles::<S, Words<false, true>>(s),
            (DType::Q5_1, false) => self.tiles::<S, Words<true, true>>(s),
            (DType::Q8_0, _) => self.tiles::<S, Eight>(s),
            (DType::F32, _) => self.tiles::<S, Single>(s),
            (DType::F16, _) => self.tiles::<S, Half>(s),
            (DType::BF16, _) => self.tiles::<S, Brain>(s),
        }
    }
}

impl Project<'_> {
    #[inline(always)]
    fn tiles<S: Simd, F: Format>(self, s: S) {
        let Project { matrix, x, panels, out, stride, .. } = self;
        let bytes = matrix.panel_bytes();
        for (i, at) in panels.clone().enumerate() {
            let panel = &matrix.panels[at * bytes..(at + 1) * bytes];
            let rows = ROWS.min(matrix.rows - at * ROWS);
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
                    put(s, sums[n], &mut out[(t + n) * stride + i * ROWS..][..rows]);
                }
                t += count;
            }
            if t < x.rows() {
                let [sums] = F::tile::<S, 1>(s, panel, [F::row(x, t)]);
                put(s, sums, &mut out[t * stride + i * ROWS..][..rows]);
            }
        }
    }
}

/// The lanes that are rows.
#[inline(always)]
fn put<S: Simd>(s: S, sums: S::F, to: &mut [f32]) {
    let mut lanes = [0.0; ROWS];
    s.store(sums, &mut lanes);
    to.copy_from_slice(&lanes[..to.len()]);
}

/// A weight format's micro-tile.
trait Format {
    /// Activations of one column or block.
    type X;
    /// A token's row of them.
    fn row(x: &Activations, t: usize) -> &[Self::X];
    /// (eight rows) · N tokens.
    fn tile<S: Simd, const N: usize>(s: S, panel: &[u8], x: [&[Self::X]; N]) -> [S::F; N];
}

/// Four- and five-bit formats by dot products of bytes.
struct Bytes<const AFFINE: bool, const FIVE: bool>;
/// Four- and five-bit formats by dot products of i16.
struct Words<const AFFINE: bool, const FIVE: bool>;
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
    const { assert!(N == 16 || N == 32) };
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
    /// What is subtracted from quants.
    const ZERO: i32;
    type X: Quantized;
    /// Σ quants · q of eight rows, for N tokens.
    fn ints<S: Simd, const N: usize>(s: S, block: &[u8], x: [&Self::X; N]) -> [S::I; N];
}

/// What the float part needs to know of an activation block: (scale, scale · Σ q, Σ q).
trait Quantized {
    fn sums(&self) -> (f32, f32, i32);
}

impl<const WORDS: usize> Quantized for Block<WORDS> {
    #[inline(always)]
    fn sums(&self) -> (f32, f32, i32) {
        (self.scale, self.sum, self.count)
    }
}

/// Block by block: sums + scales · (ints − zero · Σ q) + minima · Σ x.
#[inline(always)]
fn blocks<S: Simd, B: Blocks, const N: usize>(s: S, panel: &[u8], x: [&[B::X]; N]) -> [S::F; N] {
    let mut sums = [s.splat(0.0); N];
    let mut at = [&x[0][0]; N];
    for (b, block) in panel.chunks_exact(B::LAYOUT.bytes).enumerate() {
        for n in 0..N {
            at[n] = &x[n][b];
        }
        let ints = B::ints::<S, N>(s, block, at);
        let scales = s.load_f16(bytes_at::<16>(block, 0));
        let affine = B::LAYOUT.affine;
        let minima = if affine { s.load_f16(bytes_at::<16>(block, 16)) } else { scales };
        for n in 0..N {
            let (scale, sum, count) = at[n].sums();
            // The count may be any number if an activation is not finite, and the scale is not finite then.
            let middle = s.splat_i32(count.wrapping_mul(-B::ZERO));
            let ints = if B::ZERO == 0 { ints[n] } else { s.add_i32(ints[n], middle) };
            sums[n] = s.mul_add(s.to_floats(ints), s.mul(scales, s.splat(scale)), sums[n]);
            if affine {
                sums[n] = s.mul_add(minima, s.splat(sum), sums[n]);
            }
        }
    }
    sums
}

const fn nibble_zero(affine: bool, five: bool) -> i32 {
    match (affine, five) {
        (true, _) => 0,
        (false, true) => panel::zero_point(DType::Q5_0),
        (false, false) => panel::zero_point(DType::Q4_0),
    }
}

/// `bit` of every lane to bit 4, the others away.
#[inline(always)]
fn fifth<S: Simd>(s: S, high: S::I, bit: u32, mask: i32) -> S::I {
    let moved = if bit < 4 { s.shl16(high, 4 - bit) } else { s.shr16(high, bit - 4) };
    s.and(moved, s.splat_i32(mask))
}

impl<const AFFINE: bool, const FIVE: bool> Blocks for Bytes<AFFINE, FIVE> {
    type X = Block<8>;
    const LAYOUT: BlockLayout = BlockLayout::nibbles(AFFINE, FIVE);
    const ZERO: i32 = nibble_zero(AFFINE, FIVE);

    #[inline(always)]
    fn ints<S: Simd, const N: usize>(s: S, block: &[u8], x: [&Block<8>; N]) -> [S::I; N] {
        let layout = Self::LAYOUT;
        {
            let high = if FIVE { s.load_bytes(bytes_at::<32>(block, layout.high)) } else { s.splat_i32(0) };
            let mut ints = [s.splat_i32(0); N];
            let mut small = [s.splat_i32(0); N];
            for octet in 0..4 {
                let quants = s.load_bytes(bytes_at::<32>(block, layout.quants + 32 * octet));
                for half in 0..2 {
                    let shifted = if half == 0 { quants } else { s.shr16(quants, 4) };
                    let mut part = s.and(shifted, s.splat_i32(0x0f0f_0f0f));
                    if FIVE {
                        let bit = (2 * octet + half) as u32;
                        part = s.or(part, fifth(s, high, bit, 0x1010_1010));
                    }
                    for n in 0..N {
                        small[n] = s.dot_bytes(part, s.splat_i32(x[n].q[2 * octet + half]), small[n]);
                    }
                }
                // An i16 takes 8 · 2 · 15 · 127 = 30 480, or half a block of 31 · 127.
                if octet == 3 || FIVE && octet == 1 {
                    for n in 0..N {
                        ints[n] = s.add_i32(ints[n], s.add_pairs(small[n]));
                        small[n] = s.splat_i32(0);
                    }
                }
            }
            ints
        }
    }
}

impl<const AFFINE: bool, const FIVE: bool> Blocks for Words<AFFINE, FIVE> {
    type X = Block<16>;
    const LAYOUT: BlockLayout = BlockLayout::nibbles(AFFINE, FIVE);
    const ZERO: i32 = nibble_zero(AFFINE, FIVE);

    #[inline(always)]
    fn ints<S: Simd, const N: usize>(s: S, block: &[u8], x: [&Block<16>; N]) -> [S::I; N] {
        let layout = Self::LAYOUT;
        {
            let high = if FIVE { s.load_bytes(bytes_at::<32>(block, layout.high)) } else { s.splat_i32(0) };
            let mut ints = [s.splat_i32(0); N];
            for octet in 0..4 {
                let quants = s.load_bytes(bytes_at::<32>(block, layout.quants + 32 * octet));
                for j in 0..4 {
                    let shifted = if j == 0 { quants } else { s.shr16(quants, 4 * j as u32) };
                    let mut pair = if j == 3 { shifted } else { s.and(shifted, s.splat_i32(0x000f_000f)) };
                    if FIVE {
                        let bit = (8 * (j / 2) + 2 * octet + j % 2) as u32;
                        pair = s.or(pair, fifth(s, high, bit, 0x0010_0010));
                    }
                    for n in 0..N {
                        ints[n] = s.dot_words(pair, s.splat_i32(x[n].q[4 * octet + j]), ints[n]);
                    }
                }
            }
            ints
        }
    }
}

impl Blocks for Eight {
    type X = Block<16>;
    const LAYOUT: BlockLayout = BlockLayout::EIGHT;
    const ZERO: i32 = 0;

    #[inline(always)]
    fn ints<S: Simd, const N: usize>(s: S, block: &[u8], x: [&Block<16>; N]) -> [S::I; N] {
        let layout = Self::LAYOUT;
        {
            let mut ints = [s.splat_i32(0); N];
            for pair in 0..BLOCK / 2 {
                let w = s.load_widened(bytes_at::<16>(block, layout.quants + 16 * pair));
                for n in 0..N {
                    ints[n] = s.dot_words(w, s.splat_i32(x[n].q[pair]), ints[n]);
                }
            }
            ints
        }
    }
}

macro_rules! block_format {
    ([$($generics:tt)*] $name:ty, $row:ident) => {
        impl<$($generics)*> Format for $name {
            type X = <Self as Blocks>::X;

            #[inline(always)]
            fn row(x: &Activations, t: usize) -> &[Self::X] {
                x.$row(t)
            }

            #[inline(always)]
            fn tile<S: Simd, const N: usize>(s: S, panel: &[u8], x: [&[Self::X]; N]) -> [S::F; N] {
                blocks::<S, Self, N>(s, panel, x)
            }
        }
    };
}

block_format!([const AFFINE: bool, const FIVE: bool] Bytes<AFFINE, FIVE>, bytes);
block_format!([const AFFINE: bool, const FIVE: bool] Words<AFFINE, FIVE>, words);
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
            fn row(x: &Activations, t: usize) -> &[f32] {
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
        let cols = 64;
        for (level, dtype) in Level::available().into_iter().flat_map(|l| DType::ALL.map(|d| (l, d))) {
            // Every value is 1, or a quant of 0 with scale and minimum 1.
            let one = half::f16::ONE.to_le_bytes();
            let mut block = vec![0; dtype.block_bytes() as usize];
            match dtype {
                DType::F32 => block.copy_from_slice(&1f32.to_le_bytes()),
                DType::BF16 => block.copy_from_slice(&half::bf16::ONE.to_le_bytes()),
                DType::F16 | DType::Q4_0 | DType::Q5_0 => block[..2].copy_from_slice(&one),
                DType::Q8_0 => block[..3].copy_from_slice(&[one[0], one[1], 127]),
                DType::Q4_1 | DType::Q5_1 => block[..4].copy_from_slice(&[one, one].concat()),
            }
            let mut matrix = Matrix::new("test", dtype, 3, cols).unwrap();
            matrix.fill(0, &block.repeat(3 * cols / dtype.block_len() as usize)).unwrap();
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for (bits, count) in
                    [Bits::Eight, Bits::Sixteen].into_iter().flat_map(|b| [(b, 1), (b, cols)])
                {
                    let mut x = Activations::default();
                    x.set(5, cols, |_, row| row[..count].fill(bad));
                    matrix.prepare(level, bits, &mut x);
                    let mut out = [0.0; 15];
                    matrix.project(level, bits, &x, 0..matrix.panels(), &mut out, 3);
                    assert!(
                        out.iter().all(|y| !y.is_finite()),
                        "{} {bits:?} {count} × {bad}: {out:?}",
                        dtype.name()
                    );
                }
            }
        }
    }
}
