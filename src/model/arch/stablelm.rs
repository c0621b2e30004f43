//! StableLM 2: LayerNorm, SwiGLU, RoPE of a part of each head; the 12B model norms every query and key head by gains of
//! its own, and computes attention and feed-forward side by side. Bellagente et al., "Stable LM 2", 2024.

use crate::error::Result;
use crate::graph::{Act, Graph, Ids, LayerNorm, M, NormKind, Rope, RopePairs, V, W, X};

use crate::model::Arch;
use crate::model::arch_meta::ArchMeta;
use crate::model::blocks::Dims;
use crate::model::layout::{Layout, Scores};
use crate::model::rope::RopeTable;

pub(in crate::model) struct StableLm {
    dims: Dims,
    scores: Scores,
    rope: RopeTable,
    /// Whether attention and feed-forward read the same input, where the file says it.
    parallel: Option<bool>,
}

struct Layer {
    attn_norm: LayerNorm,        // (C)
    attn_qkv: W,                 // (H·D + 2·G·D, C)
    head_norms: Option<[V; 2]>,  // (H·D), (G·D)
    attn_out: W,                 // (C, H·D)
    ffn_norm: Option<LayerNorm>, // (C); none where both are side by side
    gate_up: W,                  // (2·F, C)
    down: W,                     // (C, F)
    memory: M,
}

pub(in crate::model) struct Weights {
    embed: W, // (V, C)
    layers: Vec<Layer>,
    norm: LayerNorm, // (C)
    head: W,         // (V, C)
    rope: Rope<Ids>,
}

impl Arch for StableLm {
    const NAME: &'static str = "stablelm";
    type Weights = Weights;

    fn config(meta: &ArchMeta<'_>) -> Result<Self> {
        let dims = Dims::with_layer_norm(meta)?;
        Ok(StableLm {
            dims,
            scores: meta.scores(dims.heads)?,
            rope: meta.rope(dims.heads, RopePairs::Halves)?,
            parallel: match meta.has("use_parallel_residual") {
                true => Some(meta.flag_or("use_parallel_residual", true)?),
                false => None,
            },
        })
    }

    fn weights(&self, file: &mut Layout<'_>) -> Result<Weights> {
        let Dims { width: c, ffn: f, .. } = self.dims;
        let embed = file.embeddings(c)?;
        let rope = file.rope(&self.rope)?;
        let layers = file.layers(self.dims.layers, |blk, _| {
            Ok(Layer {
                attn_norm: blk.layer_norm("attn_norm", c)?,
                attn_qkv: blk.qkv(self.dims.heads, c)?,
                head_norms: match blk.has("attn_q_norm.weight") || blk.has("attn_k_norm.weight") {
                    true => Some([
                        blk.vector_of_heads(
                            "attn_q_norm.weight",
                            self.dims.heads.heads,
                            self.dims.heads.dim,
                        )?,
                        blk.vector_of_heads(
                            "attn_k_norm.weight",
                            self.dims.heads.kv_heads,
                            self.dims.heads.dim,
                        )?,
                    ]),
                    false => None,
                },
                attn_out: blk.linear("attn_output", c, self.dims.heads.rows()[0])?,
                // As in llama.cpp the norm's tensor decides: old files say true and have it.
                ffn_norm: match blk.has("ffn_norm.weight") || self.parallel == Some(false) {
                    true => Some(blk.layer_norm("ffn_norm", c)?),
                    false => None,
                },
                gate_up: blk.gate_up(f, c)?,
                down: blk.linear("ffn_down", c, f)?,
                memory: blk.kv(self.dims.heads, self.scores),
            })
        })?;
        Ok(Weights { embed, layers, norm: file.layer_norm("output_norm", c)?, head: file.head(embed)?, rope })
    }

    fn forward(&self, w: &Weights, g: &Graph) -> Result<X> {
        let mut x = g.embed(w.embed, 1.0); // (T, C)
        for l in &w.layers {
            let h = g.layer_norm(x, l.attn_norm, self.dims.eps)?;
            let mut qkv = g.linear(h, l.attn_qkv)?;
            if let Some(gains) = l.head_norms {
                qkv = g.head_norm(qkv, self.dims.heads, NormKind::Layer, gains, self.dims.eps)?;
            }
            let y = g.attend(g.rope(qkv, self.dims.heads, &w.rope)?, l.memory)?; // (T, H·D)
            x = g.add(x, g.linear(y, l.attn_out)?)?;
            let h = match l.ffn_norm {
                Some(norm) => g.layer_norm(x, norm, self.dims.eps)?,
                None => h,
            };
            let h = g.gated(Act::Silu, g.linear(h, l.gate_up)?)?; // (T, F)
            x = g.add(x, g.linear(h, l.down)?)?;
        }
        let x = g.layer_norm(g.wanted(x), w.norm, self.dims.eps)?;
        g.linear(x, w.head)
    }
}
