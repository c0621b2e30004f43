//! What needs no device: files and their readers, chat templates, the rules of imports, tables of the documents.
//!
//! One program, since each is linked with everything: `cargo test --test files layers::` runs one file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod codes;
mod docs;
mod gguf;
mod layers;
mod source;
mod template;
mod tokenizer_files;
