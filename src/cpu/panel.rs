//! Panels: how weights lie in memory for the CPU kernels, and the repacking of file rows.
//!
//! A panel is eight rows. A vector's lane is a row of the panel, so that a kernel needs no sum over
//! lanes, and one activation is used for eight rows. A panel takes exactly its rows' bytes in the
//! file, whatever the format:
//!
//! - F32, F16, BF16: for each column, the eight rows' values.
//! - Blocks of 32 columns: eight f16 scales; eight f16 minima (Q4_1, Q5_1); the fifth bits (32 bytes,
//!   Q5_0 and Q5_1); the quants.
//!   - Four bits: for each octet of columns 32 bytes, four to a row. As two little-endian words
//!     `p = 0, 1` of a row, nibble `j` of word `p` is column `2 j + p` of the octet: shifts of 16-bit
//!     lanes give pairs of neighbouring columns, and the low and the high nibbles of the four bytes
//!     are columns 0 4 1 5 and 2 6 3 7.
//!   - Fifth bits: byte `b` of a row (four to a row) holds those of the quant bytes `b` of its row,
//!     bit `2 · octet` for the low and `2 · octet + 1` for the high nibble.
//!   - Eight bits (Q8_0): for each pair of columns 16 bytes, two to a row.

use crate::formats::DType;

/// Rows of a panel.
pub const ROWS: usize = 8;
/// Columns of a block.
pub const BLOCK: usize = 32;

/// Where the parts of one panel's block begin.
#[derive(Clone, Copy)]
pub struct BlockLayout {
    /// Whether there are minima, at byte 16.
    pub affine: bool,
    /// Whether there are fifth bits.
    pub five: bool,
    /// First byte of the fifth bits.
    pub high: usize,
    /// First byte of the quants.
    pub quants: usize,
    /// Bytes in all.
    pub bytes: usize,
}

impl BlockLayout {
    /// For four or five bits a weight.
    pub const fn nibbles(affine: bool, five: bool) -> Self {
        let high = if affine { 32 } else { 16 };
        let quants = if five { high + 32 } else { high };
        BlockLayout { affine, five, high, quants, bytes: quants + 128 }
    }

    /// For Q8_0.
    pub const EIGHT: Self = BlockLayout { affine: false, five: false, high: 16, quants: 16, bytes: 272 };

    /// None for the float types.
    pub const fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 | DType::F16 | DType::BF16 => None,
            DType::Q4_0 => Some(Self::nibbles(false, false)),
            DType::Q4_1 => Some(Self::nibbles(true, false)),
            DType::Q5_0 => Some(Self::nibbles(false, true)),
            DType::Q5_1 => Some(Self::nibbles(true, true)),
            DType::Q8_0 => Some(Self::EIGHT),
        }
    }
}

/// Bytes of one row in the file, and an eighth of a panel.
pub fn row_bytes(dtype: DType, cols: usize) -> usize {
    cols / dtype.block_len() as usize * dtype.block_bytes() as usize
}

/// What is subtracted from quants before they are scaled.
pub const fn zero_point(dtype: DType) -> i32 {
    match dtype {
        DType::Q4_0 => 8,
        DType::Q5_0 => 16,
        DType::F32 | DType::F16 | DType::BF16 | DType::Q4_1 | DType::Q5_1 | DType::Q8_0 => 0,
    }
}

/// Byte (of four) and shift of a column of an octet within a row's quant bytes.
#[inline(always)]
const fn nibble(column: usize) -> (usize, usize) {
    let (j, p) = (column / 2, column % 2);
    (2 * p + j / 2, 4 * (j % 2))
}

/// Puts the file bytes of one row into row `r` of a panel that was zero there.
pub fn pack_row(dtype: DType, file: &[u8], r: usize, panel: &mut [u8]) {
    let Some(layout) = BlockLayout::of(dtype) else {
        let size = dtype.block_bytes() as usize;
        for (value, column) in file.chunks_exact(size).zip(panel.chunks_exact_mut(size * ROWS)) {
            column[r * size..(r + 1) * size].copy_from_slice(value);
        }
        return;
    };
    let blocks = file.chunks_exact(dtype.block_bytes() as usize).zip(panel.chunks_exact_mut(layout.bytes));
    for (file, block) in blocks {
        block[2 * r..2 * r + 2].copy_from_slice(&file[..2]);
        if dtype == DType::Q8_0 {
            for (pair, to) in file[2..].chunks_exact(2).zip(block[layout.quants..].chunks_exact_mut(16)) {
                to[2 * r..2 * r + 2].copy_from_slice(pair);
            }
            continue;
        }
        let mut at = 2;
        if layout.affine {
            block[16 + 2 * r..16 + 2 * r + 2].copy_from_slice(&file[2..4]);
            at = 4;
        }
        let mut high = 0;
        if layout.five {
            high = file[at..].first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
            at += 4;
        }
        let quants = &file[at..];
        for column in 0..BLOCK {
            let low = if column < 16 { quants[column] & 15 } else { quants[column - 16] >> 4 };
            let (byte, shift) = nibble(column % 8);
            let octet = column / 8;
            block[layout.quants + 32 * octet + 4 * r + byte] |= low << shift;
            if layout.five {
                let bit = (high >> column & 1) as u8;
                block[layout.high + 4 * r + byte] |= bit << (2 * octet + shift / 4);
            }
        }
    }
}

/// The values of row `r` of a panel.
pub fn unpack_row(dtype: DType, panel: &[u8], r: usize, out: &mut [f32]) {
    let f16 = |at: &[u8]| half::f16::from_le_bytes([at[0], at[1]]).to_f32();
    let Some(layout) = BlockLayout::of(dtype) else {
        let size = dtype.block_bytes() as usize;
        for (column, out) in panel.chunks_exact(size * ROWS).zip(out) {
            let value = &column[r * size..(r + 1) * size];
            *out = match dtype {
                DType::F16 => f16(value),
                DType::BF16 => half::bf16::from_le_bytes([value[0], value[1]]).to_f32(),
                DType::F32 => value.first_chunk().map_or(0.0, |b| f32::from_le_bytes(*b)),
                // Never: these have blocks.
                DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::Q8_0 => 0.0,
            };
        }
        return;
    };
    for (block, out) in panel.chunks_exact(layout.bytes).zip(out.chunks_exact_mut(BLOCK)) {
        let scale = f16(&block[2 * r..]);
        let minimum = if layout.affine { f16(&block[16 + 2 * r..]) } else { 0.0 };
        for (column, out) in out.iter_mut().enumerate() {
            let quant = if dtype == DType::Q8_0 {
                i32::from(block[layout.quants + 16 * (column / 2) + 2 * r + column % 2] as i8)
            } else {
                let (byte, shift) = nibble(column % 8);
                let octet = column / 8;
                let low = block[layout.quants + 32 * octet + 4 * r + byte] >> shift & 15;
                let high = if layout.five {
                    block[layout.high + 4 * r + byte] >> (2 * octet + shift / 4) & 1
                } else {
                    0
                };
                i32::from(low | high << 4)
            };
            *out = scale * (quant - zero_point(dtype)) as f32 + minimum;
        }
    }
}
