//! Text ↔ tokens: the tokenizer and the chat template, both from the file's own metadata.

// A number of a file may have 64 bits, and `usize` has 32 in a browser. Tests run natively.
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

mod automaton;
mod byte_level;
mod bytes;
mod category;
mod jinja;
mod pattern;
mod pretokenizer;
mod special;
mod spm;
mod stop;
pub mod template;
pub mod tokenizer;
mod vocab;

pub use stop::{Passed, StopFilter};
pub use template::{ChatTemplate, Message};
pub use tokenizer::{MAX_TEXT_BYTES, Segment, Special, StreamDecoder, Tokenizer};
