//! Qwen 3: Llama with a norm on every query and key head, and RoPE by halves. Qwen team, "Qwen3 Technical Report", 2025.

use crate::error::Result;
use crate::graph::{Act, Graph, Heads, Ids, M, NormKind, Rope, RopePairs, V, W, X};

use crate::model::Arch;
use crate::model::arch_meta::ArchMeta;
use crate::model::blocks::Dims;
use crate::model::layout::{Layout, Scores};
use crate::model::rope::RopeTable;

pub(in crate::model) struct Qwen3 {
    dims: Dims,
    scores: Scores,
    rope: RopeTable,
}

struct Layer {
    attn_norm: V,       // (C)
    attn_qkv: W,        // (H·D + 2·G·D, C)
    head_norms: [V; 2], // (D): of Q and of K
    attn_out: W,        // (C, H·D)
    ffn_norm: V,        // (C)
    gate_up: W,         // (2·F, C)
    down: W,            // (C, F)
    memory: M,
}

pub(in crate::model) struct Weights {
    embed: W, // (V, C)
    layers: Vec<Layer>,
    norm: V, // (C)
    head: W, // (V, C)
    rope: Rope<Ids>,
}

impl Arch for Qwen3 {
    const NAME: &'static str = "qwen3";
    type Weights = Weights;

    fn config(meta: &ArchMeta<'_>) -> Result<Self> {
        let dims = Dims::with_rms_norm(meta)?;
        Ok(Qwen3 { dims, scores: meta.scores(dims.heads)?, rope: meta.rope(dims.heads, RopePairs::Halves)? })
    }

    fn weights(&self, file: &mut Layout<'_>) -> Result<Weights> {
        let Dims { width: c, ffn: f, heads: Heads { dim: d, .. }, .. } = self.dims;
        let embed = file.embeddings(c)?;
        let rope = file.rope(&self.rope)?;
        let layers = file.layers(self.dims.layers, |blk, _| {
            Ok(Layer {
                attn_norm: blk.vector("attn_norm.weight", c)?,
                attn_qkv: blk.qkv(self.dims.heads, c)?,
                head_norms: [blk.vector("attn_q_norm.weight", d)?, blk.vector("attn_k_norm.weight", d)?],
                attn_out: blk.linear("attn_output", c, self.dims.heads.rows()[0])?,
                ffn_norm: blk.vector("ffn_norm.weight", c)?,
                gate_up: blk.gate_up(f, c)?,
                down: blk.linear("ffn_down", c, f)?,
                memory: blk.kv(self.dims.heads, self.scores),
            })
        })?;
        Ok(Weights {
            embed,
            layers,
            norm: file.vector("output_norm.weight", c)?,
            head: file.head(embed)?,
            rope,
        })
    }

    fn forward(&self, w: &Weights, g: &Graph) -> Result<X> {
        let mut x = g.embed(w.embed, 1.0); // (T, C)
        for l in &w.layers {
            let h = g.rms_norm(x, l.attn_norm, self.dims.eps)?;
            let qkv = g.linear(h, l.attn_qkv)?;
            let qkv = g.head_norm(qkv, self.dims.heads, NormKind::Rms, l.head_norms, self.dims.eps)?;
            let y = g.attend(g.rope(qkv, self.dims.heads, &w.rope)?, l.memory)?; // (T, H·D)
            x = g.add(x, g.linear(y, l.attn_out)?)?;
            let h = g.rms_norm(x, l.ffn_norm, self.dims.eps)?;
            let h = g.gated(Act::Silu, g.linear(h, l.gate_up)?)?; // (T, F)
            x = g.add(x, g.linear(h, l.down)?)?;
        }
        let x = g.rms_norm(g.wanted(x), w.norm, self.dims.eps)?;
        g.linear(x, w.head)
    }
}
