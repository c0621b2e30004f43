//! The independent implementation's answers: logits of the default model, computed in Python.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::shell::{headline, program, run};
use crate::{model, paths, setup};

const EXPECTED: &str = "tests/data/reference.json";
const TOOL: &str = "tools/reference";

/// Makes .cache/reference/logits.bin, unless it is there and is what the repository says it is.
pub fn dump() -> Result<()> {
    let expected = paths::root().join(EXPECTED);
    let summary = fs::read_to_string(&expected).with_context(|| format!("could not read {EXPECTED}"))?;
    let summary: serde_json::Value = serde_json::from_str(&summary)?;
    let digest =
        summary["logits"]["sha256"].as_str().with_context(|| format!("{EXPECTED} names no logits.sha256"))?;

    let folder = paths::cache().join("reference");
    if model::sha256(&folder.join("logits.bin")).is_ok_and(|found| found == digest) {
        println!("  logits.bin is there, with the digest of {EXPECTED}");
        return Ok(());
    }
    headline("Computing the reference logits (once)");
    let model = model::default_model()?;
    run(program(python()?)
        .arg(format!("{TOOL}/reference.py"))
        .arg("--model")
        .arg(model)
        .arg("--out")
        .arg(folder)
        .args(["--check", EXPECTED]))
}

/// A Python that has what the tools require.
pub fn python() -> Result<PathBuf> {
    let python = setup::python_with("venv", "python3-venv")?;
    let environment = paths::cache().join("venv");
    run(program(python).args(["-m", "venv"]).arg(&environment))?;
    let bin = if cfg!(windows) { "Scripts" } else { "bin" };
    let python = environment.join(bin).join("python");
    run(program(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(["-r", &format!("{TOOL}/requirements.txt")]))?;
    Ok(python)
}
