//! Recording of a network's layers, with notes of what a plan in tiles has to know of them.

use crate::error::Result;
use crate::graph::{Conv, ConvShape, GroupNorm, ImageBackend, ImageShape};

use super::parts::Filter;

/// One recorded operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A convolution.
    Conv {
        /// Channels and kernel.
        filter: ConvShape,
        /// Whether its input is enlarged 2 × 2.
        upsample: bool,
        /// 1 or 2.
        stride: u32,
        /// Size of what comes out.
        out: ImageShape,
    },
    /// A normalization over a picture of this size, in so many groups.
    Norm(ImageShape, u32),
    /// An attention, which sees all positions at once.
    Attention,
}

/// Records layers on a backend.
pub struct Tape<'a, B: ImageBackend> {
    /// The backend.
    pub backend: &'a mut B,
    /// Tiles of the picture whose layers are recorded for one tile; `None` for a picture in one piece.
    tiles: Option<u32>,
    /// The norms so far, of a picture in tiles.
    pub norms: Vec<B::Norm>,
    /// What was recorded so far.
    pub steps: Vec<Step>,
}

impl<'a, B: ImageBackend> Tape<'a, B> {
    /// For a picture in one piece.
    pub fn new(backend: &'a mut B) -> Self {
        Tape { backend, tiles: None, norms: Vec::new(), steps: Vec::new() }
    }

    /// For one of so many tiles. What measures norm `n` is part 2n + 1 of the plan; all else are the even parts.
    pub fn tiled(backend: &'a mut B, tiles: u32) -> Self {
        Tape { tiles: Some(tiles), ..Tape::new(backend) }
    }

    /// Records a normalization.
    pub(super) fn norm(&mut self, input: &B::Image, norm: &GroupNorm<'_>) -> Result<B::Norm> {
        self.steps.push(Step::Norm(B::shape(input), norm.groups));
        let Some(tiles) = self.tiles else { return self.backend.group_norm(input, norm) };
        self.backend.end_part();
        let norm = self.backend.tiled_norm(input, norm, tiles)?;
        self.backend.end_part();
        self.norms.push(norm.clone());
        Ok(norm)
    }

    /// Records a convolution into a picture of so many rows and columns.
    pub(super) fn conv(
        &mut self,
        filter: &Filter<B::Weights>,
        conv: Conv<'_, B>,
        (height, width): (u32, u32),
    ) -> Result<B::Image> {
        let shape = ImageShape { height, width, channels: filter.outputs };
        self.steps.push(Step::Conv {
            filter: filter.shape(),
            upsample: conv.upsample,
            stride: conv.stride,
            out: shape,
        });
        let out = self.backend.image(shape)?;
        self.backend.conv(&conv, &out)?;
        Ok(out)
    }

    /// Records an attention of queries, keys and values of one size.
    pub(super) fn attention(&mut self, q: &B::Image, k: &B::Image, v: &B::Image) -> Result<B::Image> {
        self.steps.push(Step::Attention);
        let out = self.backend.image(B::shape(q))?;
        self.backend.attention(q, k, v, &out)?;
        Ok(out)
    }
}
