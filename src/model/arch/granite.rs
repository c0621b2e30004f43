//! Granite: Llama with factors on embeddings, residuals, scores and logits. IBM, "Granite 3.0 Language Models", 2024.

use crate::error::Result;
use crate::graph::{Act, Graph, Ids, Rope, RopePairs, V, W, X};

use crate::model::Arch;
use crate::model::arch_meta::ArchMeta;
use crate::model::blocks::{Dims, GatedLayer};
use crate::model::layout::{Layout, Scores};
use crate::model::rope::RopeTable;

pub(in crate::model) struct Granite {
    dims: Dims,
    scores: Scores,
    /// None in files that say they are without (`rope.scaling.finetuned` is false).
    rope: Option<RopeTable>,
    embedding_scale: f32,
    residual_scale: f32,
    /// Logits are divided by it.
    logit_scale: f32,
}

pub(in crate::model) struct Weights {
    embed: W, // (V, C)
    layers: Vec<GatedLayer>,
    norm: V, // (C)
    head: W, // (V, C)
    rope: Option<Rope<Ids>>,
}

impl Arch for Granite {
    const NAME: &'static str = "granite";
    type Weights = Weights;

    fn config(meta: &ArchMeta<'_>) -> Result<Self> {
        let dims = Dims::with_rms_norm(meta)?;
        let rope = meta.rope(dims.heads, RopePairs::Adjacent)?;
        let factor = |key| Ok(meta.factor(key)?.unwrap_or(1.0));
        Ok(Granite {
            dims,
            scores: meta.scores(dims.heads)?,
            rope: meta.flag_or("rope.scaling.finetuned", true)?.then_some(rope),
            embedding_scale: factor("embedding_scale")?,
            residual_scale: factor("residual_scale")?,
            logit_scale: factor("logit_scale")?,
        })
    }

    fn weights(&self, file: &mut Layout<'_>) -> Result<Weights> {
        let c = self.dims.width;
        let embed = file.embeddings(c)?;
        let rope = match &self.rope {
            Some(table) => Some(file.rope(table)?),
            None => None,
        };
        let layers =
            file.layers(self.dims.layers, |blk, _| GatedLayer::declare(blk, &self.dims, self.scores))?;
        Ok(Weights {
            embed,
            layers,
            norm: file.vector("output_norm.weight", c)?,
            head: file.head(embed)?,
            rope,
        })
    }

    fn forward(&self, w: &Weights, g: &Graph) -> Result<X> {
        let mut x = g.embed(w.embed, self.embedding_scale); // (T, C)
        for l in &w.layers {
            let h = g.rms_norm(x, l.attn_norm, self.dims.eps)?;
            let mut qkv = g.linear(h, l.attn_qkv)?;
            if let Some(rope) = &w.rope {
                qkv = g.rope(qkv, self.dims.heads, rope)?;
            }
            let y = g.linear(g.attend(qkv, l.memory)?, l.attn_out)?;
            x = g.add(x, g.scale(y, self.residual_scale))?;
            let h = g.rms_norm(x, l.ffn_norm, self.dims.eps)?;
            let h = g.gated(Act::Silu, g.linear(h, l.gate_up)?)?; // (T, F)
            x = g.add(x, g.scale(g.linear(h, l.down)?, self.residual_scale))?;
        }
        let x = g.rms_norm(g.wanted(x), w.norm, self.dims.eps)?;
        Ok(g.scale(g.linear(x, w.head)?, 1.0 / self.logit_scale))
    }
}
