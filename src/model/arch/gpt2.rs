//! GPT-2: learned positions, LayerNorm, biases everywhere, GELU without a gate. Radford et al., "Language Models are
//! Unsupervised Multitask Learners", 2019.

use crate::error::Result;
use crate::graph::{Act, Graph, Heads, LayerNorm, M, W, X};

use crate::model::Arch;
use crate::model::arch_meta::ArchMeta;
use crate::model::layout::{Layout, Scores};

pub(in crate::model) struct Gpt2 {
    layers: u32,
    width: u32,
    ffn: u32,
    eps: f32,
    positions: u32,
    heads: Heads,
    scores: Scores,
}

struct Layer {
    attn_norm: LayerNorm, // (C)
    attn_qkv: W,          // (3·C, C)
    attn_out: W,          // (C, C)
    ffn_norm: LayerNorm,  // (C)
    up: W,                // (F, C)
    down: W,              // (C, F)
    memory: M,
}

pub(in crate::model) struct Weights {
    embed: W,     // (V, C)
    positions: W, // (positions, C)
    layers: Vec<Layer>,
    norm: LayerNorm, // (C)
    head: W,         // (V, C)
}

impl Arch for Gpt2 {
    const NAME: &'static str = "gpt2";
    type Weights = Weights;

    fn config(meta: &ArchMeta<'_>) -> Result<Self> {
        let (layers, width) = (meta.layers()?, meta.width()?);
        let heads = meta.heads(layers, width)?;
        Ok(Gpt2 {
            layers,
            width,
            ffn: meta.ffn(layers)?,
            eps: meta.layer_eps()?,
            positions: meta.count("context_length", 1..=u32::MAX)?,
            heads,
            scores: meta.scores(heads)?,
        })
    }

    fn weights(&self, file: &mut Layout<'_>) -> Result<Weights> {
        let (c, f) = (self.width, self.ffn);
        let embed = file.embeddings(c)?;
        let positions = file.matrix("position_embd.weight", self.positions, c)?;
        let layers = file.layers(self.layers, |blk, _| {
            Ok(Layer {
                attn_norm: blk.layer_norm("attn_norm", c)?,
                attn_qkv: blk.biased("attn_qkv", self.heads.qkv_width(), c)?,
                attn_out: blk.biased("attn_output", c, self.heads.rows()[0])?,
                ffn_norm: blk.layer_norm("ffn_norm", c)?,
                up: blk.biased("ffn_up", f, c)?,
                down: blk.biased("ffn_down", c, f)?,
                memory: blk.kv(self.heads, self.scores),
            })
        })?;
        Ok(Weights {
            embed,
            positions,
            layers,
            norm: file.layer_norm("output_norm", c)?,
            head: file.head(embed)?,
        })
    }

    fn forward(&self, w: &Weights, g: &Graph) -> Result<X> {
        let mut x = g.positions(g.embed(w.embed, 1.0), w.positions)?; // (T, C)
        for l in &w.layers {
            let h = g.layer_norm(x, l.attn_norm, self.eps)?;
            let y = g.attend(g.linear(h, l.attn_qkv)?, l.memory)?;
            x = g.add(x, g.linear(y, l.attn_out)?)?;
            let h = g.layer_norm(x, l.ffn_norm, self.eps)?;
            let h = g.map(Act::Gelu, g.linear(h, l.up)?); // (T, F)
            x = g.add(x, g.linear(h, l.down)?)?;
        }
        let x = g.layer_norm(g.wanted(x), w.norm, self.eps)?;
        g.linear(x, w.head)
    }
}
