//! The architectures of language models, one file each.

pub(super) mod llama;
