//! The second backend: the op set as SIMD code, for visitors without a graphics card.
//!
//! activations → blocks of integers → panels of weights → sums → activations:
//!
//! | file | job |
//! |---|---|
//! | `simd/` | eight-lane vectors, one file a machine; kernels are generic over them |
//! | `panel.rs`, `pack.rs` | how weights lie in memory; how rows of a file come to lie so |
//! | `activations.rs` | rows of activations, rounded to integers |
//! | `matrix.rs` | matrix products: matvec and matmul are one micro-tile |
//! | `attention/` | fused attention in chunks; the KV cache |
//! | `conv.rs`, `winograd.rs` | convolutions; those 3 × 3 of stride 1, with fewer products |
//! | `images.rs` | the op set of image networks |
//! | `vector.rs` | RMSNorm, RoPE, SwiGLU |
//! | `fetch.rs` | reads memory ahead of the kernels |
//! | `team/` | who computes: threads that take chunks of the work |
//! | `weight.rs`, `memory.rs` | matrices of several parts, and their products; buffers and their bytes |
//! | `room.rs`, `limit.rs` | what a model takes of memory; how much there can be |
//! | `backend.rs` | the op set: what each operation works on, and how plans run |

// Kernels count tokens and rows by index: `sums[n]` beside `x[n]` is how the formulas read.
#![allow(clippy::needless_range_loop)]

mod activations;
mod attention;
mod backend;
mod conv;
mod fetch;
mod images;
mod limit;
mod matrix;
mod memory;
mod pack;
mod panel;
mod room;
mod simd;
mod team;
mod vector;
mod weight;
mod winograd;

pub use activations::Bits;
pub use backend::{CpuBackend, CpuCache, CpuOptions, CpuTensor};
pub use images::{CpuImage, CpuImagePlan, CpuImages};
#[cfg(target_arch = "wasm32")]
pub use limit::set_most_bytes;
pub use limit::{beside_bytes, most_bytes};
pub use room::{Room, room};
pub use simd::Level;
#[cfg(target_arch = "wasm32")]
pub use team::Place;
pub use team::Team;
