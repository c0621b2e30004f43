//! The oracles: every operation in plain f64, one file each. They know GGML's file formats and
//! nothing of the kernels or their layouts.
#![allow(dead_code)] // each test crate uses its part

pub mod attention;
pub mod project;
pub mod sample;
pub mod weights;

/// A value and how much f32 rounding may move it: `sum` is the sum of the absolute terms that were
/// added up to get it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum {
    pub value: f64,
    pub sum: f64,
}
