//! GPU or CPU: which backend a model is loaded on, and why.

use std::rc::Rc;

use crate::cpu::{CpuBackend, CpuOptions};
use crate::engine::MAX_BATCH;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model;
use crate::ops::GpuBackend;
use crate::weights::Directory;

/// What the caller asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// Whatever is faster here.
    #[default]
    Auto,
    /// The GPU, even a software one, or an error.
    WebGpu,
    /// The CPU.
    Cpu,
}

/// Why a backend was chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum Why {
    /// The caller asked for it.
    Asked,
    /// There is no WebGPU (or native API) at all.
    NoWebGpu,
    /// No adapter was offered, or it refused a device.
    NoAdapter {
        /// What the API said.
        reason: String,
    },
    /// The only adapter is software, which the CPU path outruns.
    SoftwareAdapter {
        /// Its name.
        adapter: String,
    },
    /// There is a real adapter, and the network is one that a GPU always computes faster.
    Adapter {
        /// Its name.
        adapter: String,
    },
    /// Both were timed on the model's shapes: milliseconds for one token.
    Probe {
        /// On the GPU.
        gpu_ms: f64,
        /// On the CPU, one thread.
        cpu_ms: f64,
    },
}

impl Why {
    /// Stable, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Why::Asked => "asked",
            Why::NoWebGpu => "no-webgpu",
            Why::NoAdapter { .. } => "no-adapter",
            Why::SoftwareAdapter { .. } => "software-adapter",
            Why::Adapter { .. } => "adapter",
            Why::Probe { .. } => "probe",
        }
    }
}

/// For people.
impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::Asked => write!(f, "It was asked for."),
            Why::NoWebGpu => write!(f, "This browser has no WebGPU, so the model runs on the CPU."),
            Why::NoAdapter { reason } => {
                write!(f, "No graphics adapter was offered ({reason}), so the model runs on the CPU.")
            }
            Why::SoftwareAdapter { adapter } => write!(
                f,
                "The only graphics adapter is a software one ({adapter}), which computes on the CPU too, but slower."
            ),
            Why::Adapter { adapter } => {
                write!(
                    f,
                    "A graphics adapter was offered ({adapter}), which is what image networks run best on."
                )
            }
            Why::Probe { gpu_ms, cpu_ms } => write!(
                f,
                "Timed on this model's shapes: about {gpu_ms:.1} ms a token on the GPU, {cpu_ms:.1} ms on one CPU thread."
            ),
        }
    }
}

/// The decision: a device, or none for the CPU.
pub struct Choice {
    /// The GPU to load on.
    pub gpu: Option<Rc<Gpu>>,
    /// Why.
    pub why: Why,
}

/// Decides. A real GPU that exists is timed against the CPU on the model's own shapes; a software
/// adapter is not worth timing.
///
/// # Errors
/// [`Device::WebGpu`] where there is none; what is wrong with the model's header.
pub async fn choose(wish: Device, directory: &Directory) -> Result<Choice> {
    let choice = choose_for_images(wish).await?;
    match (wish, choice.gpu) {
        (Device::Auto, Some(gpu)) => {
            let (gpu_ms, cpu_ms) = probe(&gpu, directory).await?;
            let gpu = if gpu_ms <= cpu_ms { Some(gpu) } else { None };
            Ok(Choice { gpu, why: Why::Probe { gpu_ms, cpu_ms } })
        }
        (_, gpu) => Ok(Choice { gpu, why: choice.why }),
    }
}

/// Decides for an image network: a real GPU always multiplies faster than one CPU thread, so nothing is timed.
///
/// # Errors
/// [`Device::WebGpu`] where there is none.
pub async fn choose_for_images(wish: Device) -> Result<Choice> {
    match wish {
        Device::Cpu => return Ok(Choice { gpu: None, why: Why::Asked }),
        Device::WebGpu => return Ok(Choice { gpu: Some(Gpu::shared().await?), why: Why::Asked }),
        Device::Auto => {}
    }
    let gpu = match Gpu::shared().await {
        Ok(gpu) => gpu,
        Err(Error::NoWebGpu) => return Ok(Choice { gpu: None, why: Why::NoWebGpu }),
        Err(Error::NoAdapter { reason } | Error::DeviceRequest { reason, .. }) => {
            return Ok(Choice { gpu: None, why: Why::NoAdapter { reason } });
        }
        Err(other) => return Err(other),
    };
    if gpu.adapter().is_fallback {
        let adapter = gpu.adapter().name.clone();
        return Ok(Choice { gpu: None, why: Why::SoftwareAdapter { adapter } });
    }
    Ok(Choice { why: Why::Adapter { adapter: gpu.adapter().name.clone() }, gpu: Some(gpu) })
}

/// Milliseconds for one token on the GPU and on one CPU thread, extrapolated from a few layers of the
/// model's shapes. The weights are zeros: nothing has been downloaded yet, and time does not depend
/// on them.
///
/// # Errors
/// What is wrong with the model's header or the device.
pub async fn probe(gpu: &Rc<Gpu>, directory: &Directory) -> Result<(f64, f64)> {
    let on_gpu = GpuBackend::new(gpu.clone(), MAX_BATCH, 1)?;
    let gpu_ms = model::probe(on_gpu, directory).await?;
    let on_cpu = CpuBackend::new(CpuOptions::default());
    let cpu_ms = model::probe(on_cpu, directory).await?;
    Ok((gpu_ms, cpu_ms))
}
