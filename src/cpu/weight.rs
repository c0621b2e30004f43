//! A weight matrix of the backend: parts of one dtype each, and who holds which rows.

use crate::error::{Error, Result};
use crate::graph::Segment;

use super::matrix::Matrix;
use super::memory::{Account, Shared};
use super::panel;
use super::team::Team;

/// Rows of one dtype.
#[derive(Clone)]
pub struct Part {
    /// The rows held here: those below `borders[1]`.
    pub matrix: Shared<Matrix>,
    /// First row in the whole matrix.
    pub row_base: usize,
    /// Who holds which rows of the part: holder `i` those from `borders[i]` to `borders[i + 1]`;
    /// 0 is here.
    pub borders: Vec<usize>,
}

impl Part {
    /// Who holds a row of the part.
    pub fn holder(&self, row: usize) -> usize {
        self.borders[1..].iter().take_while(|&&border| border <= row).count()
    }

    fn rows(&self) -> usize {
        self.borders.last().copied().unwrap_or(0)
    }
}

/// A matrix (rows, cols) in its quantized form.
#[derive(Clone)]
pub struct CpuWeight {
    pub(super) label: String,
    /// Its number among the team's.
    pub(super) id: usize,
    pub(super) parts: Vec<Part>,
    rows: usize,
    cols: usize,
    bytes: u64,
}

impl CpuWeight {
    pub(super) fn new(
        account: &Account,
        team: &mut Team,
        id: usize,
        label: &str,
        cols: u64,
        segments: &[Segment],
    ) -> Result<Self> {
        let too_big = || Error::OutOfMemory { what: label.to_owned(), bytes: u64::MAX };
        let cols = usize::try_from(cols).map_err(|_| too_big())?;
        let mut weight =
            CpuWeight { label: label.to_owned(), id, parts: Vec::new(), rows: 0, cols, bytes: 0 };
        for same in segments.chunk_by(|a, b| a.dtype == b.dtype) {
            let dtype = same[0].dtype;
            let rows: u64 = same.iter().map(|s| s.rows).sum();
            let rows = usize::try_from(rows).map_err(|_| too_big())?;
            let borders = team.borders(rows);
            let matrix = Matrix::new(label, dtype, borders[1], cols)?;
            team.create(id, dtype, &borders, cols)?;
            let held = matrix.bytes() as u64;
            weight.bytes += (panel::row_bytes(dtype, cols) * rows) as u64;
            let matrix = Shared::new(account, held, matrix);
            weight.parts.push(Part { matrix, row_base: weight.rows, borders });
            weight.rows += rows;
        }
        Ok(weight)
    }

    /// Fills whole rows from `row` on with file bytes.
    pub(super) fn fill(&self, team: &mut Team, row: usize, file: &[u8]) -> Result<()> {
        let (mut row, mut file) = (row, file);
        while !file.is_empty() {
            let Some((index, part, at)) = self.find(row) else {
                return Err(Error::Internal { what: format!("{}: no row {row}", self.label) });
            };
            let holder = part.holder(at);
            let row_bytes = part.matrix.read().row_bytes();
            let room = (part.borders[holder + 1] - at) * row_bytes;
            let (now, later) = file.split_at(file.len().min(room));
            if holder == 0 {
                part.matrix.write().fill(at, now)?;
            } else {
                team.fill(self.id, index, holder, at - part.borders[holder], now)?;
            }
            row += now.len() / row_bytes.max(1);
            file = later;
        }
        Ok(())
    }

    /// Index and part of a row, and the row within it.
    pub(super) fn find(&self, row: usize) -> Option<(usize, &Part, usize)> {
        let (index, part) = self.parts.iter().enumerate().rfind(|(_, p)| p.row_base <= row)?;
        let at = row - part.row_base;
        (at < part.rows()).then_some((index, part, at))
    }

    /// Rows.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub(super) fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes that a product with all rows reads, whoever holds them.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
