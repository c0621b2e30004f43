//! The two commands of the repository, `cargo xtask demo` and `cargo xtask test`, and the parts
//! they are made of. Both work on a fresh machine: what is missing is installed, or named.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed test panics"))]

mod bench;
mod bundlers;
mod demo;
#[cfg(unix)]
mod devtools;
mod fuzz;
#[cfg(unix)]
mod gpu_bundle;
#[cfg(unix)]
mod gpu_report;
#[cfg(unix)]
mod gpu_run;
#[cfg(unix)]
mod gpu_web;
mod model;
mod notices;
mod offline;
mod one_file;
mod paths;
mod real_models;
mod reference;
mod serve;
mod setup;
mod shaders;
mod shell;
mod test;
mod wasm;
mod web;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, shows and tests Emberglass.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything, get the default model and serve the page on localhost.
    Demo {
        /// Model to offer instead of the default one.
        #[arg(long, value_name = "FILE.gguf")]
        model: Option<PathBuf>,
        /// Port to serve on; the next free one is taken if it is in use.
        #[arg(long, default_value_t = serve::DEFAULT_PORT)]
        port: u16,
        /// Only build the folder of static files, target/site.
        #[arg(long)]
        no_serve: bool,
        /// Serve without the headers that threads need, as a plain static host does.
        #[arg(long)]
        no_isolation: bool,
    },
    /// Write one HTML file with pages, engine and model in it, for a double click: no server, no network.
    OneFile {
        /// The file to write.
        #[arg(value_name = "OUT.html")]
        out: PathBuf,
        /// Model to put in instead of the default one.
        #[arg(long, value_name = "FILE.gguf")]
        model: Option<PathBuf>,
        /// Weights of an image decoder to put in, for the picture page, such as www/public/emoji/emoji-vae.safetensors.
        #[arg(long, value_name = "FILE.safetensors")]
        image: Option<PathBuf>,
        /// Take the page as it was built last.
        #[arg(long)]
        page_as_it_is: bool,
    },
    /// Write a folder of static files with pages, engine and model, for any host; without a network after one visit.
    Offline {
        /// The folder to write, which must not hold anything yet.
        #[arg(value_name = "OUT")]
        out: PathBuf,
        /// Model to put in instead of the default one.
        #[arg(long, value_name = "FILE.gguf")]
        model: Option<PathBuf>,
        /// Take the site as it was built last.
        #[arg(long)]
        site_as_it_is: bool,
    },
    /// Run everything that CI runs.
    Test {
        /// Run only these steps, in the usual order.
        #[arg(long, value_name = "STEP", value_delimiter = ',')]
        only: Vec<String>,
        /// List the steps.
        #[arg(long)]
        list: bool,
        /// Run all of what CI runs a sample of: every kernel variant in the browser, large pictures.
        #[arg(long)]
        exhaustive: bool,
    },
    /// Build and open the examples of bundlers with the packed npm package, as it was built last.
    Bundlers {
        /// Only these set-ups, such as `vite8` or `esbuild`.
        names: Vec<String>,
    },
    /// Measure Emberglass beside its peers in headless Chromium; writes target/bench.json.
    Bench {
        /// Model to measure instead of the default one and its requantized twins.
        #[arg(long, value_name = "FILE.gguf")]
        model: Option<PathBuf>,
        /// Measure transformers.js too, out of the folder that tools/bench-onnx/README.md makes.
        #[arg(long, value_name = "DIR")]
        onnx: Option<PathBuf>,
        /// Short prompts, few tokens, one pass: whether it runs, not how fast.
        #[arg(long)]
        quick: bool,
        /// Long prompts on a software adapter too, which takes long.
        #[arg(long, conflicts_with = "quick")]
        long: bool,
    },
    /// Build a folder that tests and measures on any Linux machine with a GPU: target/gpu-bundle.
    #[cfg(unix)]
    GpuBundle {
        /// Where the bundle goes.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Make pieces of at most 60 MB of it, too, in this folder; `unpack.sh` puts them together.
        #[arg(long, value_name = "DIR")]
        parts: Option<PathBuf>,
        /// Take transformers.js along, out of the folder that tools/bench-onnx/README.md makes.
        #[arg(long, value_name = "DIR")]
        onnx: Option<PathBuf>,
        /// Leave the browser and the site out.
        #[arg(long)]
        native_only: bool,
        /// Take the site and the npm package as they were built last.
        #[arg(long)]
        site_as_it_is: bool,
    },
    /// Run a bundle: its run.sh does.
    #[cfg(unix)]
    #[command(hide = true)]
    GpuRun {
        /// The bundle.
        bundle: PathBuf,
        /// Folder for the reports.
        out: PathBuf,
        /// Time for all parts together.
        #[arg(long, default_value_t = 540)]
        seconds: u64,
        /// Only these parts; `native` and `browser` are groups of them.
        #[arg(long, value_name = "PART", value_delimiter = ',')]
        only: Vec<String>,
        /// Little of everything: whether it runs, not how fast.
        #[arg(long)]
        quick: bool,
        /// Multiply the limit of each part: software adapters on a busy machine need more time.
        #[arg(long, value_name = "FACTOR", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
        patience: u32,
    },
    /// Give broken and hostile input to one part, or to all.
    Fuzz {
        /// The part; all of them, without coverage, if none is named.
        target: Option<String>,
        /// Seconds for each.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Only run this input, such as one that failed.
        #[arg(long, value_name = "FILE", requires = "target")]
        input: Option<PathBuf>,
        /// Change seeds at random, also where coverage could guide.
        #[arg(long)]
        seeded: bool,
    },
    /// Serve target/site as it is, without building.
    Serve {
        /// Port to serve on; the next free one is taken if it is in use.
        #[arg(long, default_value_t = serve::DEFAULT_PORT)]
        port: u16,
        /// Leave out the headers that threads need, as a plain static host does.
        #[arg(long)]
        no_isolation: bool,
    },
    /// Build the wasm into pkg/wasm, once for each SIMD level, and print the sizes.
    Wasm,
    /// Get the default model into .cache/models and print its path.
    Model,
    /// Compare Gemma 3 270M and Qwen2.5-Coder 0.5B, both Q4_K_M, with llama.cpp's answers; downloads 745 MB, once.
    RealModels {
        /// Only on this device.
        #[arg(long)]
        device: Option<real_models::Device>,
        /// In the page instead: build the site and ask both in headless Chromium, on the CPU.
        #[arg(long, conflicts_with = "device")]
        page: bool,
    },
    /// Write NOTICE.md anew.
    Notices,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo { model, port, no_serve, no_isolation } => {
            let serving = demo::Serving { port, isolated: !no_isolation };
            demo::run(model.as_deref(), (!no_serve).then_some(serving))
        }
        Command::Offline { out, model, site_as_it_is } => {
            offline::run(&offline::Wishes { out, model, site_as_it_is })
        }
        Command::OneFile { out, model, image, page_as_it_is } => {
            one_file::run(&one_file::Wishes { out, model, image, page_as_it_is })
        }
        Command::Bench { model, onnx, quick, long } => {
            bench::bench(&bench::Wishes { model, onnx, quick, long })
        }
        #[cfg(unix)]
        Command::GpuBundle { out, parts, onnx, native_only, site_as_it_is } => {
            gpu_bundle::build(&gpu_bundle::Wishes { out, parts, onnx, native_only, site_as_it_is })
        }
        #[cfg(unix)]
        Command::GpuRun { bundle, out, seconds, only, quick, patience } => {
            gpu_run::run(&gpu_run::Wishes { bundle, out, seconds, only, quick, patience })
        }
        Command::Fuzz { target, seconds, input, seeded } => {
            fuzz::fuzz(&fuzz::Options { target, seconds, input, seeded })
        }
        Command::Test { only, list, exhaustive } => {
            let extent = if exhaustive { test::Extent::Exhaustive } else { test::Extent::Sample };
            test::run_command(&only, list, extent)
        }
        Command::Serve { port, no_isolation } => {
            demo::serve_site(demo::Serving { port, isolated: !no_isolation })
        }
        Command::Bundlers { names } => bundlers::run_examples(&names),
        Command::Wasm => wasm::build(),
        Command::Model => model::default_model().map(|path| println!("{}", path.display())),
        Command::RealModels { page: true, .. } => real_models::ask_in_the_page(),
        Command::RealModels { device, .. } => real_models::compare(device),
        Command::Notices => notices::write(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
