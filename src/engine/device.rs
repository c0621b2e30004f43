//! GPU or CPU: which backend a model is loaded on, and why.

use std::rc::Rc;

use crate::cpu::{CpuBackend, CpuOptions};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::Kernels;
use crate::model;
use crate::weights::Directory;

use super::tune;

pub use super::tune::{Chosen, Hints, How, Timing, made_up, time_all};

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
    /// Every kernel variant gave other numbers on the GPU than the CPU does.
    WrongNumbers {
        /// The adapter's name.
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
            Why::WrongNumbers { .. } => "wrong-numbers",
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
            Why::WrongNumbers { adapter } => write!(
                f,
                "The graphics adapter ({adapter}) computes wrong numbers with every kernel there is, so the model runs on the CPU. An update of its driver may help."
            ),
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
    /// Its kernels, where there was a GPU and they were chosen.
    pub kernels: Option<Chosen>,
    /// Why.
    pub why: Why,
}

impl Choice {
    fn new(gpu: Option<Rc<Gpu>>, why: Why) -> Self {
        Choice { gpu, kernels: None, why }
    }
}

/// Decides, and on a GPU chooses the kernels: those that the caller pins, or those that were `remembered` from an
/// earlier load, or the fastest of those that are tried on the model's own shapes. What is taken is held against the
/// CPU first; what is wrong is left out. A real GPU is then timed against the CPU; a software adapter is not worth it.
///
/// # Errors
/// [`Device::WebGpu`] where there is none, or where every kernel is wrong; pinned kernels that this device cannot do,
/// or that are wrong; what is wrong with the model's header.
pub async fn choose(wish: Device, directory: &Directory, hints: Hints<'_>) -> Result<Choice> {
    let choice = choose_for_images(wish).await?;
    let Some(gpu) = choice.gpu else { return Ok(choice) };
    let Some(chosen) = tune::choose(&gpu, directory, hints).await? else {
        let adapter = gpu.adapter().name.clone();
        if wish == Device::WebGpu {
            return Err(Error::Gpu {
                label: adapter,
                reason: "every kernel computes wrong numbers".to_owned(),
            });
        }
        return Ok(Choice::new(None, Why::WrongNumbers { adapter }));
    };
    if wish == Device::WebGpu {
        return Ok(Choice { gpu: Some(gpu), kernels: Some(chosen), why: choice.why });
    }
    let backend = tune::backend(&gpu, chosen.kernels.clone())?;
    let gpu_ms = model::probe(backend, directory).await?;
    let cpu_ms = model::probe(CpuBackend::new(CpuOptions::default()), directory).await?;
    let gpu = if gpu_ms <= cpu_ms { Some(gpu) } else { None };
    Ok(Choice { gpu, kernels: Some(chosen), why: Why::Probe { gpu_ms, cpu_ms } })
}

/// Decides for an image network: a real GPU always multiplies faster than one CPU thread, so nothing is timed.
///
/// # Errors
/// [`Device::WebGpu`] where there is none.
pub async fn choose_for_images(wish: Device) -> Result<Choice> {
    match wish {
        Device::Cpu => return Ok(Choice::new(None, Why::Asked)),
        Device::WebGpu => return Ok(Choice::new(Some(Gpu::shared().await?), Why::Asked)),
        Device::Auto => {}
    }
    let gpu = match Gpu::shared().await {
        Ok(gpu) => gpu,
        Err(Error::NoWebGpu) => return Ok(Choice::new(None, Why::NoWebGpu)),
        Err(Error::NoAdapter { reason } | Error::DeviceRequest { reason, .. }) => {
            return Ok(Choice::new(None, Why::NoAdapter { reason }));
        }
        Err(other) => return Err(other),
    };
    if gpu.adapter().is_fallback {
        let adapter = gpu.adapter().name.clone();
        return Ok(Choice::new(None, Why::SoftwareAdapter { adapter }));
    }
    let adapter = gpu.adapter().name.clone();
    Ok(Choice::new(Some(gpu), Why::Adapter { adapter }))
}

/// Milliseconds for one token on the GPU and on one CPU thread, extrapolated from a few layers of the
/// model's shapes. The weights are zeros: nothing has been downloaded yet, and time does not depend
/// on them.
///
/// # Errors
/// What is wrong with the model's header or the device.
pub async fn probe(gpu: &Rc<Gpu>, directory: &Directory) -> Result<(f64, f64)> {
    let gpu_ms = model::probe(tune::backend(gpu, Kernels::default())?, directory).await?;
    let cpu_ms = model::probe(CpuBackend::new(CpuOptions::default()), directory).await?;
    Ok((gpu_ms, cpu_ms))
}
