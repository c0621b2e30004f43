//! The only folder that names `wgpu`: device, buffers, shader text, pipelines, and the recorder
//! that turns dispatches into submits.

mod adapter;
mod bindings;
#[cfg(target_arch = "wasm32")]
mod canvas;
mod pipeline;
#[cfg(target_arch = "wasm32")]
mod pipeline_async;
mod rates;
mod recorder;
mod shader;
mod tensor;
#[cfg(not(target_arch = "wasm32"))]
mod timeline;

pub use adapter::{AdapterReport, Features, Gpu, GpuOptions};
pub use bindings::{Access, bindings};
#[cfg(target_arch = "wasm32")]
pub use canvas::Canvas;
pub use pipeline::{PipelineKey, Value};
pub use rates::Rates;
pub use recorder::{ARENA_BYTES, Binding, Copied, Grid, MAX_GROUPS, Plan, Recorder};
pub use shader::{SOURCES, expand};
pub use tensor::{GpuBuffer, Mapping};
#[cfg(not(target_arch = "wasm32"))]
pub use timeline::Ran;
