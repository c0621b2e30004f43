//! The loops, and what they run on.
//!
//! | file | job |
//! |---|---|
//! | `text.rs` | load, prefill and decode → tokens; cancel, KV reuse, statistics |
//! | `session.rs` | the tokens that a model remembers, and how far it can go back |
//! | `image/` | latents → pixels and back |
//! | `device.rs` | GPU or CPU, and why |
//! | `tune.rs` | which kernels are right on this adapter, and which are fast |

pub mod device;
pub mod image;
mod session;
mod text;
mod tune;

pub use text::*;
