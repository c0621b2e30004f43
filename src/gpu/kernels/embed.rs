//! `embed`: rows of the embedding, dequantized, as the first activations.

use crate::error::{Error, Result};
#[cfg(test)]
use crate::gpu::PipelineKey;
use crate::gpu::{Binding, GpuBuffer, Grid, Recorder};

use crate::gpu::backend::GpuTensor;
use crate::gpu::weight::{BLOCK, GpuWeight};

/// Mirrors `Params` of `shaders/embed.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    blocks: u32,
    row_base: u32,
    rows: u32,
    out_stride: u32,
    scale: f32,
    pad: [u32; 3],
}

/// Rows of a table: those of the tokens, or with none those of their positions, which are added.
pub(in crate::gpu) fn record(
    recorder: &mut Recorder,
    step: &GpuBuffer,
    tokens: Option<&GpuBuffer>,
    weight: &GpuWeight,
    scale: f32,
    out: &GpuTensor,
) -> Result<()> {
    if u64::from(out.cols) != weight.cols {
        return Err(Error::ShapeMismatch {
            what: format!("embed {}", weight.label),
            found: vec![u64::from(out.cols)],
            expected: vec![weight.cols],
        });
    }
    let blocks = weight.cols.div_ceil(BLOCK) as u32;
    for part in &weight.parts {
        let key = part.key("embed").define_if(tokens.is_none(), "POSITIONS");
        let params = Params {
            blocks,
            row_base: part.row_base as u32,
            rows: part.rows as u32,
            out_stride: out.stride / 4,
            scale,
            pad: [0; 3],
        };
        let mut bindings = vec![Binding(0, &part.quants), Binding(3, step), Binding(5, &out.buffer)];
        if let Some(tokens) = tokens {
            bindings.push(Binding(4, tokens));
        }
        if let Some(scales) = &part.scales {
            bindings.push(Binding(1, scales));
        }
        let grid = Grid::Items { items: blocks, tile: 64 };
        recorder.dispatch(&key, (2, &params), &bindings, grid, part.bytes / part.rows.max(1))?;
    }
    Ok(())
}

#[cfg(test)]
layout_test!(
    layout,
    PipelineKey::new("embed").define("W_F32"),
    "params",
    Params { blocks, row_base, rows, out_stride, scale }
);
