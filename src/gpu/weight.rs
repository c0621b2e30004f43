//! Weight matrices on the GPU, and the repacking of file blocks for the kernels.
//!
//! File blocks of 18, 22, 24 or 34 bytes do not lie on word boundaries. They are taken apart once, at
//! load, into two buffers: `quants` (vec4s) and `scales` (words). Rows lie in panels of 32: block by block, vec4 by
//! vec4, the 32 rows side by side, so that threads that take neighbouring rows read neighbouring memory. Every file
//! byte is kept; the last panel is filled up with zeros. Layouts: `shaders/shared/weights_*.wgsl`.

use crate::error::{Error, Result};
use crate::formats::DType;
use crate::graph::Segment;

use super::device::{Gpu, GpuBuffer};

/// Weights in a block, the kernels' unit.
pub(super) const BLOCK: u64 = 32;

/// Rows of one dtype in one pair of buffers.
#[derive(Debug)]
pub(super) struct Part {
    pub dtype: DType,
    pub quants: GpuBuffer,
    pub scales: Option<GpuBuffer>,
    /// First row in the whole matrix.
    pub row_base: u64,
    pub rows: u64,
    pub bytes: u64,
}

/// A matrix (rows, cols) as one or more parts.
#[derive(Debug)]
pub struct GpuWeight {
    pub(super) label: String,
    pub(super) rows: u64,
    pub(super) cols: u64,
    pub(super) parts: Vec<Part>,
}

/// Rows of a panel; `PANEL` of `shaders/shared/weights.wgsl`.
const PANEL: u64 = 32;

/// A row's share of a block: vec4s of `quants`, and bytes of `scales`. The rows of a panel have them side by side, vec4
/// by vec4 and word by word; two blocks with two bytes of scales share a word.
fn share(dtype: DType) -> (u64, u64) {
    match dtype {
        DType::F32 => (8, 0),
        DType::F16 | DType::BF16 => (4, 0),
        DType::Q4_0 => (1, 2),
        DType::Q4_1 => (1, 4),
        DType::Q5_0 | DType::Q5_1 => (1, 8),
        DType::Q8_0 => (2, 2),
    }
}

/// Bytes of one row in the two buffers.
fn row_bytes(dtype: DType, cols: u64) -> (u64, u64) {
    let (vectors, scales) = share(dtype);
    let blocks = cols.div_ceil(BLOCK);
    (blocks * vectors * 16, (blocks * scales).next_multiple_of(4))
}

/// Bytes of one row in the file.
fn file_row_bytes(dtype: DType, cols: u64) -> u64 {
    cols / dtype.block_len() * dtype.block_bytes()
}

/// Takes whole rows of file bytes apart into (quants, scales) of whole panels; the first row is row `first` of its
/// panel. What is before and behind the rows is zero.
///
/// # Errors
/// [`Error::Internal`] if `bytes` is not a whole number of rows.
fn repack(dtype: DType, cols: u64, first: u64, bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let file_row = file_row_bytes(dtype, cols) as usize;
    if file_row == 0 || !bytes.len().is_multiple_of(file_row) || !cols.is_multiple_of(dtype.block_len()) {
        return Err(Error::Internal { what: format!("{} bytes are not whole rows", bytes.len()) });
    }
    let rows = (bytes.len() / file_row) as u64;
    let panels = (first + rows).div_ceil(PANEL);
    let (quant_row, scale_row) = row_bytes(dtype, cols);
    let mut quants = vec![0; (panels * PANEL * quant_row) as usize];
    let mut scales = vec![0; (panels * PANEL * scale_row) as usize];
    // Bytes of a block in file order: scales, fifth bits, quants.
    let (scale_bytes, high_bytes) = match dtype {
        DType::F32 | DType::F16 | DType::BF16 => (0, 0),
        DType::Q4_0 | DType::Q8_0 => (2, 0),
        DType::Q4_1 => (4, 0),
        DType::Q5_0 => (2, 4),
        DType::Q5_1 => (4, 4),
    };
    let (vectors, scale_share) = share(dtype);
    // Of word or vec4 `unit` of a row, which has `units` of them.
    let place = |row: u64, units: u64, unit: u64| {
        let (panel, within) = ((first + row) / PANEL, (first + row) % PANEL);
        ((panel * units + unit) * PANEL + within) as usize
    };
    // Float formats have blocks of one value: 32 of them are a block here.
    let block_bytes = (dtype.block_bytes() * BLOCK / dtype.block_len()) as usize;
    for (row, source) in (0..).zip(bytes.chunks_exact(file_row)) {
        for (block, source) in (0..).zip(source.chunks(block_bytes)) {
            let (head, values) = source.split_at(scale_bytes + high_bytes);
            for (unit, values) in (block * vectors..).zip(values.chunks(16)) {
                let at = place(row, quant_row / 16, unit) * 16;
                quants[at..at + values.len()].copy_from_slice(values);
            }
            // Fifth bits have a word of their own.
            let (scale, high) = head.split_at(scale_bytes);
            for (byte, part) in [(block * scale_share, scale), (block * scale_share + 4, high)] {
                if !part.is_empty() {
                    let at = place(row, scale_row / 4, byte / 4) * 4 + (byte % 4) as usize;
                    scales[at..at + part.len()].copy_from_slice(part);
                }
            }
        }
    }
    Ok((quants, scales))
}

impl GpuWeight {
    pub(super) fn new(gpu: &Gpu, label: &str, cols: u64, segments: &[Segment]) -> Result<Self> {
        let mut parts: Vec<Part> = Vec::new();
        let mut row_base = 0;
        let mut at = 0;
        while at < segments.len() {
            let dtype = segments[at].dtype;
            let (quant_row, scale_row) = row_bytes(dtype, cols);
            // Segments share a part while a binding can hold it: rows that an op needs together lie in one then.
            let mut rows = segments[at].rows;
            at += 1;
            while let Some(next) = segments.get(at).filter(|next| next.dtype == dtype) {
                if (rows + next.rows) * quant_row > gpu.max_binding_bytes() {
                    break;
                }
                rows += next.rows;
                at += 1;
            }
            let mut most = rows;
            if rows * quant_row > gpu.max_binding_bytes() {
                most = gpu.max_binding_bytes() / (quant_row * PANEL) * PANEL;
                if most == 0 {
                    return Err(Error::DeviceLimit {
                        what: label.to_owned(),
                        limit: "maxStorageBufferBindingSize",
                        needed: PANEL * quant_row,
                        allowed: gpu.max_binding_bytes(),
                    });
                }
            }
            let mut left = rows;
            while left > 0 {
                let rows = left.min(most);
                // Rows that fill up the last panel are zero and never stored.
                let held = rows.next_multiple_of(PANEL);
                let quants = gpu.storage(label, held * quant_row)?;
                let scales = if scale_row > 0 { Some(gpu.storage(label, held * scale_row)?) } else { None };
                let bytes = rows * (quant_row + scale_row);
                parts.push(Part { dtype, quants, scales, row_base, rows, bytes });
                row_base += rows;
                left -= rows;
            }
        }
        Ok(GpuWeight { label: label.to_owned(), rows: row_base, cols, parts })
    }

    pub(super) fn upload(&self, gpu: &Gpu, row: u64, bytes: &[u8]) -> Result<()> {
        let mut row = row;
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let part = self
                .parts
                .iter()
                .find(|p| (p.row_base..p.row_base + p.rows).contains(&row))
                .ok_or_else(|| Error::Internal { what: format!("{}: no row {row}", self.label) })?;
            let file_row = file_row_bytes(part.dtype, self.cols) as usize;
            let at = row - part.row_base;
            let fits = (part.rows - at) as usize * file_row;
            let (now, later) = bytes.split_at(bytes.len().min(fits));
            part.write(gpu, self.cols, at, now)?;
            row += (now.len() / file_row) as u64;
            bytes = later;
        }
        Ok(())
    }
}

impl Part {
    /// Writes whole rows from row `at` of the part on: whole panels at once, others unit by unit, since their other
    /// rows may be there already.
    fn write(&self, gpu: &Gpu, cols: u64, at: u64, bytes: &[u8]) -> Result<()> {
        let file_row = file_row_bytes(self.dtype, cols);
        let (first, rows) = (at % PANEL, bytes.len() as u64 / file_row);
        let whole = first == 0 && (rows.is_multiple_of(PANEL) || at + rows == self.rows);
        if !whole && first + rows > PANEL {
            // Up to the end of the panel that was begun, then whole panels, then the rest.
            let head = if first > 0 { PANEL - first } else { rows / PANEL * PANEL };
            let (head_bytes, rest) = bytes.split_at((head * file_row) as usize);
            self.write(gpu, cols, at, head_bytes)?;
            return self.write(gpu, cols, at + head, rest);
        }
        let (quants, scales) = repack(self.dtype, cols, first, bytes)?;
        let (quant_row, scale_row) = row_bytes(self.dtype, cols);
        let panel = at / PANEL * PANEL;
        let buffers =
            [(Some(&self.quants), quant_row, 16, &quants), (self.scales.as_ref(), scale_row, 4, &scales)];
        for (buffer, row, unit, data) in buffers {
            let Some(buffer) = buffer else { continue };
            let base = panel * row;
            if whole {
                gpu.write(buffer, base, data);
                continue;
            }
            let (from, to) = ((first * unit) as usize, ((first + rows) * unit) as usize);
            for (i, units) in (0..).zip(data.chunks_exact((PANEL * unit) as usize)) {
                gpu.write(buffer, base + i * PANEL * unit + first * unit, &units[from..to]);
            }
        }
        Ok(())
    }

    /// The define that selects this dtype's unpack function.
    pub(super) fn define(&self) -> &'static str {
        match self.dtype {
            DType::F32 => "W_F32",
            DType::F16 => "W_F16",
            DType::BF16 => "W_BF16",
            DType::Q4_0 => "W_Q4_0",
            DType::Q4_1 => "W_Q4_1",
            DType::Q5_0 => "W_Q5_0",
            DType::Q5_1 => "W_Q5_1",
            DType::Q8_0 => "W_Q8_0",
        }
    }
}
