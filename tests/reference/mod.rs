//! The oracles: every operation in plain f64, one file each. They know GGML's file formats and
//! nothing of the kernels or their layouts.
#![allow(dead_code)] // each test crate uses its part

pub mod attention;
pub mod cache;
pub mod conv;
pub mod project;
pub mod sample;
pub mod weights;

/// A value and how far a kernel may be from it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum {
    pub value: f64,
    /// The sum of the absolute terms that were added up to get it: f32 rounding is a share of this.
    pub sum: f64,
    /// What comes on top where activations are quantized, at most.
    pub slack: f64,
}

impl Sum {
    /// With one term more.
    pub fn times(self, factor: f64) -> Self {
        let size = factor.abs();
        Sum { value: self.value * factor, sum: self.sum * size, slack: self.slack * size }
    }

    /// With a term added.
    pub fn plus(self, term: f64) -> Self {
        Sum { value: self.value + term, sum: self.sum + term.abs(), ..self }
    }
}
