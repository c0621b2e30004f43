//! Packing: rows as they stand in a file become panels (see [`super::panel`]).
//!
//! The rows of a panel are packed together, block by block, so that what is written lies together. Quants move as words of
//! eight bytes, one for an octet of columns.

use crate::formats::DType;

use super::panel::{BLOCK, BlockLayout, ROWS, Scaling};

/// Octets of a block.
const OCTETS: usize = BLOCK / 8;

/// Puts whole rows of a file into panels, the first as row `row`. Of their blocks everything is written.
pub fn pack_rows(
    dtype: DType,
    row_bytes: usize,
    row: usize,
    file: &[u8],
    panels: &mut [u8],
    panel_bytes: usize,
) {
    let (mut row, mut file) = (row, file);
    while !file.is_empty() {
        let first = row % ROWS;
        let (now, later) = file.split_at(file.len().min((ROWS - first) * row_bytes));
        let panel = &mut panels[row / ROWS * panel_bytes..][..panel_bytes];
        pack_panel(dtype, Rows { file: now, row_bytes, first }, panel);
        row += ROWS - first;
        file = later;
    }
}

/// Rows of one panel, as they stand in the file.
#[derive(Clone, Copy)]
struct Rows<'a> {
    file: &'a [u8],
    row_bytes: usize,
    /// Which row of the panel the first is.
    first: usize,
}

impl<'a> Rows<'a> {
    /// Block `index` of each row, and the row's place in the panel.
    #[inline(always)]
    fn blocks<const SIZE: usize>(self, index: usize) -> impl Iterator<Item = (usize, &'a [u8; SIZE])> {
        let rows = self.file.chunks_exact(self.row_bytes).enumerate();
        rows.filter_map(move |(i, row)| Some(((self.first + i) % ROWS, row.as_chunks().0.get(index)?)))
    }
}

fn pack_panel(dtype: DType, rows: Rows<'_>, panel: &mut [u8]) {
    match dtype {
        DType::F32 => whole::<4>(rows, panel),
        DType::F16 | DType::BF16 => whole::<2>(rows, panel),
        DType::Q4_0 => packed::<18>(DType::Q4_0, rows, panel, |block, _| nibbles(block, 2)),
        DType::Q4_1 => packed::<20>(DType::Q4_1, rows, panel, |block, _| nibbles(block, 4)),
        DType::Q5_0 => packed::<22>(DType::Q5_0, rows, panel, |block, _| fifths(nibbles(block, 6), block, 2)),
        DType::Q5_1 => packed::<24>(DType::Q5_1, rows, panel, |block, _| fifths(nibbles(block, 8), block, 4)),
        DType::Q8_0 => packed::<34>(DType::Q8_0, rows, panel, |block, _| octets(block, 2)),
        DType::Q4_K => packed::<144>(DType::Q4_K, rows, panel, |block, sub| {
            octets(block, 16 + 32 * (sub / 2)).map(|q| q >> (4 * (sub % 2)) & each(15))
        }),
        DType::Q5_K => packed::<176>(DType::Q5_K, rows, panel, |block, sub| {
            let (low, high) = (octets(block, 48 + 32 * (sub / 2)), octets(block, 16));
            std::array::from_fn(|i| low[i] >> (4 * (sub % 2)) & each(15) | (high[i] >> sub & each(1)) << 4)
        }),
        DType::Q6_K => packed::<210>(DType::Q6_K, rows, panel, |block, sub| {
            // Four subs share 64 bytes of lower bits, of which the last two have the high nibbles, and 32 of upper bits.
            let low = octets(block, 64 * (sub / 4) + 32 * (sub % 2));
            let high = octets(block, 128 + 32 * (sub / 4));
            let (four, two) = (4 * (sub % 4 / 2), 2 * (sub % 4));
            std::array::from_fn(|i| low[i] >> four & each(15) | (high[i] >> two & each(3)) << 4)
        }),
        other => any_whole(other.block_bytes() as usize, rows, panel),
    }
}

/// Eight times the same byte.
const fn each(byte: u8) -> u64 {
    byte as u64 * 0x0101_0101_0101_0101
}

/// Eight bytes from `at` on.
#[inline(always)]
fn octet<const SIZE: usize>(block: &[u8; SIZE], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&block[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Those of a block.
#[inline(always)]
fn octets<const SIZE: usize>(block: &[u8; SIZE], at: usize) -> [u64; OCTETS] {
    std::array::from_fn(|i| octet(block, at + 8 * i))
}

/// The low nibbles of sixteen bytes, then their high nibbles.
#[inline(always)]
fn nibbles<const SIZE: usize>(block: &[u8; SIZE], at: usize) -> [u64; OCTETS] {
    let (a, b) = (octet(block, at), octet(block, at + 8));
    [a, b, a >> 4, b >> 4].map(|q| q & each(15))
}

/// Quants with fifth bits: bit `i` of the four bytes is quant `i`'s.
#[inline(always)]
fn fifths<const SIZE: usize>(q: [u64; OCTETS], block: &[u8; SIZE], at: usize) -> [u64; OCTETS] {
    std::array::from_fn(|i| {
        // Byte `j` keeps bit `j` of eight copies; with 0x7f the highest bit is set where it was.
        let bits = each(block[at + i]) & 0x8040_2010_0804_0201;
        q[i] | (bits + each(0x7f)) >> 3 & each(0x10)
    })
}

/// Eight columns, a byte each, as four bytes of a panel: columns 0, 4, 1 and 5, and `shift` bits above them columns 2, 6, 3
/// and 7, which have room there.
#[inline(always)]
fn paired(q: u64, shift: u32) -> u32 {
    // Byte `i` has columns `i` and `i + 2`.
    let pairs = (q | q >> (16 - shift)) & 0x0000_ffff_0000_ffff;
    let spread = (pairs | pairs << 8) & 0x00ff_00ff_00ff_00ff;
    (spread | spread >> 24) as u32
}

#[inline(always)]
fn put<const N: usize>(to: &mut [u8], at: usize, bytes: [u8; N]) {
    to[at..at + N].copy_from_slice(&bytes);
}

/// Blocks of a packed format. `octets` gives the 32 quants of a sub-block, in bytes.
#[inline(always)]
fn packed<const SIZE: usize>(
    dtype: DType,
    rows: Rows<'_>,
    panel: &mut [u8],
    octets: impl Fn(&[u8; SIZE], usize) -> [u64; OCTETS],
) {
    let Some(layout) = BlockLayout::of(dtype) else { return };
    for (index, to) in panel.chunks_exact_mut(layout.super_bytes()).enumerate() {
        for (r, file) in rows.blocks::<SIZE>(index) {
            put_scales(&layout, file, r, to);
            let blocks = to[layout.header..].chunks_exact_mut(layout.bytes);
            for (sub, block) in blocks.enumerate() {
                put_quants(&layout, octets(file, sub % layout.blocks), r, block);
            }
        }
    }
}

/// Puts what row `r` has of scales into a super-block, or into a block.
#[inline(always)]
fn put_scales<const SIZE: usize>(layout: &BlockLayout, file: &[u8; SIZE], r: usize, to: &mut [u8]) {
    let half = |at: usize| [file[at], file[at + 1]];
    let mut put_bytes = |first: [u8; 8], second: [u8; 8]| {
        for (sub, bytes) in first.into_iter().zip(second).enumerate() {
            let block = layout.header + sub * layout.bytes;
            (to[block + r], to[block + 8 + r]) = bytes;
        }
    };
    match layout.scaling {
        Scaling::Half => put(to, 2 * r, half(0)),
        Scaling::Affine => {
            put(to, 2 * r, half(0));
            put(to, 16 + 2 * r, half(2));
        }
        Scaling::SuperAffine => {
            let (scales, minima) = six_bits(file);
            put_bytes(scales, minima);
            put(to, 2 * r, half(0));
            put(to, 16 + 2 * r, half(2));
        }
        // As in Q6_K, the only one.
        Scaling::SuperHalves => {
            put_bytes(
                std::array::from_fn(|sub| file[192 + 2 * sub]),
                std::array::from_fn(|sub| file[193 + 2 * sub]),
            );
            put(to, 2 * r, half(208));
        }
    }
}

/// Scales and minima of a super-block, as [`crate::formats::q4_k::six_bits`] has each: four to a word.
#[inline(always)]
fn six_bits<const SIZE: usize>(file: &[u8; SIZE]) -> ([u8; 8], [u8; 8]) {
    const FOUR: u32 = 0x0f0f_0f0f;
    let word = |at: usize| u32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]);
    let (first, second, last) = (word(4), word(8), word(12));
    let upper = |word: u32| (word >> 6 & 0x0303_0303) << 4;
    let eight = |low: u32, high: u32| (u64::from(low) | u64::from(high) << 32).to_le_bytes();
    (
        eight(first & 0x3f3f_3f3f, last & FOUR | upper(first)),
        eight(second & 0x3f3f_3f3f, last >> 4 & FOUR | upper(second)),
    )
}

/// Puts the 32 quants of row `r` into a block.
#[inline(always)]
fn put_quants(layout: &BlockLayout, octets: [u64; OCTETS], r: usize, block: &mut [u8]) {
    if layout.bits == 8 {
        for (octet, q) in octets.into_iter().enumerate() {
            let [a, b, c, d, e, f, g, h] = q.to_le_bytes();
            for (pair, bytes) in [[a, b], [c, d], [e, f], [g, h]].into_iter().enumerate() {
                put(block, layout.quants + 64 * octet + 16 * pair + 2 * r, bytes);
            }
        }
        return;
    }
    for (octet, q) in octets.into_iter().enumerate() {
        put(block, layout.quants + 32 * octet + 4 * r, paired(q & each(15), 4).to_le_bytes());
    }
    let [a, b, c, d] = octets.map(|q| q >> 4);
    match layout.bits {
        5 => {
            let high = a & each(1) | (b & each(1)) << 2 | (c & each(1)) << 4 | (d & each(1)) << 6;
            put(block, layout.high + 4 * r, paired(high, 1).to_le_bytes());
        }
        6 => {
            for (word, (a, b)) in [(a, b), (c, d)].into_iter().enumerate() {
                let high = a & each(3) | (b & each(3)) << 4;
                put(block, layout.high + 32 * word + 4 * r, paired(high, 2).to_le_bytes());
            }
        }
        _ => {}
    }
}

/// Floats and file blocks, of a size that the compiler knows.
fn whole<const SIZE: usize>(rows: Rows<'_>, panel: &mut [u8]) {
    for (index, to) in panel.chunks_exact_mut(SIZE * ROWS).enumerate() {
        for (r, block) in rows.blocks::<SIZE>(index) {
            put(to, SIZE * r, *block);
        }
    }
}

/// The same of any size.
fn any_whole(size: usize, rows: Rows<'_>, panel: &mut [u8]) {
    for (i, row) in rows.file.chunks_exact(rows.row_bytes).enumerate() {
        let r = (rows.first + i) % ROWS;
        for (block, to) in row.chunks_exact(size).zip(panel.chunks_exact_mut(size * ROWS)) {
            to[r * size..(r + 1) * size].copy_from_slice(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::formats::{Elements, Format, q4_k};

    use super::super::panel::{panel_bytes, row_bytes};
    use super::*;

    /// The reference: one row into row `r` of a panel that was zero there, by the format's own unpacking.
    fn pack_row(dtype: DType, file: &[u8], r: usize, panel: &mut [u8]) {
        let Format { block_bytes: size, elements, .. } = *dtype.format();
        let (Some(layout), Elements::Blocks(unpack)) = (BlockLayout::of(dtype), elements) else {
            for (value, column) in file.chunks_exact(size).zip(panel.chunks_exact_mut(size * ROWS)) {
                column[r * size..(r + 1) * size].copy_from_slice(value);
            }
            return;
        };
        for (file, to) in file.chunks_exact(size).zip(panel.chunks_exact_mut(layout.super_bytes())) {
            let (header, blocks) = to.split_at_mut(layout.header);
            for (i, block) in blocks.chunks_exact_mut(layout.bytes).enumerate() {
                match layout.scaling {
                    Scaling::Half => block[2 * r..2 * r + 2].copy_from_slice(&file[..2]),
                    Scaling::Affine => {
                        block[2 * r..2 * r + 2].copy_from_slice(&file[..2]);
                        block[16 + 2 * r..18 + 2 * r].copy_from_slice(&file[2..4]);
                    }
                    Scaling::SuperAffine => {
                        header[2 * r..2 * r + 2].copy_from_slice(&file[..2]);
                        header[16 + 2 * r..18 + 2 * r].copy_from_slice(&file[2..4]);
                        (block[r], block[8 + r]) = q4_k::six_bits(file, i);
                    }
                    // As in Q6_K, the only one.
                    Scaling::SuperHalves => {
                        header[2 * r..2 * r + 2].copy_from_slice(&file[208..]);
                        (block[r], block[8 + r]) = (file[192 + 2 * i], file[193 + 2 * i]);
                    }
                }
                let above = if layout.scaling == Scaling::SuperHalves { layout.zero as i8 } else { 0 };
                put_each(&layout, &unpack(file, i).q.map(|q| q.wrapping_add(above) as u8), r, block);
            }
        }
    }

    /// Puts the 32 quants of row `r` into a block that was zero there.
    fn put_each(layout: &BlockLayout, q: &[u8; BLOCK], r: usize, block: &mut [u8]) {
        if layout.bits == 8 {
            for (pair, to) in q.as_chunks::<2>().0.iter().zip(block[layout.quants..].chunks_exact_mut(16)) {
                to[2 * r..2 * r + 2].copy_from_slice(pair);
            }
            return;
        }
        let (high, quants) = block[layout.high..].split_at_mut(layout.quants - layout.high);
        for (octet, q) in q.as_chunks::<8>().0.iter().enumerate() {
            // As `nibble` has it.
            let pairs = [(q[0], q[2]), (q[4], q[6]), (q[1], q[3]), (q[5], q[7])];
            let at = 32 * octet + 4 * r;
            quants[at..at + 4].copy_from_slice(&pairs.map(|(low, high)| low & 15 | high << 4));
            let (at, shift, bits) = match layout.bits {
                5 => (4 * r, 2 * octet, 1),
                6 => (32 * (octet / 2) + 4 * r, 4 * (octet % 2), 2),
                _ => continue,
            };
            for (to, (low, high)) in high[at..at + 4].iter_mut().zip(pairs) {
                *to |= (low >> 4 | high >> 4 << bits) << shift;
            }
        }
    }

    /// Bytes that repeat after a very long time.
    fn noise(seed: u64) -> impl Iterator<Item = u8> {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
    }

    /// How a matrix of so many rows may arrive: rows of each piece.
    const PIECES: [&[usize]; 6] = [&[8], &[1], &[16, 8], &[3, 5, 8, 7], &[1, 1, 1, 20], &[13, 10]];

    #[test]
    fn rows_packed_together_are_those_packed_one_by_one() {
        for dtype in DType::ALL {
            for blocks in [1, 2, 3, 9] {
                let cols = blocks * dtype.block_len() as usize;
                let (row_bytes, panel_bytes) = (row_bytes(dtype, cols), panel_bytes(dtype, cols));
                for (seed, pieces) in (1..).zip(PIECES) {
                    let rows: usize = pieces.iter().sum();
                    let file: Vec<u8> = noise(seed).take(rows * row_bytes).collect();
                    let bytes = rows.div_ceil(ROWS) * panel_bytes;
                    let mut expected = vec![0; bytes];
                    for (i, row) in file.chunks_exact(row_bytes).enumerate() {
                        let panel = &mut expected[i / ROWS * panel_bytes..][..panel_bytes];
                        pack_row(dtype, row, i % ROWS, panel);
                    }
                    let mut packed = vec![0; bytes];
                    let mut row = 0;
                    for count in pieces {
                        let piece = &file[row * row_bytes..][..count * row_bytes];
                        pack_rows(dtype, row_bytes, row, piece, &mut packed, panel_bytes);
                        row += count;
                    }
                    assert!(packed == expected, "{dtype:?}, {blocks} blocks, {pieces:?}");
                }
            }
        }
    }

    #[test]
    fn what_was_there_is_gone() {
        for dtype in DType::ALL {
            let cols = 2 * dtype.block_len() as usize;
            let (row_bytes, panel_bytes) = (row_bytes(dtype, cols), panel_bytes(dtype, cols));
            let file: Vec<u8> = noise(7).take(ROWS * row_bytes).collect();
            let [zeros, ones] = [0, 0xff].map(|fill| {
                let mut panel = vec![fill; panel_bytes];
                pack_rows(dtype, row_bytes, 0, &file, &mut panel, panel_bytes);
                panel
            });
            assert!(zeros == ones, "{dtype:?}");
        }
    }
}
