//! Weight matrices on the GPU, and the repacking of file blocks for the kernels.
//!
//! File blocks of 18, 22, 24 or 34 bytes do not lie on word boundaries. They are taken apart once, at
//! load, into two buffers: `quants` (vec4-aligned, so that one thread reads a block's 32 weights with
//! one or two 16-byte loads and neighbours read on) and `scales`. Every file byte is kept; only odd
//! rows of half-word scales get two bytes of padding. Layouts: `shaders/shared/weights_*.wgsl`.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuBuffer};

use super::Segment;

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
    pub(super) pair_stride: u32,
    pub(super) parts: Vec<Part>,
}

/// Bytes of one row in the two buffers.
fn row_bytes(dtype: DType, cols: u64) -> (u64, u64) {
    let blocks = cols.div_ceil(BLOCK);
    match dtype {
        DType::F32 => (blocks * 128, 0),
        DType::F16 | DType::BF16 => (blocks * 64, 0),
        DType::Q4_0 => (blocks * 16, blocks.div_ceil(2) * 4),
        DType::Q4_1 => (blocks * 16, blocks * 4),
        DType::Q5_0 | DType::Q5_1 => (blocks * 16, blocks * 8),
        DType::Q8_0 => (blocks * 32, blocks.div_ceil(2) * 4),
    }
}

/// Bytes of one row in the file.
fn file_row_bytes(dtype: DType, cols: u64) -> u64 {
    cols / dtype.block_len() * dtype.block_bytes()
}

/// Takes whole rows of file bytes apart into (quants, scales).
///
/// # Errors
/// [`Error::Internal`] if `bytes` is not a whole number of rows.
pub fn repack(dtype: DType, cols: u64, bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let file_row = file_row_bytes(dtype, cols) as usize;
    if file_row == 0 || !bytes.len().is_multiple_of(file_row) || !cols.is_multiple_of(dtype.block_len()) {
        return Err(Error::Internal { what: format!("{} bytes are not whole rows", bytes.len()) });
    }
    let rows = bytes.len() / file_row;
    let (quant_row, scale_row) = row_bytes(dtype, cols);
    let (quant_row, scale_row) = (quant_row as usize, scale_row as usize);
    let mut quants = vec![0; rows * quant_row];
    let mut scales = vec![0; rows * scale_row];
    // Bytes of a block in file order: scales, fifth bits, quants.
    let (scale_bytes, high_bytes) = match dtype {
        DType::F32 | DType::F16 | DType::BF16 => (0, 0),
        DType::Q4_0 | DType::Q8_0 => (2, 0),
        DType::Q4_1 => (4, 0),
        DType::Q5_0 => (2, 4),
        DType::Q5_1 => (4, 4),
    };
    for row in 0..rows {
        let source = &bytes[row * file_row..(row + 1) * file_row];
        let quants = &mut quants[row * quant_row..(row + 1) * quant_row];
        if scale_bytes == 0 {
            quants[..file_row].copy_from_slice(source);
            continue;
        }
        let scales = &mut scales[row * scale_row..(row + 1) * scale_row];
        let block_bytes = dtype.block_bytes() as usize;
        let quant_bytes = block_bytes - scale_bytes - high_bytes;
        // Scales with fifth bits take two words a block, others lie close together.
        let scale_pitch = if high_bytes == 0 { scale_bytes } else { 8 };
        for (i, block) in source.chunks_exact(block_bytes).enumerate() {
            let (head, tail) = block.split_at(scale_bytes + high_bytes);
            quants[i * quant_bytes..(i + 1) * quant_bytes].copy_from_slice(tail);
            let scales = &mut scales[i * scale_pitch..(i + 1) * scale_pitch];
            scales[..scale_bytes].copy_from_slice(&head[..scale_bytes]);
            if high_bytes > 0 {
                scales[4..8].copy_from_slice(&head[scale_bytes..]);
            }
        }
    }
    Ok((quants, scales))
}

impl GpuWeight {
    pub(super) fn new(
        gpu: &Gpu,
        label: &str,
        cols: u64,
        segments: &[Segment],
        pair_stride: u32,
    ) -> Result<Self> {
        let mut parts: Vec<Part> = Vec::new();
        let mut row_base = 0;
        let mut at = 0;
        while at < segments.len() {
            let dtype = segments[at].dtype;
            let same = segments[at..].iter().take_while(|s| s.dtype == dtype).count();
            let rows: u64 = segments[at..at + same].iter().map(|s| s.rows).sum();
            at += same;
            let (quant_row, scale_row) = row_bytes(dtype, cols);
            let mut most = rows;
            if pair_stride == 1 && rows * quant_row > gpu.max_binding_bytes() {
                most = (gpu.max_binding_bytes() / quant_row) & !1;
                if most == 0 {
                    return Err(Error::DeviceLimit {
                        what: label.to_owned(),
                        limit: "maxStorageBufferBindingSize",
                        needed: 2 * quant_row,
                        allowed: gpu.max_binding_bytes(),
                    });
                }
            }
            let mut left = rows;
            while left > 0 {
                let rows = left.min(most);
                // An odd last row still forms a pair: its partner is zero and is not stored.
                let held = rows.next_multiple_of(2);
                let quants = gpu.storage(label, held * quant_row)?;
                let scales = if scale_row > 0 { Some(gpu.storage(label, held * scale_row)?) } else { None };
                let bytes = rows * (quant_row + scale_row);
                parts.push(Part { dtype, quants, scales, row_base, rows, bytes });
                row_base += rows;
                left -= rows;
            }
        }
        Ok(GpuWeight { label: label.to_owned(), rows: row_base, cols, pair_stride, parts })
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
            let (quants, scales) = repack(part.dtype, self.cols, now)?;
            let (quant_row, scale_row) = row_bytes(part.dtype, self.cols);
            gpu.write(&part.quants, at * quant_row, &quants);
            if let Some(buffer) = &part.scales {
                gpu.write(buffer, at * scale_row, &scales);
            }
            row += (now.len() / file_row) as u64;
            bytes = later;
        }
        Ok(())
    }
}

impl Part {
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
