//! Gemma: Llama with embeddings times √C, a GELU gate, and wide heads. Gemma team, "Gemma", 2024. The 1 that is added to
//! the gains of its norms is in the file already.

use crate::error::Result;
use crate::graph::{Act, Graph, Ids, Rope, RopePairs, V, W, X};

use crate::model::Arch;
use crate::model::arch_meta::ArchMeta;
use crate::model::blocks::{Dims, GatedLayer};
use crate::model::layout::{Layout, Scores};
use crate::model::rope::RopeTable;

pub(in crate::model) struct Gemma {
    dims: Dims,
    scores: Scores,
    rope: RopeTable,
}

pub(in crate::model) struct Weights {
    embed: W, // (V, C)
    layers: Vec<GatedLayer>,
    norm: V, // (C)
    head: W, // (V, C)
    rope: Rope<Ids>,
}

impl Arch for Gemma {
    const NAME: &'static str = "gemma";
    type Weights = Weights;

    fn config(meta: &ArchMeta<'_>) -> Result<Self> {
        let dims = Dims::with_rms_norm(meta)?;
        Ok(Gemma { dims, scores: meta.scores(dims.heads)?, rope: meta.rope(dims.heads, RopePairs::Halves)? })
    }

    fn weights(&self, file: &mut Layout<'_>) -> Result<Weights> {
        let c = self.dims.width;
        let embed = file.embeddings(c)?;
        let rope = file.rope(&self.rope)?;
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
        let mut x = g.embed(w.embed, (self.dims.width as f32).sqrt()); // (T, C)
        for l in &w.layers {
            let h = g.rms_norm(x, l.attn_norm, self.dims.eps)?;
            let qkv = g.rope(g.linear(h, l.attn_qkv)?, self.dims.heads, &w.rope)?;
            let y = g.attend(qkv, l.memory)?; // (T, H·D)
            x = g.add(x, g.linear(y, l.attn_out)?)?;
            let h = g.rms_norm(x, l.ffn_norm, self.dims.eps)?;
            let h = g.gated(Act::Gelu, g.linear(h, l.gate_up)?)?; // (T, F)
            x = g.add(x, g.linear(h, l.down)?)?;
        }
        let x = g.rms_norm(g.wanted(x), w.norm, self.dims.eps)?;
        g.linear(x, w.head)
    }
}
