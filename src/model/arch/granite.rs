//! Granite: Llama with factors on embeddings, residuals, scores and logits. IBM, "Granite 3.0 Language Models", 2024.

use crate::error::Result;
use crate::graph::{Act, Graph, Heads, Ids, M, Rope, RopePairs, V, W, X};

use crate::model::Arch;
use crate::model::arch_meta::ArchMeta;
use crate::model::layout::{Layout, Scores};
use crate::model::rope::RopeTable;

pub(in crate::model) struct Granite {
    layers: u32,
    width: u32,
    ffn: u32,
    eps: f32,
    heads: Heads,
    scores: Scores,
    /// None in files that say they are without (`rope.scaling.finetuned` is false).
    rope: Option<RopeTable>,
    embedding_scale: f32,
    residual_scale: f32,
    /// Logits are divided by it.
    logit_scale: f32,
}

struct Layer {
    attn_norm: V, // (C)
    attn_qkv: W,  // (H·D + 2·G·D, C)
    attn_out: W,  // (C, H·D)
    ffn_norm: V,  // (C)
    gate_up: W,   // (2·F, C)
    down: W,      // (C, F)
    memory: M,
}

pub(in crate::model) struct Weights {
    embed: W, // (V, C)
    layers: Vec<Layer>,
    norm: V, // (C)
    head: W, // (V, C)
    rope: Option<Rope<Ids>>,
}

impl Arch for Granite {
    const NAME: &'static str = "granite";
    type Weights = Weights;

    fn config(meta: &ArchMeta<'_>) -> Result<Self> {
        let (layers, width) = (meta.layers()?, meta.width()?);
        let heads = meta.heads(layers, width)?;
        let rope = meta.rope(heads, RopePairs::Adjacent)?;
        let factor = |key| Ok(meta.factor(key)?.unwrap_or(1.0));
        Ok(Granite {
            layers,
            width,
            ffn: meta.ffn(layers)?,
            eps: meta.rms_eps()?,
            heads,
            scores: meta.scores(heads)?,
            rope: meta.flag_or("rope.scaling.finetuned", true)?.then_some(rope),
            embedding_scale: factor("embedding_scale")?,
            residual_scale: factor("residual_scale")?,
            logit_scale: factor("logit_scale")?,
        })
    }

    fn weights(&self, file: &mut Layout<'_>) -> Result<Weights> {
        let (c, f) = (self.width, self.ffn);
        let embed = file.embeddings(c)?;
        let rope = match &self.rope {
            Some(table) => Some(file.rope(table)?),
            None => None,
        };
        let layers = file.layers(self.layers, |blk, _| {
            Ok(Layer {
                attn_norm: blk.vector("attn_norm.weight", c)?,
                attn_qkv: blk.qkv(self.heads, c)?,
                attn_out: blk.linear("attn_output", c, self.heads.rows()[0])?,
                ffn_norm: blk.vector("ffn_norm.weight", c)?,
                gate_up: blk.gate_up(f, c)?,
                down: blk.linear("ffn_down", c, f)?,
                memory: blk.kv(self.heads, self.scores),
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
        let mut x = g.embed(w.embed, self.embedding_scale); // (T, C)
        for l in &w.layers {
            let h = g.rms_norm(x, l.attn_norm, self.eps)?;
            let mut qkv = g.linear(h, l.attn_qkv)?;
            if let Some(rope) = &w.rope {
                qkv = g.rope(qkv, self.heads, rope)?;
            }
            let y = g.linear(g.attend(qkv, l.memory)?, l.attn_out)?;
            x = g.add(x, g.scale(y, self.residual_scale))?;
            let h = g.rms_norm(x, l.ffn_norm, self.eps)?;
            let h = g.gated(Act::Silu, g.linear(h, l.gate_up)?)?; // (T, F)
            x = g.add(x, g.scale(g.linear(h, l.down)?, self.residual_scale))?;
        }
        let x = g.rms_norm(g.wanted(x), w.norm, self.eps)?;
        Ok(g.scale(g.linear(x, w.head)?, 1.0 / self.logit_scale))
    }
}
