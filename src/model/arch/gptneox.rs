//! GPT-NeoX and Pythia: LayerNorm, biases everywhere, RoPE of a part of each head, GELU; attention and feed-forward side
//! by side, each behind a norm of its own. Black et al., "GPT-NeoX-20B", 2022.

use crate::error::Result;
use crate::graph::{Act, Graph, Ids, LayerNorm, M, Rope, RopePairs, W, X};

use crate::model::Arch;
use crate::model::arch_meta::ArchMeta;
use crate::model::blocks::Dims;
use crate::model::layout::{Layout, Scores};
use crate::model::rope::RopeTable;

pub(in crate::model) struct GptNeoX {
    dims: Dims,
    scores: Scores,
    rope: RopeTable,
    /// Attention and feed-forward read the same input.
    parallel: bool,
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
    embed: W, // (V, C)
    layers: Vec<Layer>,
    norm: LayerNorm, // (C)
    head: W,         // (V, C)
    rope: Rope<Ids>,
}

impl Arch for GptNeoX {
    const NAME: &'static str = "gptneox";
    type Weights = Weights;

    fn config(meta: &ArchMeta<'_>) -> Result<Self> {
        let dims = Dims::with_layer_norm(meta)?;
        Ok(GptNeoX {
            dims,
            scores: meta.scores(dims.heads)?,
            rope: meta.rope(dims.heads, RopePairs::Halves)?,
            parallel: meta.flag_or("use_parallel_residual", true)?,
        })
    }

    fn weights(&self, file: &mut Layout<'_>) -> Result<Weights> {
        let Dims { width: c, ffn: f, .. } = self.dims;
        let embed = file.embeddings(c)?;
        let rope = file.rope(&self.rope)?;
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
        Ok(Weights { embed, layers, norm: file.layer_norm("output_norm", c)?, head: file.head(embed)?, rope })
    }

    fn forward(&self, w: &Weights, g: &Graph) -> Result<X> {
        let mut x = g.embed(w.embed, 1.0); // (T, C)
        for l in &w.layers {
            let h = g.layer_norm(x, l.attn_norm, self.dims.eps)?;
            let side = if self.parallel { Some(g.layer_norm(x, l.ffn_norm, self.dims.eps)?) } else { None };
            let qkv = g.rope(g.linear(h, l.attn_qkv)?, self.dims.heads, &w.rope)?;
            let y = g.attend(qkv, l.memory)?; // (T, H·D)
            x = g.add(x, g.linear(y, l.attn_out)?)?;
            let h = match side {
                Some(h) => h,
                None => g.layer_norm(x, l.ffn_norm, self.dims.eps)?,
            };
            let h = g.map(Act::Gelu, g.linear(h, l.up)?); // (T, F)
            x = g.add(x, g.linear(h, l.down)?)?;
        }
        let x = g.layer_norm(g.wanted(x), w.norm, self.dims.eps)?;
        g.linear(x, w.head)
    }
}
