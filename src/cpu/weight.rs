//! A weight matrix of the backend: parts of one dtype each, and products with it on all threads.

use crate::error::{Error, Result};
use crate::graph::Segment;

use super::activations::{Activations, Bits};
use super::matrix::{Matrix, TOKENS};
use super::memory::{Account, Shared};
use super::panel::{self, ROWS};
use super::simd::Level;
use super::team::{Spread, Team};

/// How a product is computed.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Which vectors.
    pub level: Level,
    /// Of the activations.
    pub bits: Bits,
}

/// Rows of one dtype.
#[derive(Clone)]
pub struct Part {
    matrix: Shared<Matrix>,
    /// First row in the whole matrix.
    row_base: usize,
    rows: usize,
}

/// A matrix (rows, cols) in its quantized form.
#[derive(Clone)]
pub struct CpuWeight {
    label: String,
    parts: Vec<Part>,
    rows: usize,
    cols: usize,
    bytes: u64,
}

impl CpuWeight {
    pub(super) fn new(account: &Account, label: &str, cols: u64, segments: &[Segment]) -> Result<Self> {
        let too_big = || Error::OutOfMemory { what: label.to_owned(), bytes: u64::MAX };
        let cols = usize::try_from(cols).map_err(|_| too_big())?;
        let mut weight = CpuWeight { label: label.to_owned(), parts: Vec::new(), rows: 0, cols, bytes: 0 };
        for same in segments.chunk_by(|a, b| a.dtype == b.dtype) {
            let dtype = same[0].dtype;
            let rows: u64 = same.iter().map(|s| s.rows).sum();
            let rows = usize::try_from(rows).map_err(|_| too_big())?;
            let matrix = Matrix::new(label, dtype, rows, cols)?;
            let held = matrix.bytes() as u64;
            weight.bytes += (panel::row_bytes(dtype, cols) * rows) as u64;
            let matrix = Shared::new(account, held, matrix);
            weight.parts.push(Part { matrix, row_base: weight.rows, rows });
            weight.rows += rows;
        }
        Ok(weight)
    }

    /// Fills whole rows from `row` on with file bytes.
    pub(super) fn fill(&self, row: usize, file: &[u8]) -> Result<()> {
        let (mut row, mut file) = (row, file);
        while !file.is_empty() {
            let (part, at) = self.find(row)?;
            let mut matrix = part.matrix.write();
            let row_bytes = matrix.row_bytes();
            let (now, later) = file.split_at(file.len().min((part.rows - at) * row_bytes));
            matrix.fill(at, now)?;
            row += now.len() / row_bytes.max(1);
            file = later;
        }
        Ok(())
    }

    /// The values of one row.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        let (part, at) = self.find(row)?;
        part.matrix.read().row(at, out);
        Ok(())
    }

    /// out (T, rows) = x Wᵀ, on all threads. `strips` is memory that is kept.
    pub(super) fn project(
        &self,
        team: &mut Team,
        how: How,
        x: &mut Activations,
        out: &mut [f32],
        strips: &mut Vec<f32>,
    ) {
        for part in &self.parts {
            let matrix = part.matrix.read();
            matrix.prepare(how.level, how.bits, x, team);
            let product = matrix.product(how.level, x);
            let (tokens, panels, rows) = (x.rows(), matrix.panels(), part.rows);
            // A micro-tile takes one token or several about as long.
            let each = Team::units_of_chunk(panels, matrix.panel_bytes() * tokens.div_ceil(TOKENS));
            if tokens <= TOKENS {
                // A piece is some rows of all tokens: of one token, in place.
                let to = if tokens == 1 {
                    &mut out[part.row_base..part.row_base + rows]
                } else {
                    strips.resize(tokens * rows, 0.0);
                    strips.as_mut_slice()
                };
                // SAFETY: a product is made of plain slices, whose bytes are neither indices nor lengths.
                unsafe {
                    team.pieces(to, tokens * each * ROWS, move |chunk, piece, _| {
                        let (first, rows) = (chunk * each, piece.len() / tokens);
                        // SAFETY: the piece is the closure's own.
                        product.run(first..panels.min(first + each), Spread::new(piece), rows);
                    });
                }
                if tokens > 1 {
                    for (chunk, piece) in strips.chunks(tokens * each * ROWS).enumerate() {
                        let count = piece.len() / tokens;
                        for (t, values) in piece.chunks_exact(count).enumerate() {
                            let at = t * self.rows + part.row_base + chunk * each * ROWS;
                            out[at..at + count].copy_from_slice(values);
                        }
                    }
                }
                continue;
            }
            let (out, stride, row_base) = (Spread::new(out), self.rows, part.row_base);
            team.each(panels.div_ceil(each), move |chunk, _| {
                let first = chunk * each;
                // SAFETY: chunks are of different rows.
                unsafe {
                    let out = out.from(row_base + first * ROWS);
                    product.run(first..panels.min(first + each), out, stride);
                }
            });
        }
    }

    /// The part of a row, and the row within it.
    fn find(&self, row: usize) -> Result<(&Part, usize)> {
        let part = self.parts.iter().rfind(|part| part.row_base <= row && row < part.row_base + part.rows);
        let part = part.ok_or_else(|| Error::Internal { what: format!("{}: no row {row}", self.label) })?;
        Ok((part, row - part.row_base))
    }

    /// Rows.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub(super) fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes that a product with all rows reads, as in the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use crate::formats::DType;

    use super::*;

    /// A matrix of two parts with bytes of all sorts.
    fn weight(dtypes: [DType; 2], rows: u64, cols: u64) -> CpuWeight {
        let account = Rc::new(Cell::new(0));
        let segments = dtypes.map(|dtype| Segment { dtype, rows });
        let weight = CpuWeight::new(&account, "test", cols, &segments).unwrap();
        let mut state = 1u32;
        for (part, dtype) in dtypes.into_iter().enumerate() {
            let blocks = (rows * cols / dtype.block_len()) as usize;
            let mut file = Vec::new();
            for _ in 0..blocks {
                let mut block = vec![0; dtype.block_bytes() as usize];
                for byte in &mut block {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *byte = (state >> 25) as u8;
                }
                match block.last_mut() {
                    // Sign and exponent: small, and no infinity.
                    Some(last) if dtype.is_float() => *last = 0x3d,
                    _ => dtype.put_scale(&mut block, 0.01),
                }
                file.extend(block);
            }
            weight.fill(part * rows as usize, &file).unwrap();
        }
        weight
    }

    fn product(team: &mut Team, weight: &CpuWeight, bits: Bits, tokens: usize) -> Vec<u32> {
        let mut x = Activations::default();
        x.set(tokens, weight.cols(), |t, row| {
            row.iter_mut().enumerate().for_each(|(i, x)| *x = ((t * 31 + i * 17) % 101) as f32 - 50.0);
        });
        let mut out = vec![f32::MAX; tokens * weight.rows()];
        let how = How { level: Level::best(), bits };
        weight.project(team, how, &mut x, &mut out, &mut Vec::new());
        out.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn threads_change_no_bit() {
        let mut teams = [2, 3, 8].map(|threads| Team::threads(threads).unwrap());
        for dtype in DType::ALL {
            // Many chunks, and a last panel that is not full.
            let weight = weight([dtype, DType::F32], 1203, 256);
            for (bits, tokens) in
                [Bits::Eight, Bits::Sixteen].into_iter().flat_map(|bits| [1, 3, 19].map(|t| (bits, t)))
            {
                let alone = product(&mut Team::solo(), &weight, bits, tokens);
                assert!(!alone.contains(&f32::MAX.to_bits()), "{} leaves some out", dtype.name());
                assert!(alone.iter().any(|bits| *bits != alone[0]), "{} gives one number", dtype.name());
                for team in &mut teams {
                    let together = product(team, &weight, bits, tokens);
                    assert!(together == alone, "{} {bits:?} {tokens}, {} threads", dtype.name(), team.size());
                }
            }
        }
    }
}
