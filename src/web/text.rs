//! TOKENS → JavaScript: the language model.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use js_sys::{Array, Function, Object, Promise, Reflect, Uint32Array};
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::AbortSignal;

use crate::cpu::{self, Bits, CpuBackend, CpuOptions, Level, Team};
use crate::engine::device::{self as choice, Device, DeviceReason, TuneOptions, TunedKernels};
use crate::engine::{
    self, Finish, GenerateOptions, Generation, Header, MAX_BATCH, MAX_DRAFTS, NotApplied, Origin, Prompt,
    SamplingDefault, SamplingDefaults, TextEngine,
};
use crate::error::{Error, Result, spelled};
use crate::gpu::{Gpu, GpuBackend};
use crate::graph::{Backend, KvType};
use crate::model::Progress;
use crate::sampling::{Sampling, SamplingOverrides};
use crate::sort::sort_by_key;
use crate::text::{Message, Special};
use crate::weights::read_directory;

use super::can_run::can_run;
use super::{
    DeviceReport, MAX_SAFE, cpu_report, from_js, gpu_report, js_error, open_sources, tell, to_js, whole,
    whole_u32, wish,
};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LoadOptions {
    pub(super) context_length: Option<f64>,
    kv_cache: Option<String>,
    device: Option<String>,
    threads: Option<f64>,
    start_threads: Option<f64>,
    activation_bits: Option<f64>,
    draft_tokens: Option<f64>,
    pub(super) kernels: Option<String>,
    pub(super) remembered_kernels: HashMap<String, String>,
    /// To which this module's memory can grow.
    most_memory_bytes: Option<f64>,
    sampling: Overrides,
}

/// Sampling options of a request, or of a load: then they are the model's defaults.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Overrides {
    temperature: Option<f32>,
    top_k: Option<f64>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    penalty_window: Option<f64>,
}

impl Overrides {
    fn checked(self) -> Result<SamplingOverrides> {
        let count = |option, value: Option<f64>| value.map(|n| whole_u32(option, n, u32::MAX)).transpose();
        Ok(SamplingOverrides {
            temperature: self.temperature,
            top_k: count("topK", self.top_k)?,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            penalty_window: count("penaltyWindow", self.penalty_window)?,
        })
    }
}

impl LoadOptions {
    pub(super) fn wish(&self) -> Result<Device> {
        wish(self.device.as_deref())
    }

    pub(super) fn draft_tokens(&self) -> Result<u32> {
        whole_u32("draftTokens", self.draft_tokens.unwrap_or(0.0), MAX_DRAFTS)
    }

    /// Passes on to how many bytes this module's memory can grow.
    pub(super) fn tell_most_memory(&self) -> Result<()> {
        let most =
            self.most_memory_bytes.map(|bytes| whole("mostMemoryBytes", bytes, MAX_SAFE)).transpose()?;
        most.into_iter().for_each(cpu::set_most_bytes);
        Ok(())
    }

    pub(super) fn activation_bits(&self) -> Result<Bits> {
        match self.activation_bits {
            None => Ok(Bits::default()),
            Some(8.0) => Ok(Bits::Eight),
            Some(16.0) => Ok(Bits::Sixteen),
            Some(other) => Err(Error::InvalidOption {
                option: "activationBits",
                value: spelled(other),
                range: "8 or 16".into(),
            }),
        }
    }

    pub(super) fn kv(&self) -> Result<KvType> {
        let Some(name) = &self.kv_cache else { return Ok(KvType::default()) };
        KvType::named(name).ok_or_else(|| Error::InvalidOption {
            option: "kvCache",
            value: name.clone(),
            range: "f32, f16 or q8_0".into(),
        })
    }

    pub(super) fn threads(&self) -> Result<Threads> {
        let most = thread_count(self.threads)?;
        let start = self.start_threads.map(|n| whole_u32("threads", n, 33)).transpose()?;
        Ok(Threads { most, start: start.map(|n| n as usize) })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    messages: Option<Vec<Message>>,
    prompt: Option<String>,
    max_tokens: Option<f64>,
    #[serde(default)]
    stop: Vec<String>,
    seed: Option<f64>,
    #[serde(default)]
    logit_bias: HashMap<String, f32>,
}

impl Request {
    /// `sampling` is what the request says of it, and the model's defaults for the rest.
    fn into_parts(self, sampling: Sampling) -> Result<(Prompt, GenerateOptions)> {
        let prompt = match (self.messages, self.prompt) {
            (Some(messages), None) => Prompt::Messages(messages),
            (None, Some(text)) => Prompt::Text(text),
            _ => {
                return Err(Error::Internal { what: "a request needs messages or a prompt".to_owned() });
            }
        };
        let mut logit_bias = Vec::new();
        for (key, bias) in self.logit_bias {
            // "05" and "+5" would be 5 too, with another bias perhaps.
            let id = key.parse::<u32>().ok().filter(|id| id.to_string() == key);
            let id = id.ok_or_else(|| Error::InvalidOption {
                option: "logitBias",
                value: format!("a bias for {:?}", key.chars().take(80).collect::<String>()),
                range: "token ids as keys".into(),
            })?;
            logit_bias.push((id, bias));
        }
        sort_by_key(&mut logit_bias, |(id, _)| *id);
        let sampling = Sampling {
            logit_bias,
            seed: match self.seed {
                Some(seed) => whole("seed", seed, MAX_SAFE)?,
                #[allow(clippy::cast_possible_truncation)] // below 2^32
                None => (js_sys::Math::random() * 4_294_967_296.0) as u64,
            },
            ..sampling
        };
        let max_tokens = match self.max_tokens {
            // More than an address can count is as good as no end.
            Some(n) => Some(usize::try_from(whole("maxTokens", n, MAX_SAFE)?).unwrap_or(usize::MAX)),
            None => None,
        };
        Ok((prompt, GenerateOptions { sampling, max_tokens, stop: self.stop, ignore_end: false }))
    }
}

/// What a file's header says of its model.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HeaderReport {
    architecture: String,
    name: String,
    parameters: u64,
    layer_parameters: u64,
    weight_bytes: u64,
    weight_types: Vec<String>,
    context_length: u32,
    trained_context_length: u32,
    kv_cache: &'static str,
    kv_bytes: u64,
    layers: u32,
    vocabulary_size: u32,
    has_chat_template: bool,
}

impl From<Header> for HeaderReport {
    fn from(Header { facts, has_chat_template }: Header) -> Self {
        HeaderReport {
            architecture: facts.architecture,
            name: facts.name,
            parameters: facts.parameters,
            layer_parameters: facts.layer_parameters,
            weight_bytes: facts.weight_bytes,
            weight_types: facts.weight_types,
            context_length: facts.context_length,
            trained_context_length: facts.trained_context_length,
            kv_cache: facts.kv.name(),
            kv_bytes: facts.kv_bytes,
            layers: facts.layers,
            vocabulary_size: facts.vocab_size,
            has_chat_template,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    #[serde(flatten)]
    header: HeaderReport,
    device: DeviceReport,
    gpu_bytes: u64,
    dispatches_per_token: u64,
    draft_tokens: u32,
    sampling: SamplingReport,
    sampling_not_applied: Vec<NotAppliedReport>,
}

/// The model's defaults.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SamplingReport {
    temperature: DefaultReport,
    top_k: DefaultReport,
    top_p: DefaultReport,
    min_p: DefaultReport,
    repetition_penalty: DefaultReport,
    presence_penalty: DefaultReport,
    frequency_penalty: DefaultReport,
    penalty_window: DefaultReport,
}

#[derive(Serialize)]
struct DefaultReport {
    value: f64,
    from: &'static str,
}

#[derive(Serialize)]
struct NotAppliedReport {
    key: String,
    value: String,
    reason: String,
}

impl From<&SamplingDefaults> for SamplingReport {
    fn from(defaults: &SamplingDefaults) -> Self {
        let count = |SamplingDefault { value, from }| DefaultReport {
            value: f64::from(value),
            from: Origin::name(from),
        };
        // The decimal number that people wrote: as f64, the f32 next to 0.95 has eight digits more.
        let number = |SamplingDefault { value, from }: SamplingDefault<f32>| DefaultReport {
            value: value.to_string().parse().unwrap_or(f64::from(value)),
            from: from.name(),
        };
        SamplingReport {
            temperature: number(defaults.temperature),
            top_k: count(defaults.top_k),
            top_p: number(defaults.top_p),
            min_p: number(defaults.min_p),
            repetition_penalty: number(defaults.repetition_penalty),
            presence_penalty: number(defaults.presence_penalty),
            frequency_penalty: number(defaults.frequency_penalty),
            penalty_window: count(defaults.penalty_window),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    prefill_ms: f64,
    time_to_first_token_ms: f64,
    decode_ms: f64,
    prefill_tokens_per_second: f64,
    decode_tokens_per_second: f64,
    dispatches_per_token: f64,
    submits_per_token: f64,
    readbacks_per_token: f64,
    weight_bytes_per_token: f64,
    drafted_tokens: u64,
    accepted_tokens: u64,
    threads: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GenerationReport {
    text: String,
    finish_reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_string: Option<String>,
    prompt_tokens: usize,
    reused_tokens: usize,
    generated_tokens: usize,
    seed: u64,
    stats: Stats,
}

fn report(done: Generation, seed: u64, threads: usize) -> GenerationReport {
    let per_second = |tokens: usize, ms: f64| if ms > 0.0 { tokens as f64 / ms * 1e3 } else { 0.0 };
    let decoded = (done.decode_steps + done.accepted).max(1) as f64;
    let traffic = done.decode_traffic;
    let (finish_reason, stop_string) = match done.finish {
        Finish::Stop => ("stop", None),
        Finish::StopString(stop) => ("stop-string", Some(stop)),
        Finish::Length => ("length", None),
        Finish::ContextFull => ("context-full", None),
        Finish::Aborted => ("aborted", None),
    };
    GenerationReport {
        text: done.text,
        finish_reason,
        stop_string,
        prompt_tokens: done.prompt.len(),
        reused_tokens: done.reused,
        generated_tokens: done.tokens.len(),
        seed,
        stats: Stats {
            prefill_ms: done.prefill_ms,
            time_to_first_token_ms: done.first_token_ms,
            decode_ms: done.decode_ms,
            prefill_tokens_per_second: per_second(done.prompt.len() - done.reused, done.prefill_ms),
            decode_tokens_per_second: per_second(done.tokens.len().saturating_sub(1), done.decode_ms),
            dispatches_per_token: traffic.dispatches as f64 / decoded,
            submits_per_token: traffic.submits as f64 / decoded,
            readbacks_per_token: traffic.readbacks as f64 / decoded,
            weight_bytes_per_token: traffic.weight_bytes as f64 / decoded,
            drafted_tokens: done.drafted,
            accepted_tokens: done.accepted,
            threads,
        },
    }
}

/// An engine on either backend.
enum Engine {
    Gpu(Box<TextEngine<GpuBackend>>),
    Cpu(Box<TextEngine<CpuBackend>>),
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

/// A language model on the GPU or the CPU. One request at a time.
#[wasm_bindgen]
pub struct WasmTextModel {
    engine: RefCell<Engine>,
    device: DeviceReport,
    sampling: SamplingDefaults,
}

#[wasm_bindgen]
impl WasmTextModel {
    /// Loads `{urls}` or `{blobs, names?}`, one file or the shards of one model in order.
    ///
    /// # Errors
    /// `{code, message}`; nothing stays allocated.
    pub async fn load(
        source: JsValue,
        options: JsValue,
        on_progress: Function,
        signal: AbortSignal,
    ) -> std::result::Result<WasmTextModel, JsValue> {
        load(source, options, &on_progress, &signal).await.map_err(|e| js_error(&e))
    }

    /// Reads the header of `{urls}` or `{blobs, names?}` and checks it as a load does, without a device and without
    /// reading weights.
    ///
    /// # Errors
    /// `{code, message}`: what a load would refuse for the header's sake.
    pub async fn inspect(
        source: JsValue,
        options: JsValue,
        signal: AbortSignal,
    ) -> std::result::Result<JsValue, JsValue> {
        inspect(&source, options, &signal).await.map_err(|e| js_error(&e))
    }

    /// Whether what `source` names would fit if it were loaded with these options, and how fast it would be. Reads the
    /// header alone.
    ///
    /// # Errors
    /// `{code, message}`: what a load would refuse for another reason than memory.
    #[wasm_bindgen(js_name = canRun)]
    pub async fn can_run(
        source: JsValue,
        options: JsValue,
        signal: AbortSignal,
    ) -> std::result::Result<JsValue, JsValue> {
        can_run(&source, options, &signal).await.map_err(|e| js_error(&e))
    }

    /// What the model and the device are.
    ///
    /// # Errors
    /// `busy` while a generation runs.
    pub fn info(&self) -> std::result::Result<JsValue, JsValue> {
        self.try_info().map_err(|e| js_error(&e))
    }

    /// Generates text; resolves also when the signal fires.
    ///
    /// # Errors
    /// `{code, message}`.
    pub async fn generate(
        &self,
        request: JsValue,
        on_piece: Function,
        signal: AbortSignal,
    ) -> std::result::Result<JsValue, JsValue> {
        self.try_generate(request, &on_piece, &signal).await.map_err(|e| js_error(&e))
    }

    /// Token ids of a text; with `special`, control tokens in it are control tokens.
    ///
    /// # Errors
    /// `{code, message}`; `aborted` when the signal fires.
    pub async fn tokenize(
        &self,
        text: String,
        special: bool,
        signal: AbortSignal,
    ) -> std::result::Result<Uint32Array, JsValue> {
        let special = if special { Special::Parse } else { Special::AsText };
        let ids = self.try_tokenize(&text, special, &signal).await.map_err(|e| js_error(&e))?;
        Ok(Uint32Array::from(ids.as_slice()))
    }

    /// Text of token ids, control tokens included.
    ///
    /// # Errors
    /// `busy` while a generation runs; `invalid-option` for an id that is not in the vocabulary.
    pub fn detokenize(&self, ids: &[u32]) -> std::result::Result<String, JsValue> {
        let engine = self.engine.try_borrow().map_err(|_| js_error(&Error::Busy))?;
        either!(&*engine, e => e.check_ids(ids)).map_err(|e| js_error(&e))?;
        Ok(either!(&*engine, e => e.tokenizer().decode(ids, false)))
    }
}

async fn inspect(source: &JsValue, options: JsValue, signal: &AbortSignal) -> Result<JsValue> {
    let mut sources = open_sources(source, &options, signal)?;
    let options: LoadOptions = from_js("options", options)?;
    let kv = options.kv()?;
    let directory = read_directory(&mut sources).await?;
    let context_length = engine::context_length(&directory, options.context_length)?;
    to_js(&HeaderReport::from(engine::inspect(&directory, context_length, kv)?))
}

async fn load(
    source: JsValue,
    options: JsValue,
    on_progress: &Function,
    signal: &AbortSignal,
) -> Result<WasmTextModel> {
    let spawn_helpers = spawn_hook(&options);
    let raw_options = options.clone();
    let options: LoadOptions =
        if options.is_undefined() { LoadOptions::default() } else { from_js("options", options)? };
    let (wish, threads, bits) = (options.wish()?, options.threads()?, options.activation_bits()?);
    options.tell_most_memory()?;
    let kv = options.kv()?;
    let draft_tokens = options.draft_tokens()?;
    let given = options.sampling.checked()?;
    let mut sources = open_sources(&source, &raw_options, signal)?;
    let tell = |phase, loaded, total| tell(on_progress, signal, phase, loaded, total);
    tell("header", 0, 0)?;
    let directory = read_directory(&mut sources).await?;
    let context_length = engine::context_length(&directory, options.context_length)?;
    let sampling = SamplingDefaults::new(&directory.metadata, context_length, &given)?;
    let remembered: Vec<_> = options.remembered_kernels.into_iter().collect();
    let hints =
        TuneOptions { pinned: options.kernels.as_deref(), remembered: &remembered, ..TuneOptions::default() };
    let load = engine::LoadOptions { context_length, kv, draft_tokens };
    tell("device", 0, directory.total_bytes())?;
    let choice = choice::choose(wish, &directory, hints).await?;
    let mut total = 0;
    let mut on_weights = |progress: Progress| {
        total = progress.total_bytes;
        tell("weights", progress.loaded_bytes, progress.total_bytes)
    };
    let (mut engine, device) = match choice.gpu {
        Some(gpu) => {
            let (backend, device) = gpu_backend(gpu, choice.kernels, &choice.why, context_length)?;
            let engine = TextEngine::load(backend, directory, &mut sources, load, &mut on_weights).await?;
            (Engine::Gpu(Box::new(engine)), device)
        }
        None => {
            let (team, remark) = assemble_team(threads, spawn_helpers.as_ref()).await;
            let backend = CpuBackend::new(CpuOptions { level: Level::best(), bits, team });
            let device = backend_report(&backend, &choice.why, remark);
            let engine = TextEngine::load(backend, directory, &mut sources, load, &mut on_weights).await?;
            (Engine::Cpu(Box::new(engine)), device)
        }
    };
    tell("kernels", total, total)?;
    either!(&mut engine, e => e.warm_up().await)?;
    tell("ready", total, total)?;
    Ok(WasmTextModel { engine: RefCell::new(engine), device, sampling })
}

/// Of the load options.
pub(super) fn spawn_hook(options: &JsValue) -> Option<Function> {
    Reflect::get(options, &"spawnHelpers".into()).ok().and_then(|f| f.dyn_into::<Function>().ok())
}

/// A backend with the kernels that were chosen.
pub(super) fn gpu_backend(
    gpu: Rc<Gpu>,
    kernels: Option<TunedKernels>,
    why: &DeviceReason,
    context_length: u32,
) -> Result<(GpuBackend, DeviceReport)> {
    let mut device = gpu_report(gpu.adapter(), why);
    let mut backend = GpuBackend::new(gpu, MAX_BATCH, context_length)?;
    if let Some(chosen) = kernels {
        if chosen.kernels.use_subgroups() {
            device.features.push("subgroups".to_owned());
        }
        if chosen.kernels.use_half() {
            device.features.push("shader-f16".to_owned());
        }
        device.kernels = Some(chosen.kernels.to_string());
        device.kernels_reason = Some(chosen.to_string());
        device.kernels_key = Some(chosen.key);
        backend.set_kernels(chosen.kernels);
    }
    Ok((backend, device))
}

/// Of a backend on the CPU.
pub(super) fn backend_report(
    backend: &CpuBackend,
    why: &DeviceReason,
    remark: Option<String>,
) -> DeviceReport {
    let level = backend.level();
    let features = [Some(level.name()), level.dots(), backend.bits().label(level)];
    let features = features.into_iter().flatten().map(str::to_owned).collect();
    cpu_report(features, backend.threads(), backend.most_threads(), why, remark)
}

/// Of the load options.
pub(super) fn thread_count(threads: Option<f64>) -> Result<usize> {
    match threads {
        None => Ok(1),
        Some(n) => Ok(whole_u32("threads", n, 33)?.max(1) as usize),
    }
}

/// How many threads compute on the CPU.
#[derive(Debug, Clone, Copy)]
pub(super) struct Threads {
    /// At most.
    pub(super) most: usize,
    /// At first, where the best number is found while running.
    pub(super) start: Option<usize>,
}

/// Helpers for all threads but this one. Where some cannot be had, the model runs on fewer threads, and the remark says
/// why.
pub(super) async fn assemble_team(threads: Threads, spawn: Option<&Function>) -> (Team, Option<String>) {
    let (team, remark) = whole_team(threads.most, spawn).await;
    match threads.start {
        Some(start) => (team.paced(start), remark),
        None => (team, remark),
    }
}

async fn whole_team(threads: usize, spawn: Option<&Function>) -> (Team, Option<String>) {
    let (Some(spawn), true) = (spawn, threads > 1) else { return (Team::solo(), None) };
    let count = threads - 1;
    let alone = |why: &str| {
        (Team::solo(), Some(format!("One thread only: the helper workers could not start ({why}).")))
    };
    match helped(count, spawn).await {
        Ok((team, failed)) => match failed.first() {
            None => (team, None),
            Some(why) if failed.len() >= count => alone(why),
            Some(why) => {
                let remark = format!("{} of {count} helper workers could not start ({why}).", failed.len());
                (team, Some(remark))
            }
        },
        Err(cause) => {
            let said = Reflect::get(&cause, &"message".into()).ok().and_then(|m| m.as_string());
            alone(said.as_deref().unwrap_or("no reason given"))
        }
    }
}

/// Calls `spawn` with what each helper needs, and waits until they are there. Beside the team it gives a reason for each
/// that could not be started; these are marked as dead by then.
async fn helped(count: usize, spawn: &Function) -> std::result::Result<(Team, Vec<String>), JsValue> {
    let team = Team::workers(count).map_err(|e| js_error(&e))?;
    let places = Array::new();
    for cpu::Place { control, stack_top, bell, dead } in team.places() {
        let place = Object::new();
        for (name, address) in [("control", control), ("stackTop", stack_top), ("bell", bell), ("dead", dead)]
        {
            Reflect::set(&place, &name.into(), &(address as f64).into())?;
        }
        places.push(&place);
    }
    let promise = spawn.call1(&JsValue::NULL, &places)?;
    let failed = JsFuture::from(promise.dyn_into::<Promise>()?).await?;
    let failed = Array::from(&failed).iter().map(|why| why.as_string().unwrap_or_default()).collect();
    Ok((team, failed))
}

impl WasmTextModel {
    fn try_info(&self) -> Result<JsValue> {
        let engine = self.engine.try_borrow().map_err(|_| Error::Busy)?;
        let facts = either!(&*engine, e => e.facts().clone());
        let (gpu_bytes, dispatches_per_token) = match &*engine {
            Engine::Gpu(e) => (e.backend().allocated_bytes(), e.dispatches_per_token()),
            Engine::Cpu(_) => (0, 0),
        };
        to_js(&Info {
            header: Header { facts, has_chat_template: either!(&*engine, e => e.template().is_present()) }
                .into(),
            device: self.device.clone(),
            gpu_bytes,
            dispatches_per_token,
            draft_tokens: either!(&*engine, e => e.draft_tokens()),
            sampling: SamplingReport::from(&self.sampling),
            sampling_not_applied: self.not_applied(),
        })
    }

    fn not_applied(&self) -> Vec<NotAppliedReport> {
        let report = |NotApplied { key, value, reason }| NotAppliedReport { key, value, reason };
        self.sampling.not_applied.iter().cloned().map(report).collect()
    }

    // As for a generation, below.
    #[allow(clippy::await_holding_refcell_ref)]
    async fn try_tokenize(&self, text: &str, special: Special, signal: &AbortSignal) -> Result<Vec<u32>> {
        let engine = self.engine.try_borrow().map_err(|_| Error::Busy)?;
        let cancelled = || signal.aborted();
        either!(&*engine, e => e.tokenizer().encode_cancellable(text, special, &cancelled).await)
    }

    // The borrow is held across awaits on purpose: it is what makes a second request `busy`, and all
    // other borrows are tried, never assumed.
    #[allow(clippy::await_holding_refcell_ref)]
    async fn try_generate(
        &self,
        request: JsValue,
        on_piece: &Function,
        signal: &AbortSignal,
    ) -> Result<JsValue> {
        let overrides = from_js::<Overrides>("request", request.clone())?.checked()?;
        let sampling = overrides.over(self.sampling.sampling());
        let (prompt, options) = from_js::<Request>("request", request)?.into_parts(sampling)?;
        let mut engine = self.engine.try_borrow_mut().map_err(|_| Error::Busy)?;
        let mut failed = false;
        let mut piece = |text: &str| failed |= on_piece.call1(&JsValue::NULL, &text.into()).is_err();
        let done = either!(&mut *engine, e => e.generate(&prompt, &options, &mut piece, &|| signal.aborted()).await)?;
        if failed {
            return Err(Error::Internal { what: "the text callback threw".to_owned() });
        }
        let threads = either!(&*engine, e => e.threads());
        to_js(&report(done, options.sampling.seed, threads))
    }
}
