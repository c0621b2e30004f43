//! GPU or CPU: which backend a model is loaded on, and why.

use std::rc::Rc;

use crate::cpu::{CpuBackend, CpuOptions};
use crate::dtype::DType;
use crate::engine::MAX_BATCH;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model;
use crate::ops::{Backend, Batch, GpuBackend, Kernels, Segment, Step, Tuning};
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
    /// How its kernels divide their work; the default where nothing was timed.
    pub tuning: Tuning,
    /// Divisions of work that gave wrong numbers on this adapter and were left out.
    pub wrong: Vec<Tuning>,
    /// Why.
    pub why: Why,
}

impl Choice {
    fn new(gpu: Option<Rc<Gpu>>, why: Why) -> Self {
        Choice { gpu, tuning: Tuning::ALL[0], wrong: Vec::new(), why }
    }

    /// For people: the division of work that was chosen, and how many were wrong.
    #[must_use]
    pub fn kernels(&self) -> String {
        match self.wrong.len() {
            0 => self.tuning.name(),
            wrong => format!(
                "{}; {wrong} other variants computed wrong numbers here and were left out",
                self.tuning.name()
            ),
        }
    }
}

/// Decides. On a GPU each kernel variant is first held against the CPU on small numbers, then timed on the model's own
/// shapes; those that are wrong are left out. A real GPU is timed against the CPU as well; a software adapter is not
/// worth it.
///
/// # Errors
/// [`Device::WebGpu`] where there is none, or where every variant is wrong; what is wrong with the model's header.
pub async fn choose(wish: Device, directory: &Directory) -> Result<Choice> {
    let choice = choose_for_images(wish).await?;
    let Some(gpu) = choice.gpu else { return Ok(choice) };
    let mut best: Option<(Tuning, f64)> = None;
    let mut wrong = Vec::new();
    // A software adapter has few lanes, and takes its time to find that out.
    let mut candidates =
        if gpu.adapter().is_fallback { std::slice::from_ref(&Tuning::SOFTWARE) } else { &Tuning::ALL[..] };
    // Prefill divides its work in one way only: where that is wrong, no other helps.
    if !is_right(&gpu, Tuning::ALL[0], Batch::Many, directory).await? {
        candidates = &[];
    }
    for &tuning in candidates {
        if !is_right(&gpu, tuning, Batch::One, directory).await? {
            wrong.push(tuning);
            continue;
        }
        // A lone candidate on a software adapter: nothing to choose from, and `auto` does not come here.
        let ms = match candidates {
            [_] => 0.0,
            _ => model::probe(backend(&gpu, tuning)?, directory).await?,
        };
        if best.is_none_or(|(_, least)| ms < least) {
            best = Some((tuning, ms));
        }
    }
    let Some((tuning, gpu_ms)) = best else {
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
        return Ok(Choice { gpu: Some(gpu), tuning, wrong, why: choice.why });
    }
    let cpu_ms = model::probe(CpuBackend::new(CpuOptions::default()), directory).await?;
    let gpu = if gpu_ms <= cpu_ms { Some(gpu) } else { None };
    Ok(Choice { gpu, tuning, wrong, why: Why::Probe { gpu_ms, cpu_ms } })
}

fn backend(gpu: &Rc<Gpu>, tuning: Tuning) -> Result<GpuBackend> {
    let mut backend = GpuBackend::new(gpu.clone(), MAX_BATCH, 1)?;
    backend.set_kernels(Kernels { decode: tuning, ..Kernels::default() });
    Ok(backend)
}

/// Whether products with weights of the model's types are the CPU's. A kernel that does not compile is not right.
async fn is_right(gpu: &Rc<Gpu>, tuning: Tuning, batch: Batch, directory: &Directory) -> Result<bool> {
    let mut types: Vec<DType> = directory.tensors().iter().filter_map(|tensor| tensor.dtype().ok()).collect();
    types.sort_by_key(|dtype| dtype.name());
    types.dedup();
    for dtype in types {
        let want = product(CpuBackend::new(CpuOptions::default()), dtype, batch).await?;
        match product(backend(gpu, tuning)?, dtype, batch).await {
            Ok(got) if agree(&got, &want) => {}
            Ok(_) | Err(Error::Gpu { .. }) => return Ok(false),
            Err(other) => return Err(other),
        }
    }
    Ok(true)
}

/// The CPU rounds activations to 16 bits, some 1e-4 of a sum; what is wrong is wrong by far more than this allows.
fn agree(got: &[f32], want: &[f32]) -> bool {
    let size = want.iter().map(|v| v.abs()).fold(0.0, f32::max);
    // Written so that NaN fails.
    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-2 * size;
    got.len() == want.len() && got.iter().zip(want).all(close)
}

/// A row of numbers times a matrix of numbers, both made up: the same on every backend.
async fn product<B: Backend>(mut backend: B, dtype: DType, batch: Batch) -> Result<Vec<f32>> {
    // More rows than a workgroup of any variant takes, no whole number of panels; columns of an odd number of blocks.
    const ROWS: u32 = 150;
    const COLUMNS: u32 = 288;
    let segment = |rows: u32| [Segment { dtype, rows: u64::from(rows) }];
    let inputs = backend.weight("self-test", u64::from(COLUMNS), &segment(2), 1)?;
    let weight = backend.weight("self-test", u64::from(COLUMNS), &segment(ROWS), 1)?;
    backend.upload_rows(&inputs, 0, &made_up(dtype, 2, COLUMNS))?;
    backend.upload_rows(&weight, 0, &made_up(dtype, ROWS, COLUMNS))?;
    let x = backend.tensor("self-test", 2, COLUMNS)?;
    let out = backend.tensor("self-test", 2, ROWS)?;
    backend.embed(&inputs, &x, batch)?;
    backend.project_add(&x, &weight, &out, batch)?;
    let plan = backend.finish();
    backend.set_tokens(&[1, 0]);
    let count = if batch == Batch::One { 1 } else { 2 };
    backend.run(&[&plan], Step { pos: 0, count, row: 0, counter: 0 })?;
    backend.read(&out, count - 1).await
}

/// Rows of a type as they stand in a file: all bits vary, all values are of a size that sums well.
fn made_up(dtype: DType, rows: u32, columns: u32) -> Vec<u8> {
    let blocks = u64::from(rows) * u64::from(columns) / dtype.block_len();
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state
    };
    let mut bytes = Vec::new();
    for _ in 0..blocks {
        let value = (next() >> 8) as f32 / (1 << 24) as f32 - 0.5;
        let half = half::f16::from_f32(value).to_le_bytes();
        let start = bytes.len();
        match dtype {
            DType::F32 => bytes.extend(value.to_le_bytes()),
            DType::F16 => bytes.extend(half),
            DType::BF16 => bytes.extend(half::bf16::from_f32(value).to_le_bytes()),
            _ => {
                bytes.extend((0..dtype.block_bytes()).map(|_| (next() >> 24) as u8));
                bytes[start..start + 2].copy_from_slice(&half);
                if matches!(dtype, DType::Q4_1 | DType::Q5_1) {
                    bytes[start + 2..start + 4].copy_from_slice(&half);
                }
            }
        }
    }
    bytes
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
    let gpu_ms = model::probe(backend(gpu, Tuning::ALL[0])?, directory).await?;
    let cpu_ms = model::probe(CpuBackend::new(CpuOptions::default()), directory).await?;
    Ok((gpu_ms, cpu_ms))
}

#[cfg(test)]
mod tests {
    use super::agree;

    #[test]
    fn wrong_numbers_do_not_agree() {
        let want = [1.0, -2.0, 0.5, 3.0];
        assert!(agree(&[1.001, -2.001, 0.499, 3.0], &want));
        for wrong in [[1.0, -2.0, 0.5, f32::NAN], [0.0; 4], [-2.0, 1.0, 0.5, 3.0], [1.0, -2.0, 0.6, 3.0]] {
            assert!(!agree(&wrong, &want), "{wrong:?}");
        }
        assert!(!agree(&want[..3], &want));
        assert!(!agree(&[f32::INFINITY; 4], &[f32::NAN; 4]));
    }
}
