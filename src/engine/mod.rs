//! The loops, and what they run on.
//!
//! | file | job |
//! |---|---|
//! | `text.rs` | load, prefill and decode → tokens; cancel, KV reuse, statistics |
//! | `in_flight.rs` | decode steps under way, and drafts that are verified |
//! | `transcript.rs` | tokens into text, and what ends it |
//! | `meter.rs` | what it took |
//! | `sampling_defaults.rs` | a model's defaults of the sampling options, and where each comes from |
//! | `session.rs` | the tokens that a model remembers, and how far it can go back |
//! | `image/` | latents → pixels and back |
//! | `device.rs` | GPU or CPU, and why |
//! | `rehearsal.rs` | what a load would take of memory and time |
//! | `tune.rs` | which kernels are right on this adapter, and which are fast |

pub mod device;
pub mod image;
mod in_flight;
mod meter;
mod rehearsal;
mod sampling_defaults;
mod session;
mod text;
mod transcript;
mod tune;

pub use rehearsal::{Estimate, Rooms, rehearse, rooms};
pub use sampling_defaults::{NotApplied, Origin, SamplingDefault, SamplingDefaults};
pub use text::*;
