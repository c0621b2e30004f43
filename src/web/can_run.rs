//! HEADER → JavaScript: whether a model would fit, and how fast it would be.

use js_sys::{Object, Reflect, WebAssembly};
use serde::Serialize;
use wasm_bindgen::prelude::*;
use web_sys::AbortSignal;

use crate::clock::now_ms;
use crate::cpu::{self, CpuBackend, CpuOptions, Level, Team};
use crate::engine::device::{self as choice, TuneOptions};
use crate::engine::{self, Estimate, LoadOptions};
use crate::error::{Error, Result};
use crate::weights::{ByteSource, Directory, read_directory};

use super::text::{
    HeaderReport, LoadOptions as Options, assemble_team, backend_report, gpu_backend, spawn_hook,
};
use super::{DeviceReport, from_js, open_sources, to_js};

/// Of WebAssembly memory, in bytes.
const PAGE: u64 = 65_536;

/// `pkg/src/can-run.ts` makes sentences of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    header: HeaderReport,
    device: DeviceReport,
    /// Of all files.
    file_bytes: u64,
    device_bytes: u64,
    context_bytes_per_token: u64,
    smallest_kv_bytes: u64,
    /// Whether the addresses of the CPU path reach all of it.
    cpu_fits: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Refusal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<Times>,
}

/// Why the model does not fit.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Refusal {
    code: &'static str,
    /// What was too much, where that is not the whole model.
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<String>,
    needed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<u64>,
}

/// In milliseconds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Times {
    token_ms: f64,
    first_token_ms: f64,
    /// To allocate and pack the weights.
    fill_ms: f64,
    /// What else a load does, as it was measured now: header, choice of the device, helpers, kernels.
    prepare_ms: f64,
}

impl Refusal {
    /// The device's no. Anything else stays an error.
    fn of(error: Error) -> Result<Self> {
        let code = error.code();
        match error {
            Error::DeviceLimit { what, needed, allowed, .. } => {
                Ok(Refusal { code, what: Some(what), needed, allowed: Some(allowed) })
            }
            Error::OutOfMemory { bytes, .. } => {
                Ok(Refusal { code, what: None, needed: bytes, allowed: None })
            }
            other => Err(other),
        }
    }
}

pub(super) async fn can_run(source: &JsValue, options: JsValue, signal: &AbortSignal) -> Result<JsValue> {
    let begun = now_ms();
    let spawn_helpers = spawn_hook(&options);
    let mut sources = open_sources(source, &options, signal)?;
    let options: Options = from_js("options", options)?;
    let (wish, threads, bits) = (options.wish()?, options.threads()?, options.activation_bits()?);
    let (kv, draft_tokens) = (options.kv()?, options.draft_tokens()?);
    options.tell_most_memory()?;
    let most = cpu::most_bytes().unwrap_or(u64::MAX);
    let directory = read_directory(&mut sources).await?;
    let context_length = engine::context_length(&directory, options.context_length)?;
    let load = LoadOptions { context_length, kv, draft_tokens };
    let header = engine::inspect(&directory, context_length, kv)?.into();
    let file_bytes = file_bytes(&directory, &mut sources).await?;
    drop(sources);

    let rooms = engine::rooms(&directory, load, threads.most)?;
    let needed = rooms.cpu.bytes().saturating_add(cpu::beside_bytes());
    let cpu_fits = needed <= most;
    let held = rooms.cpu.held;
    let report = |device, device_bytes, outcome: std::result::Result<Times, Refusal>| {
        let (times, refusal) = match outcome {
            Ok(times) => (Some(times), None),
            Err(refusal) => (None, Some(refusal)),
        };
        to_js(&Report {
            header,
            device,
            file_bytes,
            device_bytes,
            context_bytes_per_token: rooms.context_bytes_per_token,
            smallest_kv_bytes: rooms.smallest_kv_bytes,
            cpu_fits,
            refusal,
            times,
        })
    };
    let times = |prepared: f64, estimate: &Estimate| {
        let Estimate { token_ms, first_token_ms, fill_ms, compile_ms, .. } = *estimate;
        Times { token_ms, first_token_ms, fill_ms, prepare_ms: prepared - begun + compile_ms }
    };

    let remembered: Vec<_> = options.remembered_kernels.into_iter().collect();
    let hints =
        TuneOptions { pinned: options.kernels.as_deref(), remembered: &remembered, ..TuneOptions::default() };
    let choice = choice::choose(wish, &directory, hints).await?;
    if let Some(gpu) = choice.gpu {
        let (mut backend, device) = gpu_backend(gpu, choice.kernels, &choice.why, context_length)?;
        let prepared = now_ms();
        return match engine::rehearse(&mut backend, &directory, load, true).await {
            Ok(estimate) => report(device, estimate.allocated_bytes, Ok(times(prepared, &estimate))),
            Err(error) => {
                let refusal = Refusal::of(error)?;
                report(device, refusal.needed.max(held), Err(refusal))
            }
        };
    }

    let refusal = if !cpu_fits {
        Some(Refusal { code: "address-space", what: None, needed, allowed: Some(most) })
    } else if !reserve(needed) {
        Some(Refusal { code: "out-of-memory", what: None, needed, allowed: None })
    } else {
        None
    };
    let team = if refusal.is_some() {
        (Team::solo(), None)
    } else {
        assemble_team(threads, spawn_helpers.as_ref()).await
    };
    let (team, remark) = team;
    let mut backend = CpuBackend::new(CpuOptions { level: Level::best(), bits, team });
    let device = backend_report(&backend, &choice.why, remark);
    if let Some(refusal) = refusal {
        return report(
            DeviceReport {
                threads: threads.start.unwrap_or(threads.most),
                most_threads: threads.most,
                ..device
            },
            held,
            Err(refusal),
        );
    }
    let prepared = now_ms();
    match engine::rehearse(&mut backend, &directory, load, false).await {
        Ok(estimate) => report(device, held, Ok(times(prepared, &estimate))),
        Err(error) => report(device, held, Err(Refusal::of(error)?)),
    }
}

/// What the sources say, or where they do not know their sizes, the end of their last tensors.
async fn file_bytes(directory: &Directory, sources: &mut [Box<dyn ByteSource>]) -> Result<u64> {
    let mut total = 0u64;
    for (shard, source) in sources.iter_mut().enumerate() {
        let ends = directory.tensors().iter().filter(|tensor| tensor.shard == shard);
        let end = ends.map(|tensor| tensor.offset.saturating_add(tensor.bytes)).max();
        total = total.saturating_add(source.size().await?.or(end).unwrap_or(0));
    }
    Ok(total)
}

/// Whether the browser gives a memory of that size. It is reserved and not touched.
fn reserve(bytes: u64) -> bool {
    let reserved = || {
        let descriptor = Object::new();
        // No more than is needed: some browsers reserve all that a memory may grow to.
        for key in ["initial", "maximum"] {
            Reflect::set(&descriptor, &key.into(), &(bytes.div_ceil(PAGE) as f64).into())?;
        }
        Reflect::set(&descriptor, &"shared".into(), &true.into())?;
        WebAssembly::Memory::new(&descriptor)
    };
    reserved().is_ok()
}
