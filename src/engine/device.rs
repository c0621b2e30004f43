//! GPU or CPU: which backend a model is loaded on, and why.

use std::rc::Rc;

use crate::cpu::{CpuBackend, CpuOptions};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::KernelMap;
use crate::model;
use crate::weights::Directory;

use super::tune;

pub use super::tune::{Timing, TuneOptions, TuneSource, TunedKernels, made_up, time_all};

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
pub enum DeviceReason {
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
    /// The device was lost, or stopped answering, while its kernels were tried.
    DeviceLost {
        /// What is known of it.
        reason: String,
    },
    /// Both were timed on the model's shapes: milliseconds for one token.
    Probe {
        /// On the GPU.
        gpu_ms: f64,
        /// On the CPU, one thread.
        cpu_ms: f64,
    },
}

impl DeviceReason {
    /// Stable, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            DeviceReason::Asked => "asked",
            DeviceReason::NoWebGpu => "no-webgpu",
            DeviceReason::NoAdapter { .. } => "no-adapter",
            DeviceReason::SoftwareAdapter { .. } => "software-adapter",
            DeviceReason::Adapter { .. } => "adapter",
            DeviceReason::WrongNumbers { .. } => "wrong-numbers",
            DeviceReason::DeviceLost { .. } => "device-lost",
            DeviceReason::Probe { .. } => "probe",
        }
    }
}

/// For people.
impl std::fmt::Display for DeviceReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DeviceReason::Asked => write!(f, "It was asked for."),
            DeviceReason::NoWebGpu => write!(f, "This browser has no WebGPU, so the model runs on the CPU."),
            DeviceReason::NoAdapter { reason } => {
                write!(f, "No graphics adapter was offered ({reason}), so the model runs on the CPU.")
            }
            DeviceReason::SoftwareAdapter { adapter } => write!(
                f,
                "The only graphics adapter is a software one ({adapter}), which computes on the CPU too, but slower."
            ),
            DeviceReason::Adapter { adapter } => {
                write!(
                    f,
                    "A graphics adapter was offered ({adapter}), which is what image networks run best on."
                )
            }
            DeviceReason::WrongNumbers { adapter } => write!(
                f,
                "The graphics adapter ({adapter}) computes wrong numbers with every kernel there is, so the model runs on the CPU. An update of its driver may help."
            ),
            DeviceReason::DeviceLost { reason } => {
                write!(f, "The graphics device stopped working ({reason}), so the model runs on the CPU.")
            }
            DeviceReason::Probe { gpu_ms, cpu_ms } => write!(
                f,
                "Timed on this model's shapes: about {gpu_ms:.1} ms a token on the GPU, {cpu_ms:.1} ms on one CPU thread."
            ),
        }
    }
}

/// The decision: a device, or none for the CPU.
pub struct DeviceChoice {
    /// The GPU to load on.
    pub gpu: Option<Rc<Gpu>>,
    /// Its kernels, where there was a GPU and they were chosen.
    pub kernels: Option<TunedKernels>,
    /// Why.
    pub why: DeviceReason,
}

impl DeviceChoice {
    fn new(gpu: Option<Rc<Gpu>>, why: DeviceReason) -> Self {
        DeviceChoice { gpu, kernels: None, why }
    }
}

/// Decides, and on a GPU chooses the kernels: those that the caller pins, or those that were `remembered` from an
/// earlier load, or the fastest of those that are tried on the model's own shapes. What is taken is held against the
/// CPU first; what is wrong is left out. A real GPU is then timed against the CPU; a software adapter is not worth it.
///
/// # Errors
/// [`Device::WebGpu`] where there is none, or where every kernel is wrong; pinned kernels that this device cannot do,
/// or that are wrong; what is wrong with the model's header.
pub async fn choose(wish: Device, directory: &Directory, hints: TuneOptions<'_>) -> Result<DeviceChoice> {
    let choice = choose_untimed(wish).await?;
    let Some(gpu) = choice.gpu else { return Ok(choice) };
    let tuned = match tune::choose(&gpu, directory, hints).await {
        Err(Error::DeviceLost { reason }) if wish == Device::Auto => {
            return Ok(DeviceChoice::new(None, DeviceReason::DeviceLost { reason }));
        }
        other => other?,
    };
    let Some(chosen) = tuned else {
        let adapter = gpu.adapter().name.clone();
        if wish == Device::WebGpu {
            return Err(Error::Gpu {
                label: adapter,
                reason: "every kernel computes wrong numbers".to_owned(),
            });
        }
        return Ok(DeviceChoice::new(None, DeviceReason::WrongNumbers { adapter }));
    };
    if wish == Device::WebGpu {
        return Ok(DeviceChoice { gpu: Some(gpu), kernels: Some(chosen), why: choice.why });
    }
    let backend = tune::backend(&gpu, chosen.kernels.clone())?;
    let gpu_ms = model::probe(backend, directory).await?;
    let cpu_ms = model::probe(CpuBackend::new(CpuOptions::default()), directory).await?;
    let gpu = if gpu_ms <= cpu_ms { Some(gpu) } else { None };
    Ok(DeviceChoice { gpu, kernels: Some(chosen), why: DeviceReason::Probe { gpu_ms, cpu_ms } })
}

/// Decides for an image network: a real GPU always multiplies faster than one CPU thread, so nothing is timed.
///
/// # Errors
/// [`Device::WebGpu`] where there is none.
pub async fn choose_untimed(wish: Device) -> Result<DeviceChoice> {
    match wish {
        Device::Cpu => return Ok(DeviceChoice::new(None, DeviceReason::Asked)),
        Device::WebGpu => return Ok(DeviceChoice::new(Some(Gpu::shared().await?), DeviceReason::Asked)),
        Device::Auto => {}
    }
    let gpu = match Gpu::shared().await {
        Ok(gpu) => gpu,
        Err(Error::NoWebGpu) => return Ok(DeviceChoice::new(None, DeviceReason::NoWebGpu)),
        Err(Error::NoAdapter { reason } | Error::DeviceRequest { reason, .. }) => {
            return Ok(DeviceChoice::new(None, DeviceReason::NoAdapter { reason }));
        }
        Err(other) => return Err(other),
    };
    if gpu.adapter().is_fallback {
        let adapter = gpu.adapter().name.clone();
        return Ok(DeviceChoice::new(None, DeviceReason::SoftwareAdapter { adapter }));
    }
    let adapter = gpu.adapter().name.clone();
    Ok(DeviceChoice::new(Some(gpu), DeviceReason::Adapter { adapter }))
}

/// Milliseconds for one token on the GPU and on one CPU thread, extrapolated from a few layers of the
/// model's shapes. The weights are zeros: nothing has been downloaded yet, and time does not depend
/// on them.
///
/// # Errors
/// What is wrong with the model's header or the device.
pub async fn probe(gpu: &Rc<Gpu>, directory: &Directory) -> Result<(f64, f64)> {
    let gpu_ms = model::probe(tune::backend(gpu, KernelMap::default())?, directory).await?;
    let cpu_ms = model::probe(CpuBackend::new(CpuOptions::default()), directory).await?;
    Ok((gpu_ms, cpu_ms))
}
