//! PIXELS → JavaScript: the image model.

use std::cell::RefCell;
use std::collections::BTreeMap;

use js_sys::{Float32Array, Function, Object, Reflect, Uint8Array};
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;
use web_sys::{AbortSignal, OffscreenCanvas};

use crate::clock::now_ms;
use crate::cpu::{CpuImages, Level};
use crate::engine::device as choice;
use crate::engine::image::{DecodeEvent, DecodeOptions, Decoded, ImageModel, Latents, Picture};
use crate::error::{Error, Result, spelled};
use crate::gpu::Canvas;
use crate::gpu::GpuImages;
use crate::graph::{ImageBackend, Precision};
use crate::model::Progress;

use super::text::{Threads, assemble_team, spawn_hook, thread_count};
use super::{
    DeviceReport, MAX_SAFE, cpu_report, from_js, gpu_report, js_error, open_sources, tell, to_js, whole,
    whole_u32, wish,
};

/// Unless the caller says otherwise, the pictures inside a network take no more than this.
const MEMORY: f64 = 268_435_456.0;

/// A model on either backend.
enum Engine {
    Gpu(Box<ImageModel<GpuImages>>),
    Cpu(Box<ImageModel<CpuImages>>),
}

/// The same words for either engine.
macro_rules! either {
    ($engine:expr, $e:ident => $body:expr) => {
        match $engine {
            Engine::Gpu($e) => $body,
            Engine::Cpu($e) => $body,
        }
    };
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LoadOptions {
    device: Option<String>,
    threads: Option<f64>,
    precision: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DecodeRequest {
    channels: f64,
    height: f64,
    width: f64,
    #[serde(default)]
    scaled: bool,
    #[serde(default)]
    preview: bool,
    memory_bytes: Option<f64>,
    canvas: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EncodeRequest {
    width: u32,
    height: u32,
    seed: Option<f64>,
    memory_bytes: Option<f64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    architecture: &'static str,
    latent_channels: u32,
    scale: u32,
    decodes: bool,
    encodes: bool,
    has_prior: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scaling_factor: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shift_factor: Option<f32>,
    weight_bytes: u64,
    gpu_bytes: u64,
    precision: &'static str,
    device: DeviceReport,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DecodeStats {
    ms: f64,
    dispatches: u64,
    tiles: u32,
    gpu_bytes: u64,
    precision: &'static str,
}

/// An image autoencoder on the GPU or the CPU. One request at a time.
#[wasm_bindgen]
pub struct WasmImageModel {
    engine: RefCell<Engine>,
    device: DeviceReport,
    /// By the number that the page gave them.
    canvases: RefCell<BTreeMap<u32, Canvas>>,
}

#[wasm_bindgen]
impl WasmImageModel {
    /// Loads `{urls}` or `{blobs, names?}`: safetensors files, and a `config.json` where there is one.
    ///
    /// # Errors
    /// `{code, message}`; nothing stays allocated.
    pub async fn load(
        source: JsValue,
        options: JsValue,
        on_progress: Function,
        signal: AbortSignal,
    ) -> std::result::Result<WasmImageModel, JsValue> {
        load(source, options, &on_progress, &signal).await.map_err(|e| js_error(&e))
    }

    /// What the model and the device are.
    ///
    /// # Errors
    /// `busy` while a request runs.
    pub fn info(&self) -> std::result::Result<JsValue, JsValue> {
        self.try_info().map_err(|e| js_error(&e))
    }

    /// Takes a canvas to decode to, on the GPU only; `canvas` of a request is its number.
    ///
    /// # Errors
    /// `busy` while a request runs; `invalid-option` for a canvas that has a context already.
    #[wasm_bindgen(js_name = attachCanvas)]
    pub fn attach_canvas(&self, number: u32, canvas: OffscreenCanvas) -> std::result::Result<(), JsValue> {
        self.try_attach(number, canvas).map_err(|e| js_error(&e))
    }

    /// Latents (channels, height, width) to `{width, height, data, stats}`; without `data` if the request names a
    /// canvas, which then shows the picture. `on_event` gets `{preview}` and `{done, total}`.
    ///
    /// # Errors
    /// `{code, message}`.
    pub async fn decode(
        &self,
        latents: Vec<f32>,
        request: JsValue,
        on_event: Function,
        signal: AbortSignal,
    ) -> std::result::Result<JsValue, JsValue> {
        self.try_decode(latents, request, &on_event, &signal).await.map_err(|e| js_error(&e))
    }

    /// A picture (height, width, 4) to `{channels, height, width, data}`; of an AutoencoderKL the mean, or with
    /// a seed latents drawn from its Gaussian. `on_event` gets `{done, total}`.
    ///
    /// # Errors
    /// `{code, message}`.
    pub async fn encode(
        &self,
        rgba: Vec<u8>,
        request: JsValue,
        on_event: Function,
        signal: AbortSignal,
    ) -> std::result::Result<JsValue, JsValue> {
        self.try_encode(rgba, request, &on_event, &signal).await.map_err(|e| js_error(&e))
    }

    /// Latents of a seed, of the size that the model was trained on.
    ///
    /// # Errors
    /// `busy` while a request runs; `invalid-option`.
    pub fn sample(&self, seed: f64, spread: f32) -> std::result::Result<JsValue, JsValue> {
        self.try_sample(seed, spread).map_err(|e| js_error(&e))
    }
}

async fn load(
    source: JsValue,
    options: JsValue,
    on_progress: &Function,
    signal: &AbortSignal,
) -> Result<WasmImageModel> {
    let spawn_helpers = spawn_hook(&options);
    let raw_options = options.clone();
    let options: LoadOptions =
        if options.is_undefined() { LoadOptions::default() } else { from_js("options", options)? };
    let wish = wish(options.device.as_deref())?;
    let threads = thread_count(options.threads)?;
    let precision = match options.precision.as_deref() {
        None | Some("f32") => Precision::F32,
        Some("f16") => Precision::F16,
        Some(other) => {
            let value = other.to_owned();
            return Err(Error::InvalidOption { option: "precision", value, range: "f32 or f16".into() });
        }
    };
    let mut sources = open_sources(&source, &raw_options, signal)?;
    tell(on_progress, signal, "header", 0, 0)?;
    tell(on_progress, signal, "device", 0, 0)?;
    let choice = choice::choose_untimed(wish).await?;
    let mut total = 0;
    let mut progress = |progress: Progress| {
        total = progress.total_bytes;
        tell(on_progress, signal, "weights", progress.loaded_bytes, total)
    };
    let (engine, device) = match choice.gpu {
        Some(gpu) => {
            let device = gpu_report(gpu.adapter(), &choice.why);
            let backend = GpuImages::new(gpu.clone(), precision)?;
            let model = ImageModel::load(backend, &mut sources, &mut progress).await?;
            gpu.settle("loading an image model").await?;
            (Engine::Gpu(Box::new(model)), device)
        }
        None => {
            let level = Level::best();
            let (team, remark) =
                assemble_team(Threads { most: threads, start: None }, spawn_helpers.as_ref()).await;
            let backend = CpuImages::new(level).with_team(team);
            let device = cpu_report(
                vec![level.name().to_owned()],
                backend.threads(),
                backend.threads(),
                &choice.why,
                remark,
            );
            let model = ImageModel::load(backend, &mut sources, &mut progress).await?;
            (Engine::Cpu(Box::new(model)), device)
        }
    };
    tell(on_progress, signal, "ready", total, total)?;
    Ok(WasmImageModel { engine: RefCell::new(engine), device, canvases: RefCell::default() })
}

/// `{width, height, data}`, without data where the picture is shown already.
fn picture_to_js(width: u32, height: u32, rgba: Option<&[u8]>) -> Result<Object> {
    let object = Object::new();
    set(&object, "width", &width.into())?;
    set(&object, "height", &height.into())?;
    if let Some(rgba) = rgba {
        set(&object, "data", &Uint8Array::from(rgba))?;
    }
    Ok(object)
}

/// `{channels, height, width, data}`.
fn latents_to_js(latents: &Latents) -> Result<JsValue> {
    let object = Object::new();
    set(&object, "channels", &latents.channels.into())?;
    set(&object, "height", &latents.height.into())?;
    set(&object, "width", &latents.width.into())?;
    set(&object, "data", &Float32Array::from(latents.values.as_slice()))?;
    Ok(object.into())
}

fn set(object: &Object, key: &str, value: &JsValue) -> Result<()> {
    Reflect::set(object, &key.into(), value)
        .map(drop)
        .map_err(|_| Error::Internal { what: format!("{key} could not be set") })
}

/// Bytes on the GPU; 0 for the CPU.
fn gpu_bytes(engine: &Engine) -> u64 {
    match engine {
        Engine::Gpu(model) => model.backend().allocated_bytes(),
        Engine::Cpu(_) => 0,
    }
}

impl WasmImageModel {
    fn try_info(&self) -> Result<JsValue> {
        let engine = self.engine.try_borrow().map_err(|_| Error::Busy)?;
        let (decodes, encodes) = either!(&*engine, e => e.directions());
        let config = either!(&*engine, e => e.config().clone());
        to_js(&Info {
            architecture: either!(&*engine, e => e.architecture()),
            latent_channels: either!(&*engine, e => e.latent_channels()),
            scale: either!(&*engine, e => e.scale()),
            decodes,
            encodes,
            has_prior: either!(&*engine, e => e.has_prior()),
            sample_size: config.sample_size,
            scaling_factor: config.scaling_factor,
            shift_factor: config.shift_factor,
            weight_bytes: either!(&*engine, e => e.weight_bytes()),
            gpu_bytes: gpu_bytes(&engine),
            precision: either!(&*engine, e => e.precision()).name(),
            device: self.device.clone(),
        })
    }

    // As with text, the borrow is held across awaits on purpose: it is what makes a second request `busy`.
    #[allow(clippy::await_holding_refcell_ref)]
    async fn try_decode(
        &self,
        values: Vec<f32>,
        request: JsValue,
        on_event: &Function,
        signal: &AbortSignal,
    ) -> Result<JsValue> {
        let request: DecodeRequest = from_js("request", request)?;
        let side = |value| whole_u32("latents", value, u32::from(u16::MAX));
        let (channels, height, width) =
            (side(request.channels)?, side(request.height)?, side(request.width)?);
        let memory = whole("memoryBytes", request.memory_bytes.unwrap_or(MEMORY), MAX_SAFE)?;
        let latents = Latents { channels, height, width, values };
        let options =
            DecodeOptions { memory: Some(memory), scaled: request.scaled, preview: request.preview };
        let mut engine = self.engine.try_borrow_mut().map_err(|_| Error::Busy)?;
        let (mut tiles, mut failed) = (1, None);
        let mut report = |event: DecodeEvent<'_>| {
            let told = match event {
                DecodeEvent::Tile(done, total) => {
                    tiles = total;
                    tell_tile(on_event, done, total)
                }
                DecodeEvent::Preview(picture) => tell_preview(on_event, picture),
            };
            failed = failed.take().or(told.err());
        };
        let begun = now_ms();
        let cancelled = || signal.aborted();
        let object = match request.canvas {
            Some(number) => {
                let canvases = self.canvases.borrow();
                let (Engine::Gpu(model), Some(canvas)) = (&mut *engine, canvases.get(&number)) else {
                    return Err(Error::Internal { what: format!("no canvas {number}") });
                };
                let decoded = model.compute(&latents, &options, &mut report, &cancelled).await?;
                model.backend().show(&decoded.pixels, canvas)?;
                model.backend().gpu().settle("showing a picture").await?;
                let Decoded { width, height, .. } = decoded;
                picture_to_js(width, height, None)?
            }
            None => {
                let Picture { width, height, rgba } =
                    either!(&mut *engine, e => e.decode(&latents, &options, &mut report, &cancelled).await)?;
                picture_to_js(width, height, Some(&rgba))?
            }
        };
        let ms = now_ms() - begun;
        if let Some(error) = failed {
            return Err(error);
        }
        let dispatches = either!(&*engine, e => e.decode_dispatches());
        let precision = either!(&*engine, e => e.precision()).name();
        let stats = DecodeStats { ms, dispatches, tiles, gpu_bytes: gpu_bytes(&engine), precision };
        set(&object, "stats", &to_js(&stats)?)?;
        Ok(object.into())
    }

    fn try_attach(&self, number: u32, canvas: OffscreenCanvas) -> Result<()> {
        let engine = self.engine.try_borrow().map_err(|_| Error::Busy)?;
        let Engine::Gpu(model) = &*engine else {
            return Err(Error::Internal { what: "a canvas for the CPU".to_owned() });
        };
        let canvas = model.backend().gpu().canvas(canvas)?;
        self.canvases.try_borrow_mut().map_err(|_| Error::Busy)?.insert(number, canvas);
        Ok(())
    }

    #[allow(clippy::await_holding_refcell_ref)]
    async fn try_encode(
        &self,
        rgba: Vec<u8>,
        request: JsValue,
        on_event: &Function,
        signal: &AbortSignal,
    ) -> Result<JsValue> {
        let EncodeRequest { width, height, seed, memory_bytes } = from_js("request", request)?;
        let seed = match seed {
            Some(seed) => Some(whole("seed", seed, MAX_SAFE)?),
            None => None,
        };
        let memory = Some(whole("memoryBytes", memory_bytes.unwrap_or(MEMORY), MAX_SAFE)?);
        let mut engine = self.engine.try_borrow_mut().map_err(|_| Error::Busy)?;
        let cancelled = || signal.aborted();
        let mut failed = None;
        let mut report = |done, total| failed = failed.take().or(tell_tile(on_event, done, total).err());
        let picture = Picture { width, height, rgba };
        let encoding = either!(&mut *engine, e => e.encode(&picture, memory, &mut report, &cancelled).await)?;
        if let Some(error) = failed {
            return Err(error);
        }
        latents_to_js(&seed.map_or_else(|| encoding.mean.clone(), |seed| encoding.sample(seed)))
    }

    fn try_sample(&self, seed: f64, spread: f32) -> Result<JsValue> {
        let seed = whole("seed", seed, MAX_SAFE)?;
        if !(0.0..=10.0).contains(&spread) {
            return Err(Error::InvalidOption {
                option: "spread",
                value: spelled(spread),
                range: "0 to 10".into(),
            });
        }
        let engine = self.engine.try_borrow().map_err(|_| Error::Busy)?;
        latents_to_js(&either!(&*engine, e => e.sample(seed, spread)))
    }
}

fn call(on_event: &Function, event: &Object) -> Result<()> {
    on_event
        .call1(&JsValue::NULL, event)
        .map(drop)
        .map_err(|_| Error::Internal { what: "the decode callback threw".to_owned() })
}

fn tell_tile(on_event: &Function, done: u32, total: u32) -> Result<()> {
    let event = Object::new();
    set(&event, "done", &done.into())?;
    set(&event, "total", &total.into())?;
    call(on_event, &event)
}

fn tell_preview(on_event: &Function, picture: &Picture) -> Result<()> {
    let event = Object::new();
    let picture = picture_to_js(picture.width, picture.height, Some(&picture.rgba))?;
    set(&event, "preview", &picture)?;
    call(on_event, &event)
}
