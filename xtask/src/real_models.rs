//! `cargo xtask real-models`: two models that people download, against llama.cpp's answers.

use anyhow::Result;
use clap::ValueEnum;

use crate::shell::{cargo, headline, program, run};
use crate::{demo, model, paths, test, web};

/// A backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// The CPU path.
    Cpu,
    /// The Vulkan, Metal or D3D12 adapter; takes an hour on a software one.
    Gpu,
}

/// Downloads the models and compares; `tests/engine/real_models.rs` has the comparison.
pub fn compare(device: Option<Device>) -> Result<()> {
    model::GEMMA.get()?;
    model::QWEN.get()?;
    headline("Comparing with llama.cpp's answers (tests/data/real-models.json)");
    let filter = match device {
        Some(Device::Cpu) => "on_the_cpu",
        Some(Device::Gpu) => "on_the_gpu",
        None => "on_the",
    };
    let both = ["gemma3", "qwen2"].map(|model| format!("real_models::{model}_{filter}"));
    run(cargo().args(["test", "--release", "--test", "engine", "--"]).args(both).args([
        "--ignored",
        "--nocapture",
        "--test-threads",
        "1",
    ]))
}

/// Downloads the models, builds the site and asks both in the page (`tests/e2e/real-models.mjs`).
pub fn ask_in_the_page() -> Result<()> {
    model::GEMMA.get()?;
    model::QWEN.get()?;
    demo::run(None, None)?;
    web::install("tests/e2e")?;
    headline("Asking both models in Chromium");
    test::drive_page(program("node").current_dir(paths::root().join("tests/e2e")).args([
        "--test",
        "--test-reporter=spec",
        "real-models.mjs",
    ]))
}
