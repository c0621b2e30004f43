//! What a program takes of a backend's memory, before any of it is allocated.

use super::backend::Segment;
use super::memory::HeadShape;

/// A weight matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatrixNeed {
    /// Its name.
    pub label: String,
    /// Columns.
    pub cols: u64,
    /// Its rows, by type.
    pub segments: Vec<Segment>,
    /// Tokens that it is multiplied by at once, at most.
    pub batch: u32,
}

/// Matrices, vectors, memories and tensors by the ids of a program. What no op asks for is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Needs {
    /// Weight matrices.
    pub weights: Vec<Option<MatrixNeed>>,
    /// Vectors: name and floats.
    pub vectors: Vec<Option<(String, u32)>>,
    /// KV caches, one a layer: name and shape.
    pub memories: Vec<Option<(String, HeadShape)>>,
    /// Activations: rows and columns.
    pub tensors: Vec<(u32, u32)>,
}

impl Needs {
    /// Matrices that are there.
    pub fn matrices(&self) -> impl Iterator<Item = &MatrixNeed> {
        self.weights.iter().flatten()
    }
}

/// What a model would take of a device's memory, and how much there can be, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// With what is there beside it.
    pub needed: u64,
    /// All that there can be.
    pub most: u64,
}

impl Fit {
    /// Whether it is enough.
    #[must_use]
    pub fn fits(self) -> bool {
        self.needed <= self.most
    }
}
