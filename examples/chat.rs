//! Chat in a terminal with the same engine that runs in the browser.
//!
//! `cargo run --release --example chat -- --model FILE "prompt"`

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use emberglass::cpu::{Bits, CpuOptions, Level, Team};
use emberglass::engine::device::TuneOptions;
use emberglass::graph::{Backend, KvType};
use emberglass::weights::Directory;
use emberglass::{
    ByteSource, CpuBackend, Device, Error, FileSource, Finish, GenerateOptions, GpuBackend, Message, Prompt,
    Sampling, SamplingOverrides, TextEngine, choose,
    engine::{self, LoadOptions, NotApplied, SamplingDefaults},
    read_directory,
};

#[derive(Clone, Copy, ValueEnum)]
enum DeviceName {
    Auto,
    Gpu,
    Cpu,
}

#[derive(Parser)]
#[command(about = "Chat with a GGUF model on the GPU or the CPU")]
struct Arguments {
    /// What to say.
    prompt: String,
    /// The GGUF file; for a split model every shard in order.
    #[arg(long, required = true, num_args = 1..)]
    model: Vec<PathBuf>,
    /// What computes.
    #[arg(long, value_enum, default_value = "auto")]
    device: DeviceName,
    /// Kernels of the GPU path, as an earlier run named them; without it they are chosen.
    #[arg(long)]
    kernels: Option<String>,
    /// Threads of the CPU path; 0 takes all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Fewer of these threads compute where that is faster.
    #[arg(long)]
    paced: bool,
    /// Bits that the CPU path rounds activations to, 8 or 16; by default 16 only where 8 would do harm.
    #[arg(long, value_parser = parse_bits)]
    activation_bits: Option<Bits>,
    /// System prompt; without it the chat template's own default applies.
    #[arg(long)]
    system: Option<String>,
    /// Take the prompt as it is, without the chat template.
    #[arg(long)]
    raw: bool,
    /// Tokens the KV cache holds.
    #[arg(long)]
    context_length: Option<u32>,
    /// Speculative decoding: most drafts that are verified in one step; 0 is off. The text is the same.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=i64::from(engine::MAX_DRAFTS)))]
    draft: u32,
    /// What the KV cache holds: f32, f16 with half of its bytes, or q8_0 with about a quarter.
    #[arg(long, default_value = KvType::default().name(), value_parser = parse_kv)]
    kv_cache: KvType,
    /// Most tokens to generate.
    #[arg(long)]
    max_tokens: Option<usize>,
    /// A string that ends the text; may be given more than once.
    #[arg(long)]
    stop: Vec<String>,
    /// 0 is greedy. Default, as of the other sampling options: the file's recommendation, or 0.8.
    #[arg(long)]
    temperature: Option<f32>,
    /// 0 keeps all tokens. Default: the file's, or 40.
    #[arg(long)]
    top_k: Option<u32>,
    /// 1 keeps all tokens. Default: the file's, or 0.95.
    #[arg(long)]
    top_p: Option<f32>,
    /// 0 keeps all tokens. Default: the file's, or 0.05.
    #[arg(long)]
    min_p: Option<f32>,
    /// 1 is off. Default: the file's, or 1.
    #[arg(long)]
    repetition_penalty: Option<f32>,
    /// 0, the default, is off.
    #[arg(long, allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// 0, the default, is off.
    #[arg(long, allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    /// Tokens that penalties look back. Default: the file's, or 64.
    #[arg(long)]
    penalty_window: Option<u32>,
    /// ID=BIAS, added to that token's logit; may be given more than once.
    #[arg(long, value_parser = parse_bias, allow_hyphen_values = true)]
    logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same text; without it every run differs.
    #[arg(long)]
    seed: Option<u64>,
    /// Print one JSON object (prompt ids, output ids, text, timings) instead of the text.
    #[arg(long)]
    json: bool,
}

fn parse_bits(text: &str) -> std::result::Result<Bits, String> {
    match text {
        "8" => Ok(Bits::Eight),
        "16" => Ok(Bits::Sixteen),
        _ => Err("8 or 16".to_owned()),
    }
}

fn parse_kv(name: &str) -> Result<KvType, String> {
    KvType::named(name).ok_or_else(|| format!("one of {}", KvType::ALL.map(KvType::name).join(", ")))
}

fn parse_bias(text: &str) -> Result<(u32, f32), String> {
    let (id, bias) = text.split_once('=').ok_or("expected ID=BIAS")?;
    Ok((id.parse().map_err(|e| format!("{id}: {e}"))?, bias.parse().map_err(|e| format!("{bias}: {e}"))?))
}

fn main() -> ExitCode {
    match pollster::block_on(run(Arguments::parse())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error [{}]: {error}", error.code());
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Error> {
    let mut sources: Vec<Box<dyn ByteSource>> = Vec::new();
    for path in &arguments.model {
        sources.push(Box::new(FileSource::open(path)?));
    }
    let directory = read_directory(&mut sources).await?;
    let context = engine::context_length(&directory, arguments.context_length.map(f64::from))?;
    let wish = match arguments.device {
        DeviceName::Auto => Device::Auto,
        DeviceName::Gpu => Device::WebGpu,
        DeviceName::Cpu => Device::Cpu,
    };
    let hints =
        TuneOptions { pinned: arguments.kernels.as_deref(), remembered: &[], ..TuneOptions::default() };
    let choice = choose(wish, &directory, hints).await?;
    match choice.gpu {
        Some(gpu) => {
            let chosen = choice.kernels.map(|chosen| chosen.kernels).unwrap_or_default();
            let name = format!("{}, {chosen}", gpu.adapter().name);
            let mut backend = GpuBackend::new(gpu, engine::MAX_BATCH, context)?;
            backend.set_kernels(chosen);
            answer(backend, &name, directory, sources, context, arguments).await
        }
        None => {
            let all = || std::thread::available_parallelism().map_or(1, usize::from);
            let threads = if arguments.threads == 0 { all() } else { arguments.threads };
            let level = Level::best();
            let bits = arguments.activation_bits.unwrap_or_default();
            let name = format!("CPU, {}, {threads} threads", level.name());
            let team = Team::threads(threads)?;
            let team = if arguments.paced { team.paced(threads) } else { team };
            let backend = CpuBackend::new(CpuOptions { level, bits, team });
            answer(backend, &name, directory, sources, context, arguments).await
        }
    }
}

async fn answer<B: Backend + 'static>(
    backend: B,
    device: &str,
    directory: Directory,
    mut sources: Vec<Box<dyn ByteSource>>,
    context: u32,
    arguments: Arguments,
) -> Result<(), Error> {
    let given = SamplingOverrides {
        temperature: arguments.temperature,
        top_k: arguments.top_k,
        top_p: arguments.top_p,
        min_p: arguments.min_p,
        repetition_penalty: arguments.repetition_penalty,
        presence_penalty: arguments.presence_penalty,
        frequency_penalty: arguments.frequency_penalty,
        penalty_window: arguments.penalty_window,
    };
    let defaults = SamplingDefaults::new(&directory.metadata, context, &given)?;
    for NotApplied { key, value, reason } in &defaults.not_applied {
        eprintln!("note: {key} = {value} of the file is not applied: {reason}");
    }
    let options =
        LoadOptions { context_length: context, kv: arguments.kv_cache, draft_tokens: arguments.draft };
    let mut model = TextEngine::load(backend, directory, &mut sources, options, &mut |_| Ok(())).await?;

    let prompt = if arguments.raw {
        Prompt::Text(arguments.prompt)
    } else {
        let system = arguments.system.map(|text| Message::new("system", text));
        Prompt::Messages(system.into_iter().chain([Message::new("user", arguments.prompt)]).collect())
    };
    let seed = arguments.seed.unwrap_or_else(random_seed);
    let options = GenerateOptions {
        sampling: Sampling { logit_bias: arguments.logit_bias, seed, ..defaults.sampling() },
        max_tokens: arguments.max_tokens,
        stop: arguments.stop,
        ignore_end: false,
    };
    let json = arguments.json;
    let mut show = |piece: &str| {
        if !json {
            print!("{piece}");
            let _ = std::io::stdout().flush();
        }
    };
    let done = model.generate(&prompt, &options, &mut show, &|| false).await?;
    let prefill = per_second(done.prompt.len() - done.reused, done.prefill_ms);
    let decode = per_second(done.tokens.len().saturating_sub(1), done.decode_ms);
    let decoded = (done.decode_steps + done.accepted).max(1);
    if json {
        let finish = match &done.finish {
            Finish::Stop => "stop",
            Finish::StopString(_) => "stop-string",
            Finish::Length => "length",
            Finish::ContextFull => "context-full",
            Finish::Aborted => "aborted",
        };
        let report = serde_json::json!({
            "device": device,
            "promptIds": done.prompt,
            "outputIds": done.tokens,
            "text": done.text,
            "finishReason": finish,
            "seed": seed,
            "prefillMs": done.prefill_ms,
            "timeToFirstTokenMs": done.first_token_ms,
            "decodeMs": done.decode_ms,
            "prefillTokensPerSecond": prefill,
            "decodeTokensPerSecond": decode,
            "decodeSteps": done.decode_steps,
            "draftedTokens": done.drafted,
            "acceptedTokens": done.accepted,
            "dispatchesPerToken": done.decode_traffic.dispatches / decoded,
            "submitsPerToken": done.decode_traffic.submits / decoded,
            "readbacksPerToken": done.decode_traffic.readbacks / decoded,
            "weightBytesPerToken": done.decode_traffic.weight_bytes / decoded,
        });
        println!("{report}");
    } else {
        println!();
        eprintln!(
            "[{device}: prefill {} tokens at {prefill:.1}/s, decode {} at {decode:.1}/s, {} dispatches a token, seed {seed}]",
            done.prompt.len(),
            done.tokens.len(),
            done.decode_traffic.dispatches / decoded,
        );
    }
    Ok(())
}

fn per_second(tokens: usize, ms: f64) -> f64 {
    if ms > 0.0 { tokens as f64 / ms * 1e3 } else { 0.0 }
}

fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
