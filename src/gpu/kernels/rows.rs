//! What stands between products where it cannot be folded into them: norms of rows, norms and rotations of heads, and
//! functions of single elements. Each is one dispatch.

use crate::error::{Error, Result};
use crate::gpu::backend::GpuTensor;
use crate::gpu::{Binding, GpuBackend, GpuBuffer, Grid, PipelineKey, Recorder};
use crate::graph::{Batch, Each, HeadNorm, Heads, Norm, NormKind, Of, Rope, RopePairs, Rows};

use super::linear::act;

/// Mirrors `Params` of `shaders/norm.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct NormParams {
    width: u32,
    x_stride: u32,
    out_stride: u32,
    eps: f32,
}

/// Mirrors `Params` of `shaders/heads.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct HeadsParams {
    stride: u32,
    q_rows: u32,
    kv_rows: u32,
    head_dim: u32,
    rope_dim: u32,
    gain_q: u32,
    gain_k: u32,
    eps: f32,
}

/// Mirrors `Params` of `shaders/each.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct EachParams {
    cols: u32,
    a_stride: u32,
    b_stride: u32,
    out_stride: u32,
    factor: f32,
    cap: f32,
    pad: [u32; 2],
}

fn mismatch(what: &str, found: u32, expected: u32) -> Error {
    Error::ShapeMismatch { what: what.to_owned(), found: vec![found.into()], expected: vec![expected.into()] }
}

fn holds(what: &str, vector: &GpuBuffer, floats: u32) -> Result<()> {
    if vector.size() >= u64::from(floats) * 4 {
        return Ok(());
    }
    Err(mismatch(what, (vector.size() / 4) as u32, floats))
}

/// Workgroups that each take a token, or a part of one. A plan for one token may run behind a batch of many, for the row
/// whose logits are wanted.
fn each_token(parts: u32, batch: Batch) -> Grid {
    match batch {
        Batch::Decode => Grid::Fixed(parts, 1),
        Batch::Verify | Batch::Prefill => Grid::Tokens { x: parts, rows: 1, tile: 1 },
    }
}

pub(in crate::gpu) fn record_norm(
    recorder: &mut Recorder,
    step: &GpuBuffer,
    (x, rows): (&GpuTensor, Rows),
    norm: &Norm<Of<'_, GpuBackend>>,
    (to, add): (&GpuTensor, bool),
    batch: Batch,
) -> Result<()> {
    if x.cols != to.cols {
        return Err(mismatch("norm", x.cols, to.cols));
    }
    holds("a norm's gain", norm.gain, x.cols)?;
    let key = PipelineKey::new("norm")
        .define_if(norm.kind == NormKind::Layer, "LAYER")
        .define_if(rows == Rows::Wanted, "WANTED")
        .define_if(add, "ADD")
        .define_if(norm.bias.is_some(), "BIAS");
    let params = NormParams { width: x.cols, x_stride: x.stride, out_stride: to.stride, eps: norm.eps };
    let mut bindings =
        vec![Binding(1, step), Binding(2, &x.buffer), Binding(3, &to.buffer), Binding(4, norm.gain)];
    if let Some(bias) = norm.bias {
        holds("a norm's bias", bias, x.cols)?;
        bindings.push(Binding(5, bias));
    }
    recorder.dispatch(&key, (0, &params), &bindings, each_token(1, batch), 0)
}

pub(in crate::gpu) fn record_heads(
    recorder: &mut Recorder,
    step: &GpuBuffer,
    qkv: &GpuTensor,
    heads: Heads,
    norm: Option<&HeadNorm<Of<'_, GpuBackend>>>,
    rope: Option<&Rope<Of<'_, GpuBackend>>>,
    batch: Batch,
) -> Result<()> {
    if qkv.cols != heads.qkv_width() {
        return Err(mismatch("heads", qkv.cols, heads.qkv_width()));
    }
    let [q_rows, kv_rows] = heads.rows();
    let mut params = HeadsParams {
        stride: qkv.stride,
        q_rows,
        kv_rows,
        head_dim: heads.dim,
        ..bytemuck::Zeroable::zeroed()
    };
    let mut key = PipelineKey::new("heads");
    let mut bindings = vec![Binding(1, step), Binding(2, &qkv.buffer)];
    let mut groups = heads.heads + heads.kv_heads;
    if let Some(norm) = norm {
        let gains = if norm.gain_of_each_head { heads.rows() } else { [heads.dim; 2] };
        [params.gain_q, params.gain_k] = gains;
        params.eps = norm.eps;
        for (at, gain) in norm.gains.iter().enumerate() {
            holds("the gain of a norm of heads", gain, gains[at])?;
            bindings.push(Binding(3 + at as u32, gain));
        }
        key = key.define("NORM").define_if(norm.kind == NormKind::Layer, "LAYER");
        key = key.define_if(norm.together, "TOGETHER");
        if norm.together {
            groups = 2;
        }
    }
    if let Some(rope) = rope {
        params.rope_dim = rope.dim;
        key = key.define("ROPE").define_if(rope.pairs == RopePairs::Halves, "HALVES");
        bindings.push(Binding(5, rope.table));
    }
    recorder.dispatch(&key, (0, &params), &bindings, each_token(groups, batch), 0)
}

pub(in crate::gpu) fn record_each(
    recorder: &mut Recorder,
    step: &GpuBuffer,
    what: Each,
    a: &GpuTensor,
    b: Option<&GpuTensor>,
    to: &GpuTensor,
    batch: Batch,
) -> Result<()> {
    let expected = if matches!(what, Each::Gated(_)) { 2 * to.cols } else { to.cols };
    if a.cols != expected {
        return Err(mismatch("element by element", a.cols, expected));
    }
    let mut params = EachParams {
        cols: to.cols,
        a_stride: a.stride,
        b_stride: 0,
        out_stride: to.stride,
        factor: 1.0,
        cap: 0.0,
        pad: [0; 2],
    };
    let mut bindings = vec![Binding(1, step), Binding(2, &a.buffer), Binding(4, &to.buffer)];
    let mut key = PipelineKey::new("each");
    match what {
        Each::Add => {
            let Some(b) = b.filter(|b| b.cols == to.cols) else {
                return Err(mismatch("the second of two summands", b.map_or(0, |b| b.cols), to.cols));
            };
            params.b_stride = b.stride;
            bindings.push(Binding(3, &b.buffer));
            key = key.define("SUM");
        }
        Each::Map(function) | Each::Gated(function) => {
            let (define, cap) = act(function);
            params.cap = cap;
            key = key.define(define).define_if(matches!(what, Each::Gated(_)), "GATED");
        }
        Each::Scale(by) => params.factor = by,
    }
    let grid = match batch {
        Batch::Decode => {
            key = key.define("ONE");
            Grid::Fixed(to.cols.div_ceil(64), 1)
        }
        Batch::Verify | Batch::Prefill => Grid::Items { items: to.cols, tile: 64 },
    };
    recorder.dispatch(&key, (0, &params), &bindings, grid, 0)
}

#[cfg(test)]
layout_test!(norm, PipelineKey::new("norm"), "params", NormParams { width, x_stride, out_stride, eps });

#[cfg(test)]
layout_test!(
    heads,
    PipelineKey::new("heads"),
    "params",
    HeadsParams { stride, q_rows, kv_rows, head_dim, rope_dim, gain_q, gain_k, eps }
);

#[cfg(test)]
layout_test!(
    each,
    PipelineKey::new("each"),
    "params",
    EachParams { cols, a_stride, b_stride, out_stride, factor, cap }
);
