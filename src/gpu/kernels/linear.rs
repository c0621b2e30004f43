//! Activations: y = scale · (W · norm(x) + bias) and what is done with it, by `matvec` for one token or a few and by `matmul`
//! for many. Addition to the residual stream, activations, gates and RoPE are epilogues of the same kernels.

use crate::error::{Error, Result};
use crate::gpu::backend::GpuTensor;
use crate::gpu::variants::{Activations, KernelMap, MatvecKernel};
use crate::gpu::weight::{BLOCK, GpuWeight};
use crate::gpu::{Binding, GpuBackend, GpuBuffer, Grid, PipelineKey, Recorder};
use crate::graph::{Act, Batch, HeadShape, Heads, NormKind, Of, RopePairs, Rows, Then};

type Norm<'a> = crate::graph::Norm<Of<'a, GpuBackend>>;

/// Mirrors `Params` of `shaders/shared/project.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    pairs: u32,
    blocks: u32,
    pair_stride: u32,
    out_base: u32,
    x_stride: u32,
    out_stride: u32,
    width: u32,
    eps: f32,
    scale: f32,
    q_rows: u32,
    kv_rows: u32,
    head_dim: u32,
    rope_dim: u32,
    splits: u32,
    rows: u32,
    bias_base: u32,
    cap: f32,
    pad: [u32; 3],
}

/// Where x comes from.
pub(in crate::gpu) enum Input<'a> {
    /// Activations.
    Tensor(&'a GpuTensor),
    /// Partial sums of `attention_decode`, merged on the way in.
    Partials { buffer: &'a GpuBuffer, splits: u32, shape: HeadShape },
}

/// A linear op.
pub(in crate::gpu) struct Linear<'r, 'a> {
    pub weight: &'r GpuWeight,
    pub input: Input<'r>,
    pub rows: Rows,
    /// RMSNorm of the input.
    pub norm: Option<&'r Norm<'a>>,
    /// Added to y, one for each row.
    pub bias: Option<&'r GpuBuffer>,
    pub scale: f32,
    pub then: &'r Then<Of<'a, GpuBackend>>,
    pub out: &'r GpuTensor,
    pub batch: Batch,
}

/// The define of an activation, and the parameter it may have.
pub(in crate::gpu) fn act(act: Act) -> (&'static str, f32) {
    match act {
        Act::Silu => ("ACT_SILU", 0.0),
        Act::Gelu => ("ACT_GELU", 0.0),
        Act::Cap(cap) => ("ACT_CAP", cap),
    }
}

impl Linear<'_, '_> {
    /// Checks shapes and records one dispatch for each part of the weight.
    pub(in crate::gpu) fn record(
        &self,
        recorder: &mut Recorder,
        step: &GpuBuffer,
        kernels: &KernelMap,
    ) -> Result<()> {
        let weight = self.weight;
        self.check()?;
        let blocks = weight.cols.div_ceil(BLOCK) as u32;
        let variant = kernels.of(weight.cols, weight.rows);
        let halves_apart = self.halves_apart();
        for part in &weight.parts {
            let pairs = part.rows.div_ceil(2) as u32;
            let is_up = halves_apart && part.row_base >= weight.rows / 2;
            let out_base = if is_up { part.row_base - weight.rows / 2 } else { part.row_base };
            let mut params = Params {
                pairs,
                blocks,
                // A gate and what it gates are needed together.
                pair_stride: match self.then {
                    Then::Gated(_) if !halves_apart => (weight.rows / 2) as u32,
                    _ => 1,
                },
                out_base: out_base as u32,
                out_stride: self.out.stride,
                width: weight.cols as u32,
                rows: part.rows as u32,
                bias_base: part.row_base as u32,
                scale: self.scale,
                ..bytemuck::Zeroable::zeroed()
            };
            let quantized = part.scales.is_some();
            let tile = variant.prefill;
            let name = match self.batch {
                Batch::Decode | Batch::Verify => "matvec",
                Batch::Prefill => tile.shader(),
            };
            let mut key = part.key(name);
            let mut bindings = vec![Binding(0, &part.quants), Binding(6, &self.out.buffer)];
            if let Some(scales) = &part.scales {
                bindings.push(Binding(1, scales));
            }
            match &self.input {
                Input::Tensor(x) => {
                    params.x_stride = x.stride / 4;
                    bindings.extend([Binding(3, step), Binding(4, &x.buffer)]);
                    key = key.define_if(self.rows == Rows::Wanted, "WANTED");
                }
                Input::Partials { buffer, splits, shape } => {
                    params.splits = *splits;
                    params.head_dim = shape.head_dim;
                    params.x_stride = super::attention::partial_floats(*shape, *splits) / 4;
                    key = key.define("MERGE").constant("INPUT_VEC4", blocks * 8);
                    bindings.extend([Binding(3, step), Binding(4, buffer)]);
                }
            }
            if let Some(norm) = self.norm {
                params.eps = norm.eps;
                key = key.define("NORM");
                bindings.push(Binding(5, norm.gain));
            }
            if let Some(bias) = self.bias {
                key = key.define("BIAS");
                bindings.push(Binding(8, bias));
            }
            let mut activate = |key: PipelineKey, function| {
                let (define, cap) = act(function);
                params.cap = cap;
                key.define(define)
            };
            key = match self.then {
                Then::Add => key.define("EPILOGUE_ADD"),
                Then::Store => key.define("EPILOGUE_STORE"),
                Then::Map(function) => activate(key, *function).define("EPILOGUE_STORE"),
                Then::Gated(function) if is_up => activate(key, *function).define("EPILOGUE_UP"),
                Then::Gated(_) if halves_apart => key.define("EPILOGUE_STORE"),
                Then::Gated(function) => activate(key, *function).define("EPILOGUE_GATED"),
                Then::Rotate(heads, rope) => {
                    [params.q_rows, params.kv_rows] = heads.rows();
                    params.head_dim = heads.dim;
                    params.rope_dim = rope.dim;
                    bindings.push(Binding(7, rope.table));
                    key.define("EPILOGUE_QKV").define_if(rope.pairs == RopePairs::Halves, "HALVES")
                }
            };
            let grid = match self.batch {
                Batch::Decode | Batch::Verify => {
                    let MatvecKernel { lanes, pairs: each, subgroups, activations } =
                        variant.decode.within(blocks);
                    let merges = matches!(self.input, Input::Partials { .. });
                    let staged = !merges && blocks <= STAGED_BLOCKS;
                    if staged {
                        key = key.define("STAGED").constant("INPUT_VEC4", blocks * 8);
                    }
                    let held = staged || merges;
                    let rounds = held && quantized && blocks * (128 + 80) <= ROUNDED_BYTES;
                    key = key.define_if(lanes == 1, "LANES_1").define_if(each == 2, "PAIRS_2");
                    key = key.define_if(subgroups, "SUBGROUPS");
                    key = match activations {
                        Activations::F16 if rounds => key.define("ROUNDED").define("F16"),
                        Activations::Int16 if rounds => key.define("ROUNDED").define("DOT4"),
                        _ => key,
                    };
                    key = key.constant("LANES", lanes).constant("PAIRS", each);
                    Grid::Rows {
                        groups: pairs.div_ceil(64 / lanes * each),
                        each_token: self.batch == Batch::Verify,
                    }
                }
                Batch::Prefill => {
                    key = tile.define().into_iter().fold(key, PipelineKey::define);
                    let (tile_pairs, tokens) = tile.shape();
                    Grid::Tokens { x: pairs.div_ceil(tile_pairs), rows: 1, tile: tokens }
                }
            };
            recorder.dispatch(&key, (2, &params), &bindings, grid, part.bytes)?;
        }
        Ok(())
    }

    /// Whether gate and up lie in parts of their own: then the gate is stored first, and the up projection multiplies it.
    fn halves_apart(&self) -> bool {
        matches!(self.then, Then::Gated(_)) && self.weight.parts.len() > 1
    }

    fn check(&self) -> Result<()> {
        let weight = self.weight;
        let x_cols = match &self.input {
            Input::Tensor(x) => u64::from(x.cols),
            Input::Partials { shape, .. } => u64::from(shape.heads * shape.head_dim),
        };
        let out_rows = match self.then {
            Then::Gated(_) => 2 * u64::from(self.out.cols),
            _ => u64::from(self.out.cols),
        };
        // Rows of a pair must lie in the same part; only a plain output may end in half a pair.
        let half = weight.rows / 2;
        let whole = weight.parts.iter().all(|p| match self.then {
            Then::Add | Then::Store | Then::Map(_) => true,
            Then::Gated(_) => !self.halves_apart() || p.row_base + p.rows <= half || p.row_base >= half,
            Then::Rotate(Heads { dim, .. }, rope) if rope.pairs == RopePairs::Halves => {
                p.rows % u64::from(*dim) == 0
            }
            Then::Rotate(..) => p.rows % 2 == 0,
        });
        let heads = match self.then {
            Then::Rotate(heads, rope) => {
                u64::from(heads.qkv_width()) == out_rows && rope.dim <= heads.dim && rope.dim % 2 == 0
            }
            _ => true,
        };
        let norm = self.norm.is_none_or(|norm| norm.kind == NormKind::Rms && norm.bias.is_none());
        let biased = self.bias.is_none_or(|bias| bias.size() >= weight.rows * 4);
        // The head is computed for few rows.
        let wanted = self.rows == Rows::Batch || self.batch != Batch::Prefill;
        if x_cols == weight.cols && out_rows == weight.rows && whole && heads && norm && biased && wanted {
            return Ok(());
        }
        Err(Error::ShapeMismatch {
            what: format!("product with {}", weight.label),
            found: vec![weight.cols, weight.rows],
            expected: vec![x_cols, out_rows],
        })
    }
}

/// Blocks of x that `matvec` brings into workgroup memory, at most: 8 KiB.
const STAGED_BLOCKS: u32 = 64;
/// The same where x is rounded there as well: another 6 KiB, or less beside the merged attention output.
const ROUNDED_BYTES: u32 = 14 * 1024;

#[cfg(test)]
layout_test!(
    layout,
    PipelineKey::new("matmul").define("W_F32").define("EPILOGUE_STORE"),
    "params",
    Params {
        pairs,
        blocks,
        pair_stride,
        out_base,
        x_stride,
        out_stride,
        width,
        eps,
        scale,
        q_rows,
        kv_rows,
        head_dim,
        rope_dim,
        splits,
        rows,
        bias_base,
        cap,
    }
);

#[cfg(test)]
layout_test!(
    step_layout,
    PipelineKey::new("matmul").define("W_F32").define("EPILOGUE_STORE"),
    "step",
    crate::graph::Step { pos, count, row, counter }
);
