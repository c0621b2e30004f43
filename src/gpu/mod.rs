//! The only folder that names `wgpu`: device, buffers, shader text, pipelines, and the recorder
//! that turns dispatches into submits.

mod device;
mod pipeline;
mod recorder;
mod shader;
mod tensor;

pub use device::{AdapterReport, Gpu, GpuOptions};
pub use pipeline::{PipelineKey, Value};
pub use recorder::{Binding, Grid, Plan, Recorder, Traffic};
pub use shader::{SOURCES, expand};
pub use tensor::{GpuBuffer, Mapping};
