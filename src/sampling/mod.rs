//! How the next token is chosen: the options, the draw on the CPU, and drafts for speculative decoding. A backend computes
//! the logits. The GPU backend also draws (`gpu/kernels/sample.rs`).

// A number of a file may have 64 bits, and `usize` has 32 in a browser. Tests run natively.
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

mod drafts;
pub mod draw;
mod options;

pub use drafts::Drafter;
pub use draw::{MAX_TOP_K, NO_TOKEN, SampleParams};
pub use options::{Sampling, SamplingOverrides};
