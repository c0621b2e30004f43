//! Projections: y = epilogue(W · norm(x)), by `matvec` for one token and `matmul` for many.
//! QKV with RoPE and cache write, residual add, SwiGLU and the head are epilogues of the same kernels.

use crate::error::{Error, Result};
use crate::gpu::{Binding, GpuBuffer, Grid, PipelineKey, Recorder};

use super::gpu_backend::{GpuCache, GpuTensor};
use super::weight::{BLOCK, GpuWeight};
use super::{Batch, HeadShape};

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
    gain_at: u32,
    bias_at: u32,
    width: u32,
    eps: f32,
    scale: f32,
    q_rows: u32,
    kv_rows: u32,
    head_dim: u32,
    rope_dim: u32,
    capacity: u32,
    splits: u32,
    rows: u32,
    pad: [u32; 2],
}

/// What happens to the finished dot products.
pub(super) enum Epilogue<'a> {
    /// out += y.
    Add,
    /// out = y.
    Store,
    /// out = silu(first half of y) ⊙ second half.
    SwiGlu,
    /// RoPE, and K and V into the cache.
    Qkv { cache: &'a GpuCache, rope: &'a GpuBuffer },
}

/// Where x comes from.
pub(super) enum Input<'a> {
    /// Activations.
    Tensor(&'a GpuTensor),
    /// Partial sums of `attention_decode`, merged on the way in.
    Partials { buffer: &'a GpuBuffer, splits: u32, shape: HeadShape },
}

/// RMSNorm and bias, in one vector.
pub(super) struct Aux<'a> {
    pub vector: &'a GpuBuffer,
    pub eps: f32,
    pub bias_at: Option<u32>,
}

pub(super) struct Projection<'a> {
    pub weight: &'a GpuWeight,
    pub input: Input<'a>,
    pub norm: Option<Aux<'a>>,
    pub out: &'a GpuTensor,
    pub epilogue: Epilogue<'a>,
    pub batch: Batch,
}

impl Projection<'_> {
    /// Checks shapes and records one dispatch for each part of the weight.
    pub(super) fn record(&self, recorder: &mut Recorder, step: &GpuBuffer, kernels: Kernels) -> Result<()> {
        let weight = self.weight;
        self.check()?;
        let blocks = weight.cols.div_ceil(BLOCK) as u32;
        for part in &weight.parts {
            let pairs = part.rows.div_ceil(2) as u32;
            let mut params = Params {
                pairs,
                blocks,
                pair_stride: weight.pair_stride,
                out_base: part.row_base as u32,
                out_stride: self.out.stride,
                width: weight.cols as u32,
                rows: part.rows as u32,
                scale: 1.0,
                ..bytemuck::Zeroable::zeroed()
            };
            let (name, tile_pairs, tile_tokens) = match self.batch {
                Batch::One | Batch::Few => ("matvec", 0, 0),
                Batch::Many => kernels.prefill.shape(),
            };
            let mut key =
                PipelineKey::new(name).define(part.define()).define_if(part.scales.is_some(), "HAS_SCALES");
            let mut bindings = vec![Binding(0, &part.quants), Binding(6, &self.out.buffer)];
            if let Some(scales) = &part.scales {
                bindings.push(Binding(1, scales));
            }
            match &self.input {
                Input::Tensor(x) => {
                    params.x_stride = x.stride / 4;
                    bindings.extend([Binding(3, step), Binding(4, &x.buffer)]);
                }
                Input::Partials { buffer, splits, shape } => {
                    params.splits = *splits;
                    params.head_dim = shape.head_dim;
                    params.x_stride = super::attention::partial_floats(*shape) as u32 / 4;
                    key = key.define("MERGE").constant("INPUT_VEC4", shape.heads * shape.head_dim / 4);
                    bindings.push(Binding(4, buffer));
                }
            }
            if let Some(aux) = &self.norm {
                params.eps = aux.eps;
                params.bias_at = aux.bias_at.unwrap_or(0);
                key = key.define("NORM").define("HAS_AUX").define_if(aux.bias_at.is_some(), "BIAS");
                bindings.push(Binding(5, aux.vector));
            }
            key = match &self.epilogue {
                Epilogue::Add => key.define("EPILOGUE_ADD"),
                Epilogue::Store => key.define("EPILOGUE_STORE"),
                Epilogue::SwiGlu => key.define("EPILOGUE_SWIGLU"),
                Epilogue::Qkv { cache, rope } => {
                    let shape = cache.shape;
                    params.q_rows = shape.heads * shape.head_dim;
                    params.kv_rows = shape.kv_heads * shape.head_dim;
                    params.head_dim = shape.head_dim;
                    params.rope_dim = shape.rope_dim;
                    params.capacity = shape.capacity;
                    bindings.extend([Binding(7, &cache.k), Binding(8, &cache.v), Binding(9, rope)]);
                    key.define("EPILOGUE_QKV")
                }
            };
            let grid = match self.batch {
                Batch::One | Batch::Few => {
                    let Tuning { lanes, pairs: each, subgroups, dot4 } = kernels.decode.within(blocks);
                    let merges = matches!(self.input, Input::Partials { .. });
                    let staged = !merges && blocks <= STAGED_BLOCKS;
                    if staged {
                        key = key.define("STAGED").constant("INPUT_VEC4", blocks * 8);
                    }
                    let held = staged || merges;
                    let whole = dot4 && held && part.scales.is_some() && blocks * (128 + 80) <= WHOLE_BYTES;
                    key = key.define_if(lanes == 1, "LANES_1").define_if(each == 2, "PAIRS_2");
                    key = key.define_if(subgroups, "SUBGROUPS").define_if(whole, "DOT4");
                    key = key.constant("LANES", lanes).constant("PAIRS", each);
                    Grid::Rows {
                        groups: pairs.div_ceil(64 / lanes * each),
                        each_token: self.batch == Batch::Few,
                    }
                }
                Batch::Many => Grid::Tokens { x: pairs.div_ceil(tile_pairs), rows: 1, tile: tile_tokens },
            };
            recorder.dispatch(&key, (2, &params), &bindings, grid, part.bytes)?;
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let weight = self.weight;
        let x_cols = match &self.input {
            Input::Tensor(x) => u64::from(x.cols),
            Input::Partials { shape, .. } => u64::from(shape.heads * shape.head_dim),
        };
        let out_rows = match &self.epilogue {
            Epilogue::Add | Epilogue::Store => u64::from(self.out.cols),
            Epilogue::SwiGlu => 2 * u64::from(self.out.cols),
            Epilogue::Qkv { cache, .. } => {
                u64::from((cache.shape.heads + 2 * cache.shape.kv_heads) * cache.shape.head_dim)
            }
        };
        // Rows of a pair must lie in the same part; only a plain output may end in half a pair.
        let stride = u64::from(weight.pair_stride);
        let odd_ok = stride == 1 && matches!(self.epilogue, Epilogue::Add | Epilogue::Store);
        let whole = weight.parts.iter().all(|p| p.rows % (2 * stride) == 0 || odd_ok);
        if x_cols == weight.cols && out_rows == weight.rows && whole {
            return Ok(());
        }
        Err(Error::ShapeMismatch {
            what: format!("projection {}", weight.label),
            found: vec![weight.cols, weight.rows],
            expected: vec![x_cols, out_rows],
        })
    }
}

/// Blocks of x that `matvec` brings into workgroup memory, at most: 8 KiB.
const STAGED_BLOCKS: u32 = 64;
/// The same where x is rounded there as well: another 6 KiB, or less beside the merged attention output.
const WHOLE_BYTES: u32 = 14 * 1024;

/// How `matmul` holds its operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tile {
    /// Weights and activations in workgroup memory (`matmul.wgsl`).
    Memory,
    /// A thread's weights in registers, activations read by all threads at once (`matmul_rows.wgsl`).
    Rows,
}

impl Tile {
    /// What there is to choose from. The first is the default.
    pub const ALL: [Tile; 2] = [Tile::Memory, Tile::Rows];

    /// For people and for pinning.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Tile::Memory => "memory",
            Tile::Rows => "rows",
        }
    }

    /// Shader, row pairs and tokens of a workgroup.
    fn shape(self) -> (&'static str, u32, u32) {
        match self {
            Tile::Memory => ("matmul", 32, 32),
            Tile::Rows => ("matmul_rows", 64, 16),
        }
    }
}

/// Which variants of the projections' kernels are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kernels {
    /// For one token.
    pub decode: Tuning,
    /// For many.
    pub prefill: Tile,
}

impl Default for Kernels {
    fn default() -> Self {
        Kernels { decode: Tuning::ALL[0], prefill: Tile::ALL[0] }
    }
}

/// How `matvec` divides its work; which is fastest depends on the adapter and the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuning {
    /// Threads that share a row pair: 1, 2, 4, 8, 16 or 32. Many keep a wide GPU busy with few rows (they split the
    /// sum along K); few do without meeting.
    pub lanes: u32,
    /// Row pairs of a thread: 1 or 2. Two read x half as often.
    pub pairs: u32,
    /// The lanes meet by shuffles; needs subgroups of at least `lanes` threads.
    pub subgroups: bool,
    /// Activations are whole numbers of 16 bits, and products are `dot4I8Packed`; where weights are floats or x is
    /// long it makes no difference.
    pub dot4: bool,
}

impl Tuning {
    /// What there is to choose from. The first is the default.
    pub const ALL: [Tuning; 11] = [
        Tuning::new(8, 1),
        Tuning::new(16, 1),
        Tuning::new(32, 1),
        Tuning::new(4, 1),
        Tuning::new(4, 2),
        Tuning::new(1, 2),
        Tuning::new(8, 1).subgroups(),
        Tuning::new(4, 1).subgroups(),
        Tuning::new(8, 1).dot4(),
        Tuning::new(4, 1).subgroups().dot4(),
        Tuning::new(1, 2).dot4(),
    ];

    /// For adapters that compute on the CPU: few lanes.
    pub const SOFTWARE: Tuning = Tuning::new(1, 2);

    const fn new(lanes: u32, pairs: u32) -> Self {
        Tuning { lanes, pairs, subgroups: false, dot4: false }
    }

    const fn subgroups(self) -> Self {
        Tuning { subgroups: true, ..self }
    }

    const fn dot4(self) -> Self {
        Tuning { dot4: true, ..self }
    }

    /// Whether a device with subgroups of at least so many threads can do it.
    #[must_use]
    pub fn possible(self, subgroup_size: u32) -> bool {
        !self.subgroups || self.lanes <= subgroup_size
    }

    /// No more lanes than there are blocks to take.
    fn within(self, blocks: u32) -> Self {
        let most = 1 << blocks.max(1).ilog2();
        Tuning { lanes: self.lanes.min(most), ..self }
    }

    /// For people and for pinning: `lanes8 pairs1 subgroups dot4`.
    #[must_use]
    pub fn name(self) -> String {
        let mut name = format!("lanes{} pairs{}", self.lanes, self.pairs);
        for (on, word) in [(self.subgroups, " subgroups"), (self.dot4, " dot4")] {
            name.push_str(if on { word } else { "" });
        }
        name
    }
}

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
        gain_at,
        bias_at,
        width,
        eps,
        scale,
        q_rows,
        kv_rows,
        head_dim,
        rope_dim,
        capacity,
        splits,
        rows,
    }
);

#[cfg(test)]
layout_test!(
    step_layout,
    PipelineKey::new("matmul").define("W_F32").define("EPILOGUE_STORE"),
    "step",
    super::Step { pos, count, row, counter }
);
