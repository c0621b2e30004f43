//! GPT-2: learned positions, LayerNorm, biases everywhere, GELU without a gate. Radford et al., "Language Models are
//! Unsupervised Multitask Learners", 2019.

use crate::error::Result;
use crate::graph::{Act, Graph, LayerNorm, M, W, X};

use crate::model::Arch;
use crate::model::arch_meta::ArchMeta;
use crate::model::blocks::Dims;
use crate::model::layout::{Layout, Scores};

pub(in crate::model) struct Gpt2 {
    dims: Dims,
    positions: u32,
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
        let dims = Dims::with_layer_norm(meta)?;
        Ok(Gpt2 {
            dims,
            positions: meta.count("context_length", 1..=u32::MAX)?,
            scores: meta.scores(dims.heads)?,
        })
    }

    fn weights(&self, file: &mut Layout<'_>) -> Result<Weights> {
        let Dims { width: c, ffn: f, .. } = self.dims;
        let embed = file.embeddings(c)?;
        let positions = file.matrix("position_embd.weight", self.positions, c)?;
        let layers = file.layers(self.dims.layers, |blk, _| {
            Ok(Layer {
                attn_norm: blk.layer_norm("attn_norm", c)?,
                attn_qkv: blk.biased("attn_qkv", self.dims.heads.qkv_width(), c)?,
                attn_out: blk.biased("attn_output", c, self.dims.heads.rows()[0])?,
                ffn_norm: blk.layer_norm("ffn_norm", c)?,
                up: blk.biased("ffn_up", f, c)?,
                down: blk.biased("ffn_down", c, f)?,
                memory: blk.kv(self.dims.heads, self.scores),
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
            let h = g.layer_norm(x, l.attn_norm, self.dims.eps)?;
            let y = g.attend(g.linear(h, l.attn_qkv)?, l.memory)?;
            x = g.add(x, g.linear(y, l.attn_out)?)?;
            let h = g.layer_norm(x, l.ffn_norm, self.dims.eps)?;
            let h = g.map(Act::Gelu, g.linear(h, l.up)?); // (T, F)
            x = g.add(x, g.linear(h, l.down)?)?;
        }
        let x = g.layer_norm(g.wanted(x), w.norm, self.dims.eps)?;
        g.linear(x, w.head)
    }
}
