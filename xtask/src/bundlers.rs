//! `cargo xtask bundlers`: the packed npm package in every bundler of examples/bundlers, opened in Chromium.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::shell::{capture, program, run};
use crate::{paths, setup, web};

/// Tries the set-ups of these names, or all of them, with the package as it was built last.
pub fn run_examples(names: &[String]) -> Result<()> {
    let package = paths::root().join("pkg");
    if !package.join("dist/index.js").is_file() {
        bail!("the npm package is not built: run `cargo xtask demo --no-serve`");
    }
    web::install("tests/e2e")?;
    let work = paths::target().join("bundlers");
    let packed = paths::target().join("package");
    fs::create_dir_all(&packed).with_context(|| format!("could not make {}", packed.display()))?;
    let tarball = capture(web::npm("pkg").args(["pack", "--silent", "--pack-destination"]).arg(&packed))?;
    run(program("node")
        .arg("tests/e2e/bundlers.mjs")
        .arg(work)
        .arg(packed.join(tarball))
        .args(names)
        .env("CHROMIUM", setup::browser()?))
}
