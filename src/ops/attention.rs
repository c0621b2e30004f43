//! Fused attention with online softmax: `attention_decode` (one token, the positions split over
//! workgroups) and `attention_prefill` (many tokens).

use crate::error::{Error, Result};
use crate::gpu::{Binding, GpuBuffer, Grid, PipelineKey, Recorder};

use super::HeadShape;
use super::gpu_backend::{GpuCache, GpuTensor};

/// Mirrors `Params` of `shaders/shared/attention.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    q_stride: u32,
    out_stride: u32,
    kv_heads: u32,
    capacity: u32,
    splits: u32,
    scale: f32,
    pad: [u32; 2],
}

/// The merged attention output must fit the workgroup memory of the output projection, next to its
/// own 1 KiB; larger models do without splits.
const MERGE_BYTES: u32 = 12 * 1024;

/// What WebGPU promises.
const WORKGROUP_BYTES: u32 = 16 * 1024;

/// Q, output and scores of a group of heads must fit the workgroup memory of `attention_decode`.
pub(super) fn check(shape: HeadShape) -> Result<()> {
    let group = shape.heads / shape.kv_heads;
    let needed = group * (8 * shape.head_dim + 64 * 4 + 12);
    if needed <= WORKGROUP_BYTES {
        return Ok(());
    }
    Err(Error::UnsupportedModel {
        what: format!("{group} query heads of size {} sharing one KV head", shape.head_dim),
    })
}

/// Over how many workgroups a KV head's positions are split when decoding.
pub(super) fn splits(shape: HeadShape) -> u32 {
    if shape.heads * shape.head_dim * 4 <= MERGE_BYTES { 8 } else { 1 }
}

/// Floats of the partial sums (see `shaders/shared/merge.wgsl`).
pub(super) fn partial_floats(shape: HeadShape) -> u64 {
    let rows = u64::from(shape.heads * splits(shape));
    rows * u64::from(shape.head_dim) + (2 * rows).next_multiple_of(4)
}

fn params(q: &GpuTensor, out_stride: u32, shape: HeadShape) -> Params {
    Params {
        q_stride: q.stride / 4,
        out_stride,
        kv_heads: shape.kv_heads,
        capacity: shape.capacity,
        splits: splits(shape),
        scale: (1.0 / f64::from(shape.head_dim).sqrt()) as f32,
        pad: [0; 2],
    }
}

fn key(name: &'static str, shape: HeadShape) -> PipelineKey {
    PipelineKey::new(name)
        .constant("HEAD_DIM", shape.head_dim)
        .constant("HEAD_VEC4", shape.head_dim / 4)
        .constant("GROUP", shape.heads / shape.kv_heads)
}

/// One token; `out` receives partial sums, or with one split the final output.
pub(super) fn record_decode(
    recorder: &mut Recorder,
    step: &GpuBuffer,
    q: &GpuTensor,
    cache: &GpuCache,
    out: &GpuBuffer,
) -> Result<()> {
    let shape = cache.shape;
    let group = shape.heads / shape.kv_heads;
    let splits = splits(shape);
    let key = key("attention_decode", shape)
        .constant("Q_VEC4", group * shape.head_dim / 4)
        .constant("SCORES", group * 64)
        .constant("OUTPUTS", group * shape.head_dim)
        .define_if(splits > 1, "SPLIT");
    let bindings = [
        Binding(1, step),
        Binding(2, &q.buffer),
        Binding(3, &cache.k),
        Binding(4, &cache.v),
        Binding(5, out),
    ];
    recorder.dispatch(&key, (0, &params(q, 0, shape)), &bindings, Grid::Fixed(splits, shape.kv_heads), 0)
}

/// Many tokens.
pub(super) fn record_prefill(
    recorder: &mut Recorder,
    step: &GpuBuffer,
    q: &GpuTensor,
    cache: &GpuCache,
    out: &GpuTensor,
) -> Result<()> {
    let shape = cache.shape;
    // Q and output of these rows fill half of the 16 KiB of workgroup memory that WebGPU promises.
    let rows = (1024 / shape.head_dim).clamp(4, 16).next_power_of_two();
    let key = key("attention_prefill", shape)
        .constant("ROWS", rows)
        .constant("Q_VEC4", rows * shape.head_dim / 4)
        .constant("SCORES", rows * 33);
    let bindings = [
        Binding(1, step),
        Binding(2, &q.buffer),
        Binding(3, &cache.k),
        Binding(4, &cache.v),
        Binding(5, &out.buffer),
    ];
    let grid = Grid::Tokens { x: shape.kv_heads, rows: shape.heads / shape.kv_heads, tile: rows };
    recorder.dispatch(&key, (0, &params(q, out.stride / 4, shape)), &bindings, grid, 0)
}

#[cfg(test)]
layout_test!(
    layout,
    key(
        "attention_decode",
        HeadShape {
            heads: 2,
            kv_heads: 1,
            head_dim: 32,
            rope_dim: 32,
            pairs: super::RopePairs::Adjacent,
            capacity: 8,
        }
    )
    .constant("Q_VEC4", 16)
    .constant("SCORES", 128)
    .constant("OUTPUTS", 64),
    "params",
    Params { q_stride, out_stride, kv_heads, capacity, splits, scale }
);
