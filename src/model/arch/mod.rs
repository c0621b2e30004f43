//! The architectures of language models, one file each.

mod llama;

pub(super) use llama::Llama;
