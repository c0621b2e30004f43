//! Judges every expanded shader variant with the compilers on PATH, beside the naga library that
//! the native tests use: tint is the one inside Chromium.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::paths;
use crate::shell::{capture, find, program};

/// Checks target/shaders/*.wgsl, which a native test writes.
pub fn check() -> Result<()> {
    let folder = paths::target().join("shaders");
    let shaders = variants(&folder)
        .context("no expanded shaders: the native tests write them, run `cargo xtask test --only native`")?;
    let mut refused = 0;
    for (name, arguments) in [("tint", ["--format", "wgsl"].as_slice()), ("naga", &[])] {
        let Some(tool) = find(name) else {
            println!("  {name} is not on PATH");
            continue;
        };
        let mut checked = 0;
        for shader in &shaders {
            // naga does not know the `enable` lines that browsers need.
            if name == "naga" && fs::read_to_string(shader)?.contains("enable ") {
                continue;
            }
            checked += 1;
            if let Err(error) = capture(program(&tool).args(arguments).arg(shader)) {
                println!("  {error:#}");
                refused += 1;
            }
        }
        println!("  {name}: {checked} of {} shaders checked", shaders.len());
    }
    if refused > 0 {
        bail!("{refused} shaders were refused");
    }
    Ok(())
}

fn variants(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut shaders: Vec<PathBuf> = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "wgsl"))
        .collect();
    if shaders.is_empty() {
        bail!("{} is empty", folder.display());
    }
    shaders.sort();
    Ok(shaders)
}
