//! Text ↔ tokens: the tokenizer and the chat template, both from the file's own metadata,
//! the CPU's part of sampling, and drafts of what may follow.

// A number of a file may have 64 bits, and `usize` has 32 in a browser. Tests run natively.
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

mod bytes;
mod category;
mod clock;
mod drafts;
mod pretokenizer;
mod pycompat;
mod sampler;
mod spm;
mod stop;
pub mod template;
pub mod tokenizer;
mod vocab;

pub use drafts::Drafter;
pub use sampler::Sampling;
pub use stop::{Passed, StopFilter};
pub use template::{ChatTemplate, Message};
pub use tokenizer::{Segment, Special, StreamDecoder, Tokenizer};
