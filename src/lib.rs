//! Emberglass: small language models in a web page.
//!
//! file bytes → tensors → GPU buffers → kernels → tokens → JavaScript, each arrow one folder:
//!
//! | module | from → to |
//! |---|---|
//! | [`formats`] | types of weights: their numbers, names and blocks |
//! | [`weights`] | file bytes → tensors: [`ByteSource`] range reads, GGUF directory |
//! | [`graph`] | what is computed: the op set that a model is written over |
//! | [`gpu`] | the op set as WGSL (`shaders/`); the only folder that names wgpu |
//! | [`cpu`] | the op set as SIMD code, where there is no graphics card |
//! | [`model`] | architectures: Config + Weights + State + forward, recorded into plans |
//! | [`text`] | text ↔ tokens: tokenizer, chat template |
//! | [`sampling`] | logits → token: the options, the draw on the CPU, drafts |
//! | [`engine`] | the loops: prefill and decode → tokens, latents → pixels; GPU or CPU, and why |
//! | `web` | tokens → JavaScript (wasm32 only) |
//!
//! `tests/files/layers.rs` enforces which module may import which; `docs/ARCHITECTURE.md` explains it.

pub mod cpu;
pub mod engine;
pub mod error;
pub mod formats;
pub mod gpu;
pub mod graph;
pub mod model;
pub mod sampling;
pub mod text;
pub mod weights;

#[cfg(target_arch = "wasm32")]
mod allocator;
mod clock;
mod sort;
#[cfg(target_arch = "wasm32")]
mod web;
mod yield_now;

pub use cpu::{CpuBackend, CpuOptions};
pub use engine::device::{Device, DeviceChoice, DeviceReason, choose};
pub use engine::image::{DecodeEvent, DecodeOptions, Decoded, Encoding, ImageModel, Latents, Picture};
pub use engine::{Finish, GenerateOptions, Generation, Prompt, TextEngine};
pub use error::{Error, Result};
pub use formats::DType;
pub use gpu::{Gpu, GpuBackend, GpuOptions};
pub use sampling::{Sampling, SamplingOverrides};
pub use text::Message;
#[cfg(not(target_arch = "wasm32"))]
pub use weights::FileSource;
pub use weights::{ByteSource, SliceSource, read_directory};
