//! `cargo xtask bench`: Emberglass beside its peers, in one run of headless Chromium.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::shell::{capture, headline, program, run};
use crate::{demo, model, paths, reference, serve, setup, web};

/// Rows for a file of which only the CPU paths are compared.
const CPU_ROWS: &str = "cpu-1,cpu-all,cpu-8bit,wllama-1,wllama-all";

/// What transformers.js needs, in the folder that tools/bench-onnx/README.md makes, and where it goes in the site's.
const ONNX_FILES: [(&str, &str); 4] = [
    ("node_modules/@huggingface/transformers/dist/transformers.min.js", "transformers.min.js"),
    (
        "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.asyncify.mjs",
        "ort-wasm-simd-threaded.asyncify.mjs",
    ),
    (
        "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.asyncify.wasm",
        "ort-wasm-simd-threaded.asyncify.wasm",
    ),
    ("smollm2", "model"),
];

/// What to measure.
pub struct Wishes {
    /// Instead of the default model and its requantized twins.
    pub model: Option<PathBuf>,
    /// Where transformers.js, its runtime and its model are, if it shall run too.
    pub onnx: Option<PathBuf>,
    /// Few tokens, one pass.
    pub quick: bool,
    /// Long prompts on a software adapter too.
    pub long: bool,
}

/// Builds, measures, prints the tables and writes target/bench.json. Fails when a result was wrong.
pub fn bench(wishes: &Wishes) -> Result<()> {
    if wishes.onnx.is_some() && wishes.model.is_some() {
        bail!("the weights of --onnx are the default model's: leave --model out");
    }
    demo::run(wishes.model.as_deref(), None)?;
    if let Some(folder) = &wishes.onnx {
        add_onnx(folder, &paths::site())?;
    }
    web::install("tests/e2e")?;
    let queries = queries(wishes)?;
    let server = serve::Server::bind(&paths::site(), 0, true)?;
    let url = server.url();
    server.start();
    headline("Measuring (up to an hour, with --quick some minutes; leave the machine alone)");
    let reports = capture(
        program("node")
            .arg(paths::root().join("tools/bench/run.mjs"))
            .arg(url)
            .args(queries)
            .env("CHROMIUM", setup::browser()?),
    )?;
    let file = paths::target().join("bench.json");
    fs::write(&file, &reports).with_context(|| format!("could not write {}", file.display()))?;
    let reports: serde_json::Value = serde_json::from_str(&reports)?;
    for report in reports.as_array().into_iter().flatten() {
        println!("{}\n", report["markdown"].as_str().unwrap_or_default());
    }
    println!("  {}", file.display());
    if reports.as_array().into_iter().flatten().any(|report| report["ok"] != true) {
        bail!("not all rows passed their check");
    }
    Ok(())
}

/// What the page is asked for, one visit each.
fn queries(wishes: &Wishes) -> Result<Vec<String>> {
    let mut options = String::new();
    for (wanted, option) in [(wishes.quick, "&quick=1"), (wishes.long, "&long=1")] {
        options += if wanted { option } else { "" };
    }
    let onnx = if wishes.onnx.is_some() { "&onnx=1" } else { "" };
    let mut queries = vec![format!("{options}{onnx}").trim_start_matches('&').to_owned()];
    if wishes.model.is_none() && !wishes.quick {
        // A software adapter is slow: the GPU is measured once.
        let rows = if many_cores() { CPU_ROWS } else { "cpu-1,cpu-8bit,wllama-1" };
        for name in requantized()? {
            queries.push(format!("model=models/{name}&rows={rows}{options}"));
        }
    }
    Ok(queries)
}

/// Puts transformers.js and its model into a site.
pub fn add_onnx(folder: &Path, site: &Path) -> Result<()> {
    let to = site.join("onnx");
    fs::create_dir_all(&to)?;
    for (from, name) in ONNX_FILES {
        let from = folder.join(from);
        if !from.exists() {
            bail!("{} is not there: tools/bench-onnx/README.md says how to make it", from.display());
        }
        if from.is_dir() {
            demo::copy_folder(&from, &to.join(name))?
        } else {
            demo::link(&from, &to.join(name))?
        }
    }
    Ok(())
}

/// Bytes after gzip -9 of what a page has to fetch to run a language model: the package's main script, not minified, the
/// worker's script, and the larger of the two wasm builds.
pub fn runtime_bytes() -> Result<u64> {
    let folder = paths::root().join("pkg/dist");
    let (mut scripts, mut larger) = (0, 0);
    for entry in fs::read_dir(&folder).with_context(|| format!("could not read {}", folder.display()))? {
        let file = entry?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let script = name == "index.js" || name == "emberglass-worker.js" || name.starts_with("chunk-");
        if script && name.ends_with(".js") {
            scripts += gzip_bytes(&file)?;
        } else if name.ends_with(".wasm") {
            larger = larger.max(gzip_bytes(&file)?);
        }
    }
    Ok(scripts + larger)
}

fn gzip_bytes(file: &Path) -> Result<u64> {
    let bytes = fs::read(file).with_context(|| format!("could not read {}", file.display()))?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&bytes)?;
    Ok(encoder.finish()?.len() as u64)
}

/// Whether the page has rows for several threads.
fn many_cores() -> bool {
    std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1)
}

/// The default model's weights in the two formats for which llama.cpp has SIMD kernels in wasm, made
/// once and put into the site. Names of the files.
fn requantized() -> Result<Vec<String>> {
    let source = model::default_model()?;
    let mut names = Vec::new();
    for format in ["Q8_0", "Q4_0"] {
        let name = format!("SmolLM2-135M-Instruct.{format}.gguf");
        let file: PathBuf = paths::cache().join("models").join(&name);
        if !file.is_file() {
            headline(&format!("Requantizing the default model to {format} (once)"));
            run(program(reference::python()?)
                .arg("tools/requantize/requantize.py")
                .arg(&source)
                .arg(format)
                .arg(&file))?;
        }
        demo::link(&file, &paths::site().join("models").join(&name))?;
        names.push(name);
    }
    Ok(names)
}
