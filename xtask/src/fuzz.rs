//! `cargo xtask fuzz`: the targets of `fuzz/`, guided by coverage where there is a C++ compiler.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::paths;
use crate::shell::{cargo, find, program, run};

/// Seconds for each target in `cargo xtask test`.
const SAMPLE_SECONDS: &str = "2";

fn corpus() -> PathBuf {
    paths::root().join("fuzz/corpus")
}

/// Where the input that failed is left.
fn findings() -> PathBuf {
    paths::target().join("fuzz")
}

/// Every target for a short time, seeded: the same cases on every machine that is as fast.
pub fn sample() -> Result<()> {
    seeded(&["--seconds", SAMPLE_SECONDS])
}

/// Runs the seeded program in a debug build, whose arithmetic is checked.
fn seeded(arguments: &[&str]) -> Result<()> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "emberglass-fuzz", "--bin", "fuzz-seeded", "--"]);
    command.arg("--corpus").arg(corpus()).arg("--current").arg(findings()).args(arguments);
    run(&mut command).with_context(|| format!("the input that failed is in {}", findings().display()))
}

/// What the command line asks for.
pub struct Options {
    /// One target; all if there is none.
    pub target: Option<String>,
    /// Seconds for each.
    pub seconds: u64,
    /// Only this input.
    pub input: Option<PathBuf>,
    /// Without coverage, also where it could be had.
    pub seeded: bool,
}

/// The command.
pub fn fuzz(options: &Options) -> Result<()> {
    let seconds = options.seconds.to_string();
    let mut arguments = vec!["--seconds", &seconds];
    arguments.extend(options.target.as_deref());
    if let Some(input) = &options.input {
        arguments.extend(["--input", input.to_str().context("the path is not UTF-8")?]);
    }
    let compiler = find("c++").or_else(|| find("clang++"));
    match (&options.target, compiler) {
        (Some(target), Some(_)) if !options.seeded && options.input.is_none() => guided(target, &seconds),
        (Some(_), None) => {
            println!(
                "There is no C++ compiler for libFuzzer: inputs are changed at random, without coverage."
            );
            seeded(&arguments)
        }
        _ => seeded(&arguments),
    }
}

/// libFuzzer needs coverage counters in the code; a stable compiler adds them by LLVM's own pass.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                        -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
                        -Ccodegen-units=1";

fn guided(target: &str, seconds: &str) -> Result<()> {
    let triple = host()?;
    let folder = findings().join("guided");
    run(cargo()
        .args(["build", "--release", "--package", "emberglass-fuzz", "--features", "guided"])
        .args([
            "--bin",
            "fuzz-guided",
            "--target",
            &triple,
            "--config",
            "profile.release.debug-assertions=true",
        ])
        .args(["--config", "profile.release.overflow-checks=true", "--target-dir"])
        .arg(&folder)
        // For the target only: build scripts have no libFuzzer to link.
        .env(format!("CARGO_TARGET_{}_RUSTFLAGS", triple.to_uppercase().replace('-', "_")), COVERAGE))?;
    // What is new goes into the first folder, the corpus stays as it is.
    let (found, kept) = (findings().join("found").join(target), corpus().join(target));
    std::fs::create_dir_all(&found)?;
    let mut command = program(folder.join(&triple).join("release/fuzz-guided"));
    command.arg(&found);
    if kept.is_dir() {
        command.arg(&kept);
    }
    command
        .args([&format!("-max_total_time={seconds}"), "-timeout=30", "-rss_limit_mb=2048", "-max_len=65536"])
        .arg(format!("-artifact_prefix={}/", findings().display()))
        .env("EMBERGLASS_FUZZ_TARGET", target);
    run(&mut command).with_context(|| format!("the input that failed is in {}", findings().display()))
}

fn host() -> Result<String> {
    let printed = crate::shell::capture(program("rustc").arg("-vV"))?;
    match printed.lines().find_map(|line| line.strip_prefix("host: ")) {
        Some(host) => Ok(host.to_owned()),
        None => bail!("`rustc -vV` names no host"),
    }
}
