//! `cargo xtask bench`: Emberglass beside its peers, in one run of headless Chromium.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::shell::{capture, headline, program, run};
use crate::{demo, model, paths, reference, serve, setup, web};

/// Rows for a file of which only the CPU paths are compared.
const CPU_ROWS: &str = "cpu-1,cpu-all,cpu-8bit,wllama-1,wllama-all";

/// Builds, measures, prints the tables and writes target/bench.json. Fails when a result was wrong.
pub fn bench(chosen: Option<&Path>, quick: bool) -> Result<()> {
    demo::run(chosen, None)?;
    web::install("tests/e2e")?;
    let quick = if quick { "&quick=1" } else { "" };
    let mut wishes = vec![quick.trim_start_matches('&').to_owned()];
    if chosen.is_none() {
        // A software adapter is slow: the GPU is measured once.
        let rows = if many_cores() { CPU_ROWS } else { "cpu-1,cpu-8bit,wllama-1" };
        for name in requantized()? {
            wishes.push(format!("model=models/{name}&rows={rows}{quick}"));
        }
    }
    let server = serve::Server::bind(&paths::site(), 0, true)?;
    let url = server.url();
    server.start();
    headline("Measuring (some minutes; leave the machine alone)");
    let reports = capture(
        program("node")
            .arg(paths::root().join("tools/bench/run.mjs"))
            .arg(url)
            .args(wishes)
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
        let served = paths::site().join("models").join(&name);
        if fs::hard_link(&file, &served).is_err() {
            fs::copy(&file, &served).with_context(|| format!("could not copy {}", file.display()))?;
        }
        names.push(name);
    }
    Ok(names)
}
