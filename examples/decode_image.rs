//! Decodes seeded latents and says how long it takes.
//!
//! `cargo run --release --example decode_image -- --weights DECODER.safetensors --height 32 --width 32`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use emberglass::cpu::{CpuImages, Level, Team};
use emberglass::gpu::GpuImages;
use emberglass::graph::{ImageBackend, Precision};
use emberglass::{ByteSource, DecodeOptions, Error, FileSource, Gpu, GpuOptions, ImageModel, Latents};

#[derive(Clone, Copy, ValueEnum)]
enum DeviceName {
    Gpu,
    Cpu,
}

#[derive(Parser)]
#[command(about = "Decode seeded latents with an image model")]
struct Arguments {
    /// Safetensors files.
    #[arg(long, required = true, num_args = 1..)]
    weights: Vec<PathBuf>,
    /// What computes.
    #[arg(long, value_enum, default_value = "cpu")]
    device: DeviceName,
    /// Rows of the latents.
    #[arg(long, default_value_t = 32)]
    height: u32,
    /// Columns of the latents.
    #[arg(long, default_value_t = 32)]
    width: u32,
    /// MiB that the network's pictures may take.
    #[arg(long)]
    memory: Option<u64>,
    /// Threads that compute, on the CPU.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Store pictures and weights as f16, on the GPU.
    #[arg(long)]
    f16: bool,
    /// Where the picture's bytes go: RGBA, raw.
    #[arg(long)]
    out: Option<PathBuf>,
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
    match arguments.device {
        DeviceName::Cpu if arguments.f16 => Err(Error::InvalidOption {
            option: "f16",
            value: "true".to_owned(),
            range: "only with --device gpu: the CPU stores pictures and weights as f32".into(),
        }),
        DeviceName::Cpu => {
            let team = Team::threads(arguments.threads)?;
            decode(CpuImages::new(Level::best()).with_team(team), arguments).await
        }
        DeviceName::Gpu => {
            let gpu = Gpu::new(GpuOptions::default()).await?;
            let precision = if arguments.f16 { Precision::F16 } else { Precision::F32 };
            decode(GpuImages::new(gpu, precision)?, arguments).await
        }
    }
}

async fn decode<B: ImageBackend>(backend: B, arguments: Arguments) -> Result<(), Error> {
    let mut sources: Vec<Box<dyn ByteSource>> = Vec::new();
    for path in &arguments.weights {
        sources.push(Box::new(FileSource::open(path)?));
    }
    let mut model = ImageModel::load(backend, &mut sources, &mut |_| Ok(())).await?;
    let (channels, height, width) = (model.latent_channels(), arguments.height, arguments.width);
    // Smooth, so that the picture is worth looking at.
    let wave = |i: u32| {
        let (c, y, x) = (i / (height * width), i / width % height, i % width);
        ((y as f32 * 0.31 + c as f32).sin() + (x as f32 * 0.23 + c as f32 * 1.7).cos()) * 0.8
    };
    let latents =
        Latents { channels, height, width, values: (0..channels * height * width).map(wave).collect() };
    let options = DecodeOptions { memory: arguments.memory.map(|mib| mib << 20), ..DecodeOptions::default() };
    for run in 0..3 {
        let begun = Instant::now();
        let picture = model.decode(&latents, &options, &mut |_| {}, &|| false).await?;
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "run {run}: {} × {} in {:.0} ms, {} dispatches, {:.1} MB held",
            picture.width,
            picture.height,
            seconds * 1e3,
            model.decode_dispatches(),
            model.backend().allocated_bytes() as f64 / 1e6
        );
        if let Some(path) = &arguments.out {
            std::fs::write(path, &picture.rgba).map_err(|e| Error::Io {
                name: path.display().to_string(),
                offset: 0,
                reason: e.to_string(),
            })?;
        }
    }
    Ok(())
}
