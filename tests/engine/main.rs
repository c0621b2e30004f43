//! The engine: language models against independent references, its paths against each other, and the choice of a device.
//!
//! One program, since each is linked with everything: `cargo test --test engine golden::` runs one file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

#[path = "../common/answers.rs"]
mod answers;
#[path = "../common/divergence.rs"]
mod divergence;
#[path = "../common/gguf_file.rs"]
mod gguf_file;
#[path = "../common/model.rs"]
mod model;
#[allow(dead_code)] // each program uses a part
#[path = "../common/random.rs"]
mod random;

mod arch;
mod choice;
mod golden;
mod llama;
mod perplexity;
mod real_models;
mod rehearsal;
mod speculation;
