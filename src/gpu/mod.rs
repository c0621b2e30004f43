//! The GPU backend: the op set as WGSL.
//!
//! | file | job |
//! |---|---|
//! | `device/` | the only folder that names `wgpu`: device, buffers, shader text, pipelines, and the recorder |
//! | `kernels/` | one file a kernel family: what it binds, its parameters, its grid |
//! | `weight.rs` | matrices, and the repacking of file blocks for the kernels |
//! | `variants.rs` | variants of kernels, and which one a matrix takes |
//! | `backend.rs`, `images.rs` | the op sets of language models and of image networks |

#[cfg(test)]
#[macro_use]
mod layout;

mod backend;
mod device;
mod images;
mod kernels;
mod variants;
mod weight;

pub use backend::{GpuBackend, GpuCache, GpuTensor};
pub use device::*;
pub use images::{GpuImage, GpuImages};
pub use kernels::pixels::GpuPixels;
pub use variants::{Activations, KernelMap, KernelPair, MatmulKernel, MatvecKernel};
pub use weight::GpuWeight;
