//! Gemma 3: Gemma 2 with a norm on every query and key head in place of the soft cap of scores, and five layers with a
//! sliding window to each without, each kind with a RoPE of its own. Gemma team, "Gemma 3", 2025.

use crate::error::Result;
use crate::graph::{Act, Graph, Heads, Ids, M, NormKind, Rope, RopePairs, V, W, X};

use crate::model::Arch;
use crate::model::arch_meta::ArchMeta;
use crate::model::blocks::Dims;
use crate::model::layout::{Layout, Scores};
use crate::model::rope::RopeTable;

/// What a file means that does not say it: the base of the angles in layers with a window.
const WINDOW_BASE: f32 = 10_000.0;
/// Layers of the 27B model, whose scores have another factor.
const LAYERS_27B: u32 = 62;

pub(in crate::model) struct Gemma3 {
    dims: Dims,
    /// Of each layer.
    scores: Vec<Scores>,
    logit_cap: f32,
    /// Of layers that see all, and of those with a window.
    ropes: [RopeTable; 2],
}

struct Layer {
    attn_norm: V,       // (C)
    attn_qkv: W,        // (H·D + 2·G·D, C)
    head_norms: [V; 2], // (D): of Q and of K
    rope: Rope<Ids>,
    attn_out: W,       // (C, H·D)
    post_attn_norm: V, // (C)
    ffn_norm: V,       // (C)
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

impl Arch for Gemma3 {
    const NAME: &'static str = "gemma3";
    type Weights = Weights;

    fn config(meta: &ArchMeta<'_>) -> Result<Self> {
        let dims = Dims::with_rms_norm(meta)?;
        let mut scores = Vec::new();
        for window in meta.windows(dims.layers, 0, 6)? {
            let mut of = meta.scores_with_window(dims.heads, window)?;
            if dims.layers == LAYERS_27B && !meta.has("attention.scale") {
                of.scale = 1.0 / ((dims.width / dims.heads.heads) as f32).sqrt();
            }
            scores.push(of);
        }
        let rope = meta.rope(dims.heads, RopePairs::Halves)?;
        let base = meta.rope_base("rope.freq_base_swa", WINDOW_BASE)?;
        Ok(Gemma3 {
            dims,
            scores,
            logit_cap: meta.cap_or("final_logit_softcapping", 0.0)?,
            // As in llama.cpp the factor of what is turned is that of all layers.
            ropes: [rope, RopeTable { magnitude: meta.rope_magnitude()?, ..rope.plain(base) }],
        })
    }

    fn weights(&self, file: &mut Layout<'_>) -> Result<Weights> {
        let Dims { width: c, ffn: f, heads: Heads { dim: d, .. }, .. } = self.dims;
        let embed = file.embeddings(c)?;
        let [everywhere, within] = [file.rope(&self.ropes[0])?, file.rope(&self.ropes[1])?];
        let layers = file.layers(self.dims.layers, |blk, i| {
            let scores = self.scores[i as usize];
            Ok(Layer {
                attn_norm: blk.vector("attn_norm.weight", c)?,
                attn_qkv: blk.qkv(self.dims.heads, c)?,
                head_norms: [blk.vector("attn_q_norm.weight", d)?, blk.vector("attn_k_norm.weight", d)?],
                rope: if scores.window > 0 { within } else { everywhere },
                attn_out: blk.linear("attn_output", c, self.dims.heads.rows()[0])?,
                post_attn_norm: blk.vector("post_attention_norm.weight", c)?,
                ffn_norm: blk.vector("ffn_norm.weight", c)?,
                gate_up: blk.gate_up(f, c)?,
                down: blk.linear("ffn_down", c, f)?,
                post_ffn_norm: blk.vector("post_ffw_norm.weight", c)?,
                memory: blk.kv(self.dims.heads, scores),
            })
        })?;
        Ok(Weights { embed, layers, norm: file.vector("output_norm.weight", c)?, head: file.head(embed)? })
    }

    fn forward(&self, w: &Weights, g: &Graph) -> Result<X> {
        let mut x = g.embed(w.embed, (self.dims.width as f32).sqrt()); // (T, C)
        for l in &w.layers {
            let h = g.rms_norm(x, l.attn_norm, self.dims.eps)?;
            let qkv = g.linear(h, l.attn_qkv)?;
            let qkv = g.head_norm(qkv, self.dims.heads, NormKind::Rms, l.head_norms, self.dims.eps)?;
            let qkv = g.rope(qkv, self.dims.heads, &l.rope)?;
            let y = g.linear(g.attend(qkv, l.memory)?, l.attn_out)?;
            x = g.add(x, g.rms_norm(y, l.post_attn_norm, self.dims.eps)?)?;
            let h = g.rms_norm(x, l.ffn_norm, self.dims.eps)?;
            let h = g.gated(Act::Gelu, g.linear(h, l.gate_up)?)?; // (T, F)
            let y = g.linear(h, l.down)?;
            x = g.add(x, g.rms_norm(y, l.post_ffn_norm, self.dims.eps)?)?;
        }
        let x = g.rms_norm(g.wanted(x), w.norm, self.dims.eps)?;
        Ok(g.soft_cap(g.linear(x, w.head)?, self.logit_cap))
    }
}
