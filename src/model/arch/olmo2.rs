//! OLMo 2 and 3: norms behind the blocks instead of before them, and norms of Q and K over all heads together. OLMo 3
//! has a sliding window in three of four layers, and YaRN in the fourth alone. OLMo team, "2 OLMo 2 Furious", 2024.

use crate::error::Result;
use crate::graph::{Act, Graph, Ids, M, NormKind, Rope, RopePairs, V, W, X};

use crate::model::Arch;
use crate::model::arch_meta::ArchMeta;
use crate::model::blocks::Dims;
use crate::model::layout::{Layout, Scores};
use crate::model::rope::RopeTable;

pub(in crate::model) struct Olmo2 {
    dims: Dims,
    /// Of each layer.
    scores: Vec<Scores>,
    /// Of layers that see all, and of those with a window.
    ropes: [RopeTable; 2],
}

struct Layer {
    attn_qkv: W,     // (H·D + 2·G·D, C)
    qk_norm: [V; 2], // (H·D), (G·D)
    rope: Rope<Ids>,
    attn_out: W,       // (C, H·D)
    post_attn_norm: V, // (C)
    gate_up: W,        // (2·F, C)
    down: W,           // (C, F)
    post_ffn_norm: V,  // (C)
    memory: M,
}

pub(in crate::model) struct Weights {
    embed: W, // (V, C)
    layers: Vec<Layer>,
    norm: V, // (C)
    head: W, // (V, C)
}

impl Arch for Olmo2 {
    const NAME: &'static str = "olmo2";
    type Weights = Weights;

    fn config(meta: &ArchMeta<'_>) -> Result<Self> {
        let dims = Dims::with_rms_norm(meta)?;
        let windows = meta.windows(dims.layers, 0, 4)?;
        let scores = windows.into_iter().map(|window| meta.scores_with_window(dims.heads, window));
        let scores = scores.collect::<Result<_>>()?;
        let rope = meta.rope(dims.heads, RopePairs::Halves)?;
        let base = meta.rope_base("rope.freq_base_swa", rope.base)?;
        Ok(Olmo2 { dims, scores, ropes: [rope, rope.plain(base)] })
    }

    fn weights(&self, file: &mut Layout<'_>) -> Result<Weights> {
        let Dims { width: c, ffn: f, .. } = self.dims;
        let [q, kv] = self.dims.heads.rows();
        let embed = file.embeddings(c)?;
        let [everywhere, within] = [file.rope(&self.ropes[0])?, file.rope(&self.ropes[1])?];
        let layers = file.layers(self.dims.layers, |blk, i| {
            let scores = self.scores[i as usize];
            Ok(Layer {
                attn_qkv: blk.qkv(self.dims.heads, c)?,
                qk_norm: [blk.vector("attn_q_norm.weight", q)?, blk.vector("attn_k_norm.weight", kv)?],
                rope: if scores.window > 0 { within } else { everywhere },
                attn_out: blk.linear("attn_output", c, q)?,
                post_attn_norm: blk.vector("post_attention_norm.weight", c)?,
                gate_up: blk.gate_up(f, c)?,
                down: blk.linear("ffn_down", c, f)?,
                post_ffn_norm: blk.vector("post_ffw_norm.weight", c)?,
                memory: blk.kv(self.dims.heads, scores),
            })
        })?;
        Ok(Weights { embed, layers, norm: file.vector("output_norm.weight", c)?, head: file.head(embed)? })
    }

    fn forward(&self, w: &Weights, g: &Graph) -> Result<X> {
        let mut x = g.embed(w.embed, 1.0); // (T, C)
        for l in &w.layers {
            let qkv = g.linear(x, l.attn_qkv)?;
            let qkv = g.norm_q_and_k(qkv, self.dims.heads, NormKind::Rms, l.qk_norm, self.dims.eps)?;
            let qkv = g.rope(qkv, self.dims.heads, &l.rope)?;
            let y = g.linear(g.attend(qkv, l.memory)?, l.attn_out)?;
            x = g.add(x, g.rms_norm(y, l.post_attn_norm, self.dims.eps)?)?;
            let h = g.gated(Act::Silu, g.linear(x, l.gate_up)?)?; // (T, F)
            let y = g.linear(h, l.down)?;
            x = g.add(x, g.rms_norm(y, l.post_ffn_norm, self.dims.eps)?)?;
        }
        let x = g.rms_norm(g.wanted(x), w.norm, self.dims.eps)?;
        g.linear(x, w.head)
    }
}
