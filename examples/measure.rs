//! What the GPU bundle measures natively: a JSON object a line, so that a run that is cut off still says something.
//!
//! `cargo run --release --example measure -- facts`

use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

use clap::{Parser, Subcommand};
use emberglass::engine::device::{TuneOptions, time_all};
use emberglass::engine::{self, LoadOptions};
use emberglass::gpu::{GpuImages, KernelMap};
use emberglass::graph::{ImageBackend, Precision};
use emberglass::weights::Directory;
use emberglass::{
    ByteSource, DecodeOptions, Device, Error, FileSource, GenerateOptions, Gpu, GpuBackend, GpuOptions,
    ImageModel, Prompt, Sampling, TextEngine, choose, read_directory,
};
use serde_json::json;

#[derive(Parser)]
#[command(about = "Measure the GPU path")]
struct Arguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// All adapters with driver, limits and features, and the one that Emberglass takes.
    Facts,
    /// What the adapter can do at best: copies and multiply-adds.
    Rates,
    /// What the race chooses, then every variant on every shape and type of a model.
    Race {
        /// The GGUF file.
        model: PathBuf,
    },
    /// Tokens a second.
    Tokens {
        /// The GGUF file.
        model: PathBuf,
        /// Kernels to take instead of those that the race chooses.
        #[arg(long)]
        kernels: Option<String>,
        /// Prompts to time.
        #[arg(long, value_delimiter = ',', default_value = "32,128,512,1024,2048")]
        prefill: Vec<u32>,
        /// Prompts after which decoding is timed.
        #[arg(long, value_delimiter = ',', default_value = "32,512,2048")]
        decode: Vec<u32>,
        /// Tokens to decode.
        #[arg(long, default_value_t = 128)]
        tokens: u32,
        /// Timed runs of each.
        #[arg(long, default_value_t = 5)]
        runs: u32,
    },
    /// Microseconds of each dispatch of a decode step and of a batch of prefill, by the GPU's own clock.
    Timeline {
        /// The GGUF file.
        model: PathBuf,
        /// Kernels to take instead of those that the race chooses.
        #[arg(long)]
        kernels: Option<String>,
        /// Tokens in the cache before the decode step.
        #[arg(long, value_delimiter = ',', default_value = "32,512")]
        after: Vec<u32>,
    },
    /// Milliseconds of a decoded picture.
    Pictures {
        /// Safetensors files of one image model.
        #[arg(required = true)]
        weights: Vec<PathBuf>,
        /// Sides of the pictures in pixels.
        #[arg(long, value_delimiter = ',', default_value = "256,512,1024")]
        sides: Vec<u32>,
        /// Timed runs of each.
        #[arg(long, default_value_t = 5)]
        runs: u32,
    },
}

fn main() -> ExitCode {
    match pollster::block_on(run(Arguments::parse().part)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error [{}]: {error}", error.code());
            ExitCode::FAILURE
        }
    }
}

async fn run(part: Part) -> Result<(), Error> {
    match part {
        Part::Facts => facts().await,
        Part::Rates => {
            let rates = Gpu::new(GpuOptions::default()).await?.rates().await?;
            println!(
                "{}",
                json!({ "copyGBPerSecond": rates.copy_bytes_per_second / 1e9,
                        "fmaGflops": 2.0 * rates.fma_per_second / 1e9 })
            );
            Ok(())
        }
        Part::Race { model } => race(&model).await,
        Part::Tokens { model, kernels, prefill, decode, tokens, runs } => {
            let longest = prefill.iter().chain(&decode).max().map_or(1, |longest| longest + tokens);
            let (mut engine, _) = load(&model, kernels.as_deref(), longest, false).await?;
            for prompt in prefill {
                time_tokens(&mut engine, prompt, 1, runs).await?;
            }
            for prompt in decode {
                time_tokens(&mut engine, prompt, tokens, runs).await?;
            }
            Ok(())
        }
        Part::Timeline { model, kernels, after } => timeline(&model, kernels.as_deref(), &after).await,
        Part::Pictures { weights, sides, runs } => pictures(&weights, &sides, runs).await,
    }
}

async fn facts() -> Result<(), Error> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    for adapter in instance.enumerate_adapters(wgpu::Backends::VULKAN).await {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        let features = adapter.features();
        println!(
            "{}",
            json!({
                "adapter": info.name, "kind": format!("{:?}", info.device_type), "driver": info.driver,
                "driverInfo": info.driver_info,
                "vendor": info.vendor, "device": info.device,
                "subgroupSizes": [info.subgroup_min_size, info.subgroup_max_size],
                "features": features.iter_names().map(|(name, _)| name).collect::<Vec<_>>(),
                "limits": {
                    "maxBufferSize": limits.max_buffer_size,
                    "maxStorageBufferBindingSize": limits.max_storage_buffer_binding_size,
                    "maxComputeWorkgroupStorageSize": limits.max_compute_workgroup_storage_size,
                    "maxComputeInvocationsPerWorkgroup": limits.max_compute_invocations_per_workgroup,
                    "maxComputeWorkgroupsPerDimension": limits.max_compute_workgroups_per_dimension,
                },
            })
        );
    }
    let gpu = Gpu::new(GpuOptions::default()).await?;
    let (report, features) = (gpu.adapter(), gpu.features());
    println!(
        "{}",
        json!({
            "taken": report.name, "backend": report.backend, "software": report.is_fallback,
            "subgroupSize": features.subgroup_size, "f16": features.half,
            "maxBindingBytes": gpu.max_binding_bytes(),
        })
    );
    Ok(())
}

async fn open(model: &PathBuf) -> Result<(Directory, Vec<Box<dyn ByteSource>>), Error> {
    let mut sources: Vec<Box<dyn ByteSource>> = vec![Box::new(FileSource::open(model)?)];
    Ok((read_directory(&mut sources).await?, sources))
}

/// A GPU and its kernels: the race is run on a software adapter, too.
async fn chosen(directory: &Directory, pinned: Option<&str>) -> Result<(Rc<Gpu>, KernelMap), Error> {
    let hints = TuneOptions { pinned, race_anyway: true, ..TuneOptions::default() };
    let choice = choose(Device::WebGpu, directory, hints).await?;
    let (Some(gpu), Some(kernels)) = (choice.gpu, choice.kernels) else {
        return Err(Error::NoAdapter { reason: "nothing was chosen".to_owned() });
    };
    let wrong: Vec<String> = kernels.wrong.iter().map(ToString::to_string).collect();
    println!(
        "{}",
        json!({ "chosen": kernels.kernels.to_string(), "how": format!("{:?}", kernels.how), "wrong": wrong })
    );
    Ok((gpu, kernels.kernels))
}

async fn race(model: &PathBuf) -> Result<(), Error> {
    let (directory, _) = open(model).await?;
    let (gpu, _) = chosen(&directory, None).await?;
    time_all(&gpu, &directory, &mut |timing| {
        let matrix = timing.matrix;
        println!(
            "{}",
            json!({
                "matrix": format!("{}x{}", matrix.cols, matrix.rows), "type": matrix.dtype.name(),
                "tokens": timing.tokens, "kernel": timing.kernel, "ms": timing.ms, "right": timing.right,
            })
        );
    })
    .await
}

async fn load(
    model: &PathBuf,
    kernels: Option<&str>,
    longest: u32,
    timeline: bool,
) -> Result<(TextEngine<GpuBackend>, Rc<Gpu>), Error> {
    let (directory, mut sources) = open(model).await?;
    let (mut gpu, kernels) = chosen(&directory, kernels).await?;
    if timeline {
        gpu = Gpu::new(GpuOptions { timeline, ..GpuOptions::default() }).await?;
    }
    let context_length = engine::context_length(&directory, Some(f64::from(longest)))?;
    let mut backend = GpuBackend::new(gpu.clone(), engine::MAX_BATCH, context_length)?;
    backend.set_kernels(kernels);
    let options = LoadOptions { context_length, kv: Default::default(), draft_tokens: 0 };
    let begun = Instant::now();
    let engine = TextEngine::load(backend, directory, &mut sources, options, &mut |_| Ok(())).await?;
    println!("{}", json!({ "loadSeconds": begun.elapsed().as_secs_f64() }));
    Ok((engine, gpu))
}

/// Tokens that nothing in the cache begins with.
fn made_up_prompt(tokens: u32, number: u32) -> Prompt {
    Prompt::Tokens((0..tokens).map(|i| 500 + (number * 37 + i * 101) % 20_000).collect())
}

async fn timeline(model: &PathBuf, kernels: Option<&str>, after: &[u32]) -> Result<(), Error> {
    let longest = after.iter().max().map_or(1, |longest| longest + 16);
    let (mut engine, gpu) = load(model, kernels, longest, true).await?;
    let options = GenerateOptions {
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        max_tokens: Some(4),
        ignore_end: true,
        ..GenerateOptions::default()
    };
    for &prompt in after {
        for number in 0..2 {
            gpu.take_timeline().await?;
            engine
                .generate(&made_up_prompt(prompt, prompt + number), &options, &mut |_| (), &|| false)
                .await?;
        }
        // The last submits are decode steps, the one before them ends the prompt.
        let ran = gpu.take_timeline().await?;
        let starts: Vec<usize> = (0..ran.len()).filter(|i| ran[*i].label.is_empty()).collect();
        let submits: Vec<_> = starts
            .iter()
            .enumerate()
            .map(|(i, &start)| &ran[start..starts.get(i + 1).copied().unwrap_or(ran.len())])
            .collect();
        // Three steps decode; the submit before them is the prompt's last batch.
        for (what, back) in [("last batch of the prompt", 4), ("decode step", 2)] {
            let Some(submit) = submits.len().checked_sub(back).map(|i| submits[i]) else { continue };
            print_submit(what, prompt, submit);
        }
    }
    Ok(())
}

/// Dispatches of a kernel together, those that took longest first.
fn print_submit(what: &str, prompt: u32, submit: &[emberglass::gpu::Ran]) {
    let (gap, dispatches) = submit.split_first().map_or((0.0, submit), |(start, rest)| (start.us, rest));
    let mut kernels: Vec<(&str, u32, f64)> = Vec::new();
    for ran in dispatches {
        match kernels.iter_mut().find(|(label, ..)| *label == ran.label) {
            Some((_, count, us)) => (*count, *us) = (*count + 1, *us + ran.us),
            None => kernels.push((&ran.label, 1, ran.us)),
        }
    }
    kernels.sort_by(|a, b| b.2.total_cmp(&a.2));
    let total: f64 = kernels.iter().map(|(.., us)| us).sum();
    println!(
        "{}",
        json!({ "submit": what, "prompt": prompt, "dispatches": dispatches.len(), "gpuUs": total, "idleBeforeUs": gap })
    );
    for (label, count, us) in kernels {
        println!("{}", json!({ "dispatch": label, "count": count, "us": us, "each": us / f64::from(count) }));
    }
}

/// Each run has a prompt of its own, so that nothing of it is in the cache.
async fn time_tokens(
    engine: &mut TextEngine<GpuBackend>,
    prompt: u32,
    tokens: u32,
    runs: u32,
) -> Result<(), Error> {
    let options = GenerateOptions {
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        max_tokens: Some(tokens as usize),
        ignore_end: true,
        ..GenerateOptions::default()
    };
    let (mut first, mut decode) = (Vec::new(), Vec::new());
    let mut cost = serde_json::Value::Null;
    // The first run is not timed.
    for run in 0..=runs {
        let text = made_up_prompt(prompt, prompt * 7 + tokens * 3 + run + 1);
        let done = engine.generate(&text, &options, &mut |_| (), &|| false).await?;
        if run > 0 {
            first.push(done.prefill_ms);
            decode.push(done.decode_ms / f64::from(tokens.max(2) - 1));
        }
        let (steps, traffic) = (done.decode_steps.max(1), done.decode_traffic);
        cost = json!({ "dispatches": traffic.dispatches / steps, "submits": traffic.submits / steps,
                       "weightBytes": traffic.weight_bytes / steps });
    }
    let [first, decode] = [first, decode].map(spread);
    let mut line = json!({ "prompt": prompt, "firstTokenMs": first,
                           "prefillTokensPerSecond": f64::from(prompt) / first["median"].as_f64().unwrap_or(0.0) * 1e3 });
    if tokens > 1 {
        line["decoded"] = tokens.into();
        line["decodeTokensPerSecond"] = (1e3 / decode["median"].as_f64().unwrap_or(0.0)).into();
        line["decodeMs"] = decode;
        line["eachToken"] = cost;
    }
    println!("{line}");
    Ok(())
}

/// The best and the middle of some times.
fn spread(mut values: Vec<f64>) -> serde_json::Value {
    values.sort_by(f64::total_cmp);
    json!({ "best": values.first(), "median": values.get(values.len() / 2) })
}

async fn pictures(weights: &[PathBuf], sides: &[u32], runs: u32) -> Result<(), Error> {
    for precision in [Precision::F32, Precision::F16] {
        let gpu = Gpu::new(GpuOptions::default()).await?;
        let mut sources: Vec<Box<dyn ByteSource>> = Vec::new();
        for path in weights {
            sources.push(Box::new(FileSource::open(path)?));
        }
        let backend = GpuImages::new(gpu, precision)?;
        let mut model = ImageModel::load(backend, &mut sources, &mut |_| Ok(())).await?;
        for &side in sides {
            // In quarters of a latent's usual size: every wave is smooth.
            let (channels, cells) = (model.latent_channels(), side.div_ceil(model.scale()));
            let wave = |i: u32| {
                let (c, y, x) = (i / (cells * cells), i / cells % cells, i % cells);
                ((y as f32 * 0.31 + c as f32).sin() + (x as f32 * 0.23 + c as f32 * 1.7).cos()) * 0.8
            };
            let values = (0..channels * cells * cells).map(wave).collect();
            let latents = emberglass::Latents { channels, height: cells, width: cells, values };
            let mut times = Vec::new();
            // The first run is not timed.
            for run in 0..=runs {
                let begun = Instant::now();
                model.decode(&latents, &DecodeOptions::default(), &mut |_| {}, &|| false).await?;
                if run > 0 {
                    times.push(begun.elapsed().as_secs_f64() * 1e3);
                }
            }
            println!(
                "{}",
                json!({
                    "side": cells * model.scale(), "precision": format!("{:?}", model.precision()),
                    "ms": spread(times), "dispatches": model.decode_dispatches(),
                    "bytes": model.backend().allocated_bytes(),
                })
            );
        }
    }
    Ok(())
}
