//! Fuzz targets. Each takes bytes, makes an input of them, and gives it to one part of Emberglass.
//!
//! Two programs run them: `fuzz-seeded` mutates seeds at random and works with any toolchain; `fuzz-guided` is
//! libFuzzer. `cargo xtask fuzz` starts the one that can be built. A target fails by a panic, by more memory than
//! [`MEMORY_LIMIT`], by a case that takes longer than its runner allows, or by a broken promise that it checks.

pub mod memory;
pub mod mutate;

mod gguf;
mod targets;

pub use targets::{TARGETS, Target, find};

/// Bytes that one process may hold while it runs cases. The largest seed needs some 20 MiB.
pub const MEMORY_LIMIT: usize = 512 << 20;
