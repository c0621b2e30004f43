//! Llama: RMSNorm, RoPE, grouped-query attention, SwiGLU. Touvron et al., "LLaMA", 2023; grouped queries: Ainslie et
//! al., 2023. Files of SmolLM, Mistral, TinyLlama and many others name this architecture.

use crate::error::Result;
use crate::graph::{Act, Graph, Heads, Ids, M, Rope, RopePairs, V, W, X};

use crate::model::Arch;
use crate::model::arch_meta::ArchMeta;
use crate::model::layout::{Layout, Scores};
use crate::model::rope::RopeTable;

pub(in crate::model) struct Llama {
    layers: u32,
    width: u32,
    ffn: u32,
    eps: f32,
    heads: Heads,
    scores: Scores,
    rope: RopeTable,
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
    rope: Rope<Ids>,
}

impl Arch for Llama {
    const NAME: &'static str = "llama";
    type Weights = Weights;

    fn config(meta: &ArchMeta<'_>) -> Result<Self> {
        let (layers, width) = (meta.layers()?, meta.width()?);
        let heads = meta.heads(layers, width)?;
        Ok(Llama {
            layers,
            width,
            ffn: meta.ffn(layers)?,
            eps: meta.rms_eps()?,
            heads,
            scores: meta.scores(heads)?,
            rope: meta.rope(heads, RopePairs::Adjacent)?,
        })
    }

    fn weights(&self, file: &mut Layout<'_>) -> Result<Weights> {
        let (c, f) = (self.width, self.ffn);
        let embed = file.embeddings(c)?;
        let rope = file.rope(&self.rope)?;
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
        let mut x = g.embed(w.embed, 1.0); // (T, C)
        for l in &w.layers {
            let h = g.rms_norm(x, l.attn_norm, self.eps)?;
            let qkv = g.rope(g.linear(h, l.attn_qkv)?, self.heads, &w.rope)?;
            let y = g.attend(qkv, l.memory)?; // (T, H·D)
            x = g.add(x, g.linear(y, l.attn_out)?)?;
            let h = g.rms_norm(x, l.ffn_norm, self.eps)?;
            let h = g.gated(Act::Silu, g.linear(h, l.gate_up)?)?; // (T, F)
            x = g.add(x, g.linear(h, l.down)?)?;
        }
        let x = g.rms_norm(g.wanted(x), w.norm, self.eps)?;
        g.linear(x, w.head)
    }
}
