//! SmolLM 3: Llama without rotation in every fourth layer (NoPE). Hugging Face, "SmolLM3", 2025; Yang et al., "RoPE to
//! NoPE and Back Again", 2025.

use crate::error::Result;
use crate::graph::{Act, Graph, Ids, M, Rope, RopePairs, V, W, X};

use crate::model::Arch;
use crate::model::arch_meta::ArchMeta;
use crate::model::blocks::Dims;
use crate::model::layout::{Layout, Scores};
use crate::model::rope::RopeTable;

/// Of so many layers the last does not rotate.
const PERIOD: u32 = 4;

pub(in crate::model) struct SmolLm3 {
    dims: Dims,
    scores: Scores,
    rope: RopeTable,
}

struct Layer {
    attn_norm: V, // (C)
    attn_qkv: W,  // (H·D + 2·G·D, C)
    rope: Option<Rope<Ids>>,
    attn_out: W, // (C, H·D)
    ffn_norm: V, // (C)
    gate_up: W,  // (2·F, C)
    down: W,     // (C, F)
    memory: M,
}

pub(in crate::model) struct Weights {
    embed: W, // (V, C)
    layers: Vec<Layer>,
    norm: V, // (C)
    head: W, // (V, C)
}

impl Arch for SmolLm3 {
    const NAME: &'static str = "smollm3";
    type Weights = Weights;

    fn config(meta: &ArchMeta<'_>) -> Result<Self> {
        let dims = Dims::with_rms_norm(meta)?;
        Ok(SmolLm3 {
            dims,
            scores: meta.scores(dims.heads)?,
            rope: meta.rope(dims.heads, RopePairs::Adjacent)?,
        })
    }

    fn weights(&self, file: &mut Layout<'_>) -> Result<Weights> {
        let Dims { width: c, ffn: f, .. } = self.dims;
        let embed = file.embeddings(c)?;
        let rope = file.rope(&self.rope)?;
        let layers = file.layers(self.dims.layers, |blk, i| {
            Ok(Layer {
                attn_norm: blk.vector("attn_norm.weight", c)?,
                attn_qkv: blk.qkv(self.dims.heads, c)?,
                rope: ((i + 1) % PERIOD != 0).then_some(rope),
                attn_out: blk.linear("attn_output", c, self.dims.heads.rows()[0])?,
                ffn_norm: blk.vector("ffn_norm.weight", c)?,
                gate_up: blk.gate_up(f, c)?,
                down: blk.linear("ffn_down", c, f)?,
                memory: blk.kv(self.dims.heads, self.scores),
            })
        })?;
        Ok(Weights { embed, layers, norm: file.vector("output_norm.weight", c)?, head: file.head(embed)? })
    }

    fn forward(&self, w: &Weights, g: &Graph) -> Result<X> {
        let mut x = g.embed(w.embed, 1.0); // (T, C)
        for l in &w.layers {
            let h = g.rms_norm(x, l.attn_norm, self.dims.eps)?;
            let mut qkv = g.linear(h, l.attn_qkv)?;
            if let Some(rope) = &l.rope {
                qkv = g.rope(qkv, self.dims.heads, rope)?;
            }
            let y = g.attend(qkv, l.memory)?; // (T, H·D)
            x = g.add(x, g.linear(y, l.attn_out)?)?;
            let h = g.rms_norm(x, l.ffn_norm, self.dims.eps)?;
            let h = g.gated(Act::Silu, g.linear(h, l.gate_up)?)?; // (T, F)
            x = g.add(x, g.linear(h, l.down)?)?;
        }
        let x = g.rms_norm(g.wanted(x), w.norm, self.dims.eps)?;
        g.linear(x, w.head)
    }
}
