//! Weight matrices on the GPU, and the repacking of file blocks for the kernels.
//!
//! File blocks of 18, 22, 34 or 210 bytes do not lie on word boundaries. They are taken apart once, at load, into two
//! buffers: a block's body to `quants` (vec4s) and its head to `scales` (words), as its format says. Rows lie in panels
//! of 32: block by block, vec4 by vec4, the 32 rows side by side, so that threads that take neighbouring rows read
//! neighbouring memory. Every file byte is kept; the last panel is filled up with zeros. A format that looks quants up
//! has its grid in front of the scales. Layouts: `shaders/formats/*.wgsl`.

use crate::error::{Error, Result};
use crate::formats::{self, DType, Format};
use crate::graph::Segment;

use super::PipelineKey;
use super::device::{Gpu, GpuBuffer};

/// Weights in a block, the kernels' unit.
pub(super) const BLOCK: u64 = formats::BLOCK as u64;

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

/// How the buffers hold a format.
#[derive(Clone, Copy)]
struct Share {
    format: &'static Format,
    /// Elements of a block: as in the file, of floats [`BLOCK`].
    elements: u64,
    /// Bytes of a block in the file.
    bytes: u64,
    /// A row's vec4s of `quants` for a block.
    vectors: u64,
    /// A row's bytes of `scales` for a block.
    head: u64,
}

impl Share {
    fn of(dtype: DType) -> Self {
        let format = dtype.format();
        let size = |(from, to): &(usize, usize)| (to - from) as u64;
        if dtype.is_float() {
            let bytes = BLOCK * dtype.block_bytes();
            return Share { format, elements: BLOCK, bytes, vectors: bytes / 16, head: 0 };
        }
        let head = match format.head {
            [range] if size(range) <= 2 => size(range),
            ranges => ranges.iter().map(|range| size(range).next_multiple_of(4)).sum(),
        };
        let vectors = format.body.iter().map(size).sum::<u64>() / 16;
        Share { format, elements: dtype.block_len(), bytes: dtype.block_bytes(), vectors, head }
    }

    /// Bytes of one row in the two buffers.
    fn row_bytes(self, cols: u64) -> (u64, u64) {
        let blocks = cols.div_ceil(self.elements);
        (blocks * self.vectors * 16, (blocks * self.head).next_multiple_of(4))
    }

    /// Bytes in front of the scales.
    fn grid_bytes(self) -> u64 {
        self.format.grid.len() as u64 * 2
    }
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
    let share = Share::of(dtype);
    let rows = (bytes.len() / file_row) as u64;
    let panels = (first + rows).div_ceil(PANEL);
    let (quant_row, scale_row) = share.row_bytes(cols);
    let mut quants = vec![0; (panels * PANEL * quant_row) as usize];
    let mut scales = vec![0; (panels * PANEL * scale_row) as usize];
    // Of word or vec4 `unit` of a row, which has `units` of them.
    let place = |row: u64, units: u64, unit: u64| {
        let (panel, within) = ((first + row) / PANEL, (first + row) % PANEL);
        ((panel * units + unit) * PANEL + within) as usize
    };
    let all = [(0, share.bytes as usize)];
    let body = if dtype.is_float() { &all } else { share.format.body };
    for (row, source) in (0..).zip(bytes.chunks_exact(file_row)) {
        for (block, source) in (0..).zip(source.chunks(share.bytes as usize)) {
            let mut unit = block * share.vectors;
            for &(from, to) in body {
                // Only the last block of a row of floats may be shorter.
                for values in source[from..to.min(source.len())].chunks(16) {
                    let at = place(row, quant_row / 16, unit) * 16;
                    quants[at..at + values.len()].copy_from_slice(values);
                    unit += 1;
                }
            }
            let mut byte = block * share.head;
            for &(from, to) in share.format.head {
                for part in source[from..to].chunks(4) {
                    let at = place(row, scale_row / 4, byte / 4) * 4 + (byte % 4) as usize;
                    scales[at..at + part.len()].copy_from_slice(part);
                    byte += 4;
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
            let share = Share::of(dtype);
            let (quant_row, scale_row) = share.row_bytes(cols);
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
                let scales = if scale_row > 0 {
                    let scales = gpu.storage(label, share.grid_bytes() + held * scale_row)?;
                    gpu.write(&scales, 0, bytemuck::cast_slice(share.format.grid));
                    Some(scales)
                } else {
                    None
                };
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
        let share = Share::of(self.dtype);
        let (quant_row, scale_row) = share.row_bytes(cols);
        let panel = at / PANEL * PANEL;
        let buffers = [
            (Some(&self.quants), 0, quant_row, 16, &quants),
            (self.scales.as_ref(), share.grid_bytes(), scale_row, 4, &scales),
        ];
        for (buffer, start, row, unit, data) in buffers {
            let Some(buffer) = buffer else { continue };
            let base = start + panel * row;
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

    /// With the defines that select this dtype's unpack function.
    pub(super) fn key(&self, kernel: &'static str) -> PipelineKey {
        PipelineKey::new(kernel)
            .define(self.dtype.define())
            .define_if(self.scales.is_some(), "HAS_SCALES")
            .define_if(self.dtype.format().two_scales, "TWO_SCALES")
    }
}
