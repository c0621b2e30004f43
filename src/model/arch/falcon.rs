//! Falcon: attention and feed-forward side by side behind one LayerNorm (7B) or one each (40B), few KV heads, RoPE, GELU.
//! Almazrouei et al., "The Falcon Series of Open Language Models", 2023.

use crate::error::Result;
use crate::graph::{Act, Graph, Ids, LayerNorm, M, Rope, RopePairs, W, X};

use crate::model::Arch;
use crate::model::arch_meta::ArchMeta;
use crate::model::blocks::Dims;
use crate::model::layout::{Layout, Scores};
use crate::model::rope::RopeTable;

pub(in crate::model) struct Falcon {
    dims: Dims,
    scores: Scores,
    rope: RopeTable,
}

struct Layer {
    norm: LayerNorm,              // (C): of the feed-forward, and without the next of attention too
    attn_norm: Option<LayerNorm>, // (C)
    attn_qkv: W,                  // (H·D + 2·G·D, C)
    attn_out: W,                  // (C, H·D)
    up: W,                        // (F, C)
    down: W,                      // (C, F)
    memory: M,
}

pub(in crate::model) struct Weights {
    embed: W, // (V, C)
    layers: Vec<Layer>,
    norm: LayerNorm, // (C)
    head: W,         // (V, C)
    rope: Rope<Ids>,
}

impl Arch for Falcon {
    const NAME: &'static str = "falcon";
    type Weights = Weights;

    fn config(meta: &ArchMeta<'_>) -> Result<Self> {
        let dims = Dims::with_layer_norm(meta)?;
        Ok(Falcon { dims, scores: meta.scores(dims.heads)?, rope: meta.rope(dims.heads, RopePairs::Halves)? })
    }

    fn weights(&self, file: &mut Layout<'_>) -> Result<Weights> {
        let Dims { width: c, ffn: f, .. } = self.dims;
        let embed = file.embeddings(c)?;
        let rope = file.rope(&self.rope)?;
        let layers = file.layers(self.dims.layers, |blk, _| {
            Ok(Layer {
                norm: blk.layer_norm("attn_norm", c)?,
                attn_norm: match blk.has("attn_norm_2.weight") {
                    true => Some(blk.layer_norm("attn_norm_2", c)?),
                    false => None,
                },
                attn_qkv: blk.qkv(self.dims.heads, c)?,
                attn_out: blk.linear("attn_output", c, self.dims.heads.rows()[0])?,
                up: blk.linear("ffn_up", f, c)?,
                down: blk.linear("ffn_down", c, f)?,
                memory: blk.kv(self.dims.heads, self.scores),
            })
        })?;
        Ok(Weights { embed, layers, norm: file.layer_norm("output_norm", c)?, head: file.head(embed)?, rope })
    }

    fn forward(&self, w: &Weights, g: &Graph) -> Result<X> {
        let mut x = g.embed(w.embed, 1.0); // (T, C)
        for l in &w.layers {
            let h = g.layer_norm(x, l.norm, self.dims.eps)?;
            let before = match l.attn_norm {
                Some(norm) => g.layer_norm(x, norm, self.dims.eps)?,
                None => h,
            };
            let qkv = g.rope(g.linear(before, l.attn_qkv)?, self.dims.heads, &w.rope)?;
            let y = g.attend(qkv, l.memory)?; // (T, H·D)
            x = g.add(x, g.linear(y, l.attn_out)?)?;
            let h = g.map(Act::Gelu, g.linear(h, l.up)?); // (T, F)
            x = g.add(x, g.linear(h, l.down)?)?;
        }
        let x = g.layer_norm(g.wanted(x), w.norm, self.dims.eps)?;
        g.linear(x, w.head)
    }
}
