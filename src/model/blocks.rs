//! What architectures share. A thing comes here when three of them have it, and not sooner.

use crate::error::Result;
use crate::graph::{Heads, M, V, W};

use super::arch_meta::ArchMeta;
use super::layout::{Layout, Scores};

/// Sizes that the metadata of every architecture says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dims {
    /// Layers.
    pub layers: u32,
    /// Model width `C`.
    pub width: u32,
    /// Feed-forward width `F`.
    pub ffn: u32,
    /// What norms add to the mean square, or to the variance.
    pub eps: f32,
    /// Query heads, KV heads and their size.
    pub heads: Heads,
}

impl Dims {
    /// Of an architecture with RMSNorm.
    pub(super) fn with_rms_norm(meta: &ArchMeta<'_>) -> Result<Self> {
        Self::with_eps(meta, meta.rms_eps()?)
    }

    /// Of an architecture with LayerNorm.
    pub(super) fn with_layer_norm(meta: &ArchMeta<'_>) -> Result<Self> {
        Self::with_eps(meta, meta.layer_eps()?)
    }

    fn with_eps(meta: &ArchMeta<'_>, eps: f32) -> Result<Self> {
        let (layers, width) = (meta.layers()?, meta.width()?);
        Ok(Dims { layers, width, ffn: meta.ffn(layers)?, eps, heads: meta.heads(layers, width)? })
    }
}

/// A layer as Llama has it: attention, then a gated feed-forward, each behind an RMSNorm.
pub(super) struct GatedLayer {
    pub attn_norm: V, // (C)
    pub attn_qkv: W,  // (H·D + 2·G·D, C)
    pub attn_out: W,  // (C, H·D)
    pub ffn_norm: V,  // (C)
    pub gate_up: W,   // (2·F, C)
    pub down: W,      // (C, F)
    pub memory: M,
}

impl GatedLayer {
    /// Declares its tensors.
    pub(super) fn declare(blk: &mut Layout<'_>, dims: &Dims, scores: Scores) -> Result<Self> {
        let Dims { width: c, ffn: f, heads, .. } = *dims;
        Ok(GatedLayer {
            attn_norm: blk.vector("attn_norm.weight", c)?,
            attn_qkv: blk.qkv(heads, c)?,
            attn_out: blk.linear("attn_output", c, heads.rows()[0])?,
            ffn_norm: blk.vector("ffn_norm.weight", c)?,
            gate_up: blk.gate_up(f, c)?,
            down: blk.linear("ffn_down", c, f)?,
            memory: blk.kv(heads, scores),
        })
    }
}
