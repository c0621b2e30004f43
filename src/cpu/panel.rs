//! Panels: how weights lie in memory for the CPU kernels. [`super::pack`] makes them.
//!
//! A panel is eight rows. A vector's lane is a row of the panel, so that a kernel needs no sum over
//! lanes, and one activation is used for eight rows. There are three kinds of panels:
//!
//! - Floats: for each column, the eight rows' values.
//! - Packed, of the formats that have kernels of their own: blocks of 32 columns, whose parts are the eight rows' scales,
//!   upper bits and quants (see [`BlockLayout`]). A super-block of eight blocks has its f16 scales in front.
//!   - Four bits: for each octet of columns 32 bytes, four to a row. As two little-endian words
//!     `p = 0, 1` of a row, nibble `j` of word `p` is column `2 j + p` of the octet: shifts of 16-bit
//!     lanes give pairs of neighbouring columns, and the low and the high nibbles of the four bytes
//!     are columns 0 4 1 5 and 2 6 3 7.
//!   - Fifth bits: byte `b` of a row (four to a row) holds those of the quant bytes `b` of its row,
//!     bit `2 · octet` for the low and `2 · octet + 1` for the high nibble.
//!   - Fifth and sixth bits: the same with two bits each, 32 bytes for two octets.
//!   - Eight bits: for each pair of columns 16 bytes, two to a row.
//! - File blocks, of all other formats: for each block of the file, the eight rows' blocks as they are. [`expand`] makes
//!   bytes and f32 scales of a row before it is used.
//!
//! Floats and file blocks take exactly their bytes in the file, packed blocks at most 3 % more.

use crate::formats::{self, DType, Elements, Format, Sub};

/// Rows of a panel.
pub const ROWS: usize = 8;
/// Columns of a block.
pub const BLOCK: usize = formats::BLOCK;

/// How a packed format is scaled. Eight rows' worth of each part lie together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scaling {
    /// f16 in front of a block.
    Half,
    /// f16 and an f16 minimum in front of a block.
    Affine,
    /// A byte for scale and a byte for the minimum in front of a block; f16 factors of both in front of a super-block.
    SuperAffine,
    /// A signed byte for each half in front of a block; an f16 factor in front of a super-block.
    SuperHalves,
}

/// Where the parts of a packed panel's blocks begin.
#[derive(Clone, Copy)]
pub struct BlockLayout {
    /// Of the scales.
    pub scaling: Scaling,
    /// Bits of a quant: 4, 5, 6 or 8.
    pub bits: u32,
    /// What is subtracted from quants.
    pub zero: i32,
    /// Bytes in front of a super-block.
    pub header: usize,
    /// First byte of the upper bits in a block.
    pub high: usize,
    /// First byte of the quants in a block.
    pub quants: usize,
    /// Bytes of a block.
    pub bytes: usize,
    /// Blocks of a super-block, or 1.
    pub blocks: usize,
}

impl BlockLayout {
    const fn new(scaling: Scaling, bits: u32, zero: i32) -> Self {
        let (header, scales, blocks) = match scaling {
            Scaling::Half => (0, 16, 1),
            Scaling::Affine => (0, 32, 1),
            Scaling::SuperAffine => (32, 16, 8),
            Scaling::SuperHalves => (16, 16, 8),
        };
        let (upper, lower) = match bits {
            4 => (0, 128),
            5 => (32, 128),
            6 => (64, 128),
            _ => (0, 256),
        };
        let quants = scales + upper;
        BlockLayout { scaling, bits, zero, header, high: scales, quants, bytes: quants + lower, blocks }
    }

    /// For Q8_0.
    pub const EIGHT: Self = Self::new(Scaling::Half, 8, 0);

    /// Of the formats that have kernels of their own.
    pub const fn of(dtype: DType) -> Option<Self> {
        Some(match dtype {
            DType::Q4_0 => Self::new(Scaling::Half, 4, 8),
            DType::Q4_1 => Self::new(Scaling::Affine, 4, 0),
            DType::Q5_0 => Self::new(Scaling::Half, 5, 16),
            DType::Q5_1 => Self::new(Scaling::Affine, 5, 0),
            DType::Q8_0 => Self::EIGHT,
            DType::Q4_K => Self::new(Scaling::SuperAffine, 4, 0),
            DType::Q5_K => Self::new(Scaling::SuperAffine, 5, 0),
            DType::Q6_K => Self::new(Scaling::SuperHalves, 6, 32),
            _ => return None,
        })
    }

    /// Bytes of a super-block, or of a block.
    pub const fn super_bytes(&self) -> usize {
        self.header + self.blocks * self.bytes
    }

    /// Byte and shift of a column's lower bits for row 0; rows are four bytes apart, of eight bits two.
    fn lower(&self, column: usize) -> (usize, usize) {
        if self.bits == 8 {
            return (self.quants + 16 * (column / 2) + column % 2, 0);
        }
        let (byte, shift) = nibble(column % 8);
        (self.quants + 32 * (column / 8) + byte, shift)
    }

    /// Byte and shift of a column's upper bits for row 0.
    fn upper(&self, column: usize) -> (usize, usize) {
        let (byte, shift) = nibble(column % 8);
        let octet = column / 8;
        match self.bits {
            5 => (self.high + byte, 2 * octet + shift / 4),
            _ => (self.high + 32 * (octet / 2) + byte, 4 * (octet % 2) + shift / 2),
        }
    }
}

/// Bytes of one row in the file.
pub fn row_bytes(dtype: DType, cols: usize) -> usize {
    cols / dtype.block_len() as usize * dtype.block_bytes() as usize
}

/// Bytes of a panel.
pub fn panel_bytes(dtype: DType, cols: usize) -> usize {
    match BlockLayout::of(dtype) {
        Some(layout) => cols / dtype.block_len() as usize * layout.super_bytes(),
        None => row_bytes(dtype, cols) * ROWS,
    }
}

/// Byte (of four) and shift of a column of an octet within a row's quant bytes.
#[inline(always)]
const fn nibble(column: usize) -> (usize, usize) {
    let (j, p) = (column / 2, column % 2);
    (2 * p + j / 2, 4 * (j % 2))
}

fn f16(at: &[u8]) -> f32 {
    half::f16::from_le_bytes([at[0], at[1]]).to_f32()
}

/// The values of row `r` of a panel.
pub fn unpack_row(dtype: DType, panel: &[u8], r: usize, out: &mut [f32]) {
    let Format { block_bytes: size, elements, block_len, .. } = *dtype.format();
    let (layout, unpack) = match (BlockLayout::of(dtype), elements) {
        (Some(layout), _) => (layout, None),
        (_, Elements::Blocks(unpack)) => (BlockLayout::EIGHT, Some(unpack)),
        (_, Elements::Float(value)) => {
            for (column, out) in panel.chunks_exact(size * ROWS).zip(out) {
                *out = value(&column[r * size..(r + 1) * size]);
            }
            return;
        }
    };
    if let Some(unpack) = unpack {
        let blocks = panel.chunks_exact(size * ROWS).zip(out.chunks_exact_mut(block_len));
        for (blocks, out) in blocks {
            for (i, out) in out.chunks_exact_mut(BLOCK).enumerate() {
                let Sub { q, scale, low } = unpack(&blocks[r * size..(r + 1) * size], i);
                for (column, out) in out.iter_mut().enumerate() {
                    *out = scale[column / 16] * f32::from(q[column]) + low[column / 16];
                }
            }
        }
        return;
    }
    let panels = panel.chunks_exact(layout.super_bytes()).zip(out.chunks_exact_mut(BLOCK * layout.blocks));
    for (from, out) in panels {
        let (header, blocks) = from.split_at(layout.header);
        for (block, out) in blocks.chunks_exact(layout.bytes).zip(out.chunks_exact_mut(BLOCK)) {
            let (scale, low) = match layout.scaling {
                Scaling::Half => ([f16(&block[2 * r..]); 2], 0.0),
                Scaling::Affine => ([f16(&block[2 * r..]); 2], f16(&block[16 + 2 * r..])),
                Scaling::SuperAffine => (
                    [f16(&header[2 * r..]) * f32::from(block[r]); 2],
                    -f16(&header[16 + 2 * r..]) * f32::from(block[8 + r]),
                ),
                Scaling::SuperHalves => {
                    let d = f16(&header[2 * r..]);
                    ([block[r], block[8 + r]].map(|s| d * f32::from(s as i8)), 0.0)
                }
            };
            for (column, out) in out.iter_mut().enumerate() {
                let (at, shift) = layout.lower(column);
                let q = if layout.bits == 8 {
                    i32::from(block[at + 2 * r] as i8)
                } else {
                    let mut q = block[at + 4 * r] >> shift & 15;
                    if layout.bits > 4 {
                        let (at, shift) = layout.upper(column);
                        q |= (block[at + 4 * r] >> shift & (if layout.bits == 5 { 1 } else { 3 })) << 4;
                    }
                    i32::from(q)
                };
                *out = scale[column / 16] * (q - layout.zero) as f32 + low;
            }
        }
    }
}

/// The 32s of one row of a panel of file blocks.
pub fn expand(dtype: DType, panel: &[u8], r: usize, out: &mut Vec<Sub>) {
    let Format { block_bytes: size, elements, block_len, .. } = *dtype.format();
    let Elements::Blocks(unpack) = elements else { return };
    out.clear();
    for blocks in panel.chunks_exact(size * ROWS) {
        let block = &blocks[r * size..(r + 1) * size];
        out.extend((0..block_len / BLOCK).map(|sub| unpack(block, sub)));
    }
}
