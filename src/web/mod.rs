//! TOKENS and PIXELS → JavaScript: the only `#[wasm_bindgen]` surface, used by `pkg/src/worker.ts` alone.
//! Thin: it turns plain objects into options and results into plain objects.

// A number of a file may have 64 bits, and `usize` has 32 in a browser. Tests run natively.
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

mod can_run;
mod image;
mod text;

use js_sys::{Array, Function, Reflect};
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;
use web_sys::{AbortSignal, Blob};

use crate::engine::device::{Device, DeviceReason};
use crate::error::{Error, Result, spelled};
use crate::gpu::{AdapterReport, Gpu};
use crate::weights::{BlobSource, ByteSource, Hooks, HttpSource, Limits, read_to_end};

#[wasm_bindgen(start)]
fn start() {
    console_error_panic_hook::set_once();
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RatesReport {
    adapter: String,
    is_fallback_adapter: bool,
    copy_bytes_per_second: f64,
    fma_per_second: f64,
}

/// `{adapter, isFallbackAdapter, copyBytesPerSecond, fmaPerSecond}`: what the GPU can do at best.
///
/// # Errors
/// `{code, message}`: `no-webgpu`, `no-adapter` and so on.
#[wasm_bindgen(js_name = measureGpu)]
pub async fn measure_gpu() -> std::result::Result<JsValue, JsValue> {
    async fn measure() -> Result<JsValue> {
        let gpu = Gpu::shared().await?;
        let rates = gpu.rates().await?;
        let adapter = gpu.adapter();
        to_js(&RatesReport {
            adapter: adapter.name.clone(),
            is_fallback_adapter: adapter.is_fallback,
            copy_bytes_per_second: rates.copy_bytes_per_second,
            fma_per_second: rates.fma_per_second,
        })
    }
    measure().await.map_err(|e| js_error(&e))
}

/// Reads the files of `source` to their end through the `fetch` of `options.network`, which keeps them, and drops them.
///
/// # Errors
/// `{code, message}`: `network`, `http-status`, `aborted`.
#[wasm_bindgen(js_name = downloadFiles)]
pub async fn download_files(
    source: JsValue,
    options: JsValue,
    on_progress: Function,
    signal: AbortSignal,
) -> std::result::Result<(), JsValue> {
    let download = async {
        let mut sources = open_sources(&source, &options, &signal)?;
        read_to_end(&mut sources, &mut |loaded, total| tell(&on_progress, &signal, "weights", loaded, total))
            .await
    };
    download.await.map(drop).map_err(|e| js_error(&e))
}

/// Rejections are plain objects, so that they survive the hop out of the worker.
fn js_error(error: &Error) -> JsValue {
    let (url, status) = match error {
        Error::HttpStatus { url, status, .. } => (Some(url.as_str()), Some(*status)),
        Error::Network { url, .. } => (Some(url.as_str()), None),
        _ => (None, None),
    };
    to_js(&ErrorReport {
        code: error.code(),
        message: error.to_string(),
        detail: error.detail(),
        url,
        status,
    })
    .unwrap_or_else(|_| error.code().into())
}

#[derive(Serialize)]
struct ErrorReport<'a> {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
}

fn to_js<T: Serialize>(value: &T) -> Result<JsValue> {
    value
        .serialize(&serde_wasm_bindgen::Serializer::json_compatible())
        .map_err(|e| Error::Internal { what: e.to_string() })
}

/// What `pkg/` sends. It has checked the kind of every value (`pkg/src/options.ts`).
fn from_js<T: for<'de> Deserialize<'de>>(what: &'static str, value: JsValue) -> Result<T> {
    serde_wasm_bindgen::from_value(value).map_err(|e| Error::Internal { what: format!("{what}: {e}") })
}

/// A JavaScript number that has to be a whole one from 0 to `most`.
fn whole(option: &'static str, value: f64, most: f64) -> Result<u64> {
    if value.fract() == 0.0 && (0.0..=most).contains(&value) {
        #[allow(clippy::cast_possible_truncation)] // whole, and no more than most
        return Ok(value as u64);
    }
    let range = format!("a whole number from 0 to {most}").into();
    Err(Error::InvalidOption { option, value: spelled(value), range })
}

/// [`whole`] of 32 bits.
fn whole_u32(option: &'static str, value: f64, most: u32) -> Result<u32> {
    whole(option, value, f64::from(most)).map(|number| u32::try_from(number).unwrap_or(most))
}

/// `Number.MAX_SAFE_INTEGER`.
const MAX_SAFE: f64 = 9_007_199_254_740_991.0;

/// `device` of the options.
fn wish(device: Option<&str>) -> Result<Device> {
    match device {
        None | Some("auto") => Ok(Device::Auto),
        Some("webgpu") => Ok(Device::WebGpu),
        Some("cpu") => Ok(Device::Cpu),
        Some(other) => Err(Error::InvalidOption {
            option: "device",
            value: other.to_owned(),
            range: "auto, webgpu or cpu".into(),
        }),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProgressReport {
    phase: &'static str,
    loaded_bytes: u64,
    total_bytes: u64,
}

#[derive(Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct DeviceReport {
    kind: &'static str,
    adapter: String,
    is_fallback_adapter: bool,
    features: Vec<String>,
    threads: usize,
    most_threads: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernels: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernels_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernels_key: Option<String>,
    choice: &'static str,
    reason: String,
}

/// `features`: what the vectors are, and how activations are rounded. `remark`: why there are fewer threads than there were to be.
fn cpu_report(
    features: Vec<String>,
    threads: usize,
    most_threads: usize,
    why: &DeviceReason,
    remark: Option<String>,
) -> DeviceReport {
    DeviceReport {
        kind: "cpu",
        adapter: String::new(),
        is_fallback_adapter: false,
        features,
        threads,
        most_threads,
        choice: why.code(),
        reason: [Some(why.to_string()), remark].into_iter().flatten().collect::<Vec<_>>().join(" "),
        ..Default::default()
    }
}

fn gpu_report(adapter: &AdapterReport, why: &DeviceReason) -> DeviceReport {
    DeviceReport {
        kind: "webgpu",
        adapter: adapter.name.clone(),
        is_fallback_adapter: adapter.is_fallback,
        threads: 1,
        most_threads: 1,
        choice: why.code(),
        reason: why.to_string(),
        ..Default::default()
    }
}

/// Reports how far loading is; the caller's abort ends it here.
fn tell(
    on_progress: &Function,
    signal: &AbortSignal,
    phase: &'static str,
    loaded_bytes: u64,
    total_bytes: u64,
) -> Result<()> {
    if signal.aborted() {
        return Err(Error::Aborted);
    }
    let report = to_js(&ProgressReport { phase, loaded_bytes, total_bytes })?;
    on_progress
        .call1(&JsValue::NULL, &report)
        .map(drop)
        .map_err(|_| Error::Internal { what: "the progress callback threw".to_owned() })
}

/// `network` of the load options: how long to wait, and the hooks `onWait`, `explain` and `fetch`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NetworkOptions {
    stall_timeout_ms: Option<f64>,
    retry_timeout_ms: Option<f64>,
}

/// The longest time that `setTimeout` takes, in milliseconds.
const MAX_TIMEOUT_MS: f64 = 2_147_483_647.0;

#[allow(clippy::cast_possible_truncation)] // a time is at most MAX_TIMEOUT_MS
fn network_options(options: &JsValue) -> Result<(Limits, Hooks)> {
    let Some(network) = Reflect::get(options, &"network".into()).ok().filter(JsValue::is_object) else {
        return Ok((Limits::default(), Hooks::default()));
    };
    let hook = |name: &str| {
        Reflect::get(&network, &name.into()).ok().and_then(|value| value.dyn_into::<Function>().ok())
    };
    let hooks = Hooks { on_wait: hook("onWait"), explain: hook("explain"), fetch: hook("fetch") };
    let time = |option, value: Option<f64>, least: f64, usual: u32| match value {
        None => Ok(usual),
        Some(ms) if ms >= least && ms <= MAX_TIMEOUT_MS => Ok(ms as u32),
        Some(ms) => Err(Error::InvalidOption {
            option,
            value: spelled(ms),
            range: format!("milliseconds, from {least} to {MAX_TIMEOUT_MS}").into(),
        }),
    };
    let usual = Limits::default();
    let given: NetworkOptions = from_js("options", network)?;
    let limits = Limits {
        stall_ms: time("stallTimeoutMs", given.stall_timeout_ms, 1.0, usual.stall_ms)?,
        retry_ms: time("retryTimeoutMs", given.retry_timeout_ms, 0.0, usual.retry_ms)?,
    };
    Ok((limits, hooks))
}

fn open_sources(
    source: &JsValue,
    options: &JsValue,
    signal: &AbortSignal,
) -> Result<Vec<Box<dyn ByteSource>>> {
    let (limits, hooks) = network_options(options)?;
    let list =
        |key: &str| Reflect::get(source, &key.into()).ok().filter(Array::is_array).map(|v| Array::from(&v));
    let bad = |what: &str| Error::Internal { what: format!("the source is {what}") };
    let names = list("names").unwrap_or_default();
    let mut sources: Vec<Box<dyn ByteSource>> = Vec::new();
    if let Some(urls) = list("urls") {
        for url in urls {
            let url = url.as_string().ok_or_else(|| bad("a URL that is not a string"))?;
            sources.push(Box::new(HttpSource::new(&url, Some(signal.clone()), limits, hooks.clone())));
        }
    } else if let Some(blobs) = list("blobs") {
        for (i, blob) in (0..).zip(blobs) {
            let name = names.get(i).as_string().unwrap_or_else(|| "the file".to_owned());
            let blob: Blob = blob.dyn_into().map_err(|_| bad("a value that is not a Blob"))?;
            sources.push(Box::new(BlobSource::new(name, blob, Some(signal.clone()))));
        }
    }
    if sources.is_empty() { Err(bad("nothing")) } else { Ok(sources) }
}
