//! Emberglass: small language models in a web page.
//!
//! file bytes → tensors → GPU buffers → kernels → tokens → JavaScript, each arrow one folder:
//!
//! | module | from → to |
//! |---|---|
//! | [`weights`] | file bytes → tensors: [`ByteSource`] range reads, GGUF directory |
//! | [`gpu`] | tensors → GPU buffers; shader text → pipelines; dispatches → submits |
//! | [`ops`] | the op set a model is written over; one file an operation, its WGSL in `shaders/` |
//! | [`cpu`] | the same op set as SIMD code, where there is no graphics card |
//! | [`model`] | architectures: Config + Weights + State + forward, recorded into plans |
//! | [`text`] | text ↔ tokens: tokenizer, chat template, sampling |
//! | [`choice`] | GPU or CPU, and why |
//! | [`engine`] | the loops: prefill and decode → tokens; cancel, KV reuse, statistics |
//! | [`image_engine`] | the loops for pictures: latents → pixels and back |
//! | `web` | tokens → JavaScript (wasm32 only) |
//!
//! Imports point down this table's rows only as far as `docs/ARCHITECTURE.md` says; a test keeps it so.

pub mod choice;
pub mod cpu;
pub mod dtype;
pub mod engine;
pub mod error;
pub mod gpu;
pub mod image_engine;
pub mod model;
pub mod ops;
pub mod text;
pub mod weights;

mod breath;
mod clock;
#[cfg(target_arch = "wasm32")]
mod web;

pub use choice::{Choice, Device, Why, choose};
pub use cpu::{CpuBackend, CpuOptions};
pub use dtype::DType;
pub use engine::{Finish, GenerateOptions, Generation, Prompt, TextEngine};
pub use error::{Error, Result};
pub use gpu::{Gpu, GpuOptions};
pub use image_engine::{DecodeEvent, DecodeOptions, Decoded, Encoding, ImageModel, Latents, Picture};
pub use ops::GpuBackend;
pub use text::{Message, Sampling};
#[cfg(not(target_arch = "wasm32"))]
pub use weights::FileSource;
pub use weights::{ByteSource, SliceSource, read_directory};
