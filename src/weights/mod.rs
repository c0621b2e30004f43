//! File bytes → tensors: where the bytes come from, and what a GGUF header says about them.
//!
//! In: one or more [`ByteSource`]s (memory, file, `Blob`, HTTP). Out: a [`Directory`] with the typed
//! [`Metadata`] and, for every tensor, the byte range to upload. No tensor data passes through here
//! and no GPU type is named here.

// A number of a file may have 64 bits, and `usize` has 32 in a browser. Tests run natively.
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

mod answer;
mod download;
mod file_kind;
pub mod gguf;
mod http;
pub mod metadata;
mod reader;
mod safetensors;
pub mod source;
mod value;

#[cfg(target_arch = "wasm32")]
mod fetch;

pub use answer::Head;
pub use download::read_to_end;
pub use gguf::{Directory, TensorInfo, read_directory};
pub use http::{Failure, Limits, StreamSource, Transport};
pub use metadata::{Metadata, StringArray, Value};
pub use safetensors::{FloatTensor, FloatTensors};
#[cfg(not(target_arch = "wasm32"))]
pub use source::FileSource;
pub(crate) use source::read_growing;
pub use source::{ByteSource, LocalFuture, SliceSource};

#[cfg(target_arch = "wasm32")]
pub use fetch::{BlobSource, FetchTransport, Hooks, HttpSource};
