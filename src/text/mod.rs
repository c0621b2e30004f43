//! Text ↔ tokens: the tokenizer and the chat template, both from the file's own metadata,
//! and the CPU's part of sampling.

mod bytes;
mod category;
mod clock;
mod pretokenizer;
mod pycompat;
mod sampler;
mod spm;
mod stop;
pub mod template;
pub mod tokenizer;
mod vocab;

pub use sampler::Sampling;
pub use stop::{Passed, StopFilter};
pub use template::{ChatTemplate, Message};
pub use tokenizer::{Segment, Special, StreamDecoder, Tokenizer};
