//! Text ↔ tokens: the tokenizer and the chat template, both from the file's own metadata,
//! the CPU's part of sampling, and drafts of what may follow.

mod bytes;
mod category;
mod drafts;
mod jinja;
mod pretokenizer;
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
