//! The npm side: packages, the TypeScript build, the page.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::shell::{headline, program, run};
use crate::{paths, setup};

/// Builds the npm package and then the page, which imports it.
pub fn build() -> Result<()> {
    headline("Building the npm package");
    install("pkg")?;
    run(npm("pkg").args(["run", "build"]))?;
    headline("Building the page");
    install("www")?;
    run(npm("www").args(["run", "build"]))
}

/// Checks the types of both and runs the package's own tests.
pub fn check() -> Result<()> {
    install("pkg")?;
    run(npm("pkg").args(["run", "check"]))?;
    // The page is checked against the package's built types, which need no wasm.
    run(npm("pkg").args(["run", "types"]))?;
    run(npm("pkg").arg("test"))?;
    install("www")?;
    run(npm("www").args(["run", "check"]))
}

/// The wasm-opt program.
pub fn wasm_opt() -> Result<PathBuf> {
    install("xtask/node")?;
    Ok(paths::root().join("xtask/node/node_modules/.bin/wasm-opt"))
}

/// npm in one of the repository's folders.
pub fn npm(folder: &str) -> Command {
    let name = if cfg!(windows) { "npm.cmd" } else { "npm" };
    let mut command = program(name);
    command.current_dir(paths::root().join(folder)).env("npm_config_loglevel", "error");
    command
}

/// Installs what the folder's lock file says, unless that was done before.
pub fn install(folder: &str) -> Result<()> {
    setup::node()?;
    let path = paths::root().join(folder);
    let stamp = path.join("node_modules/.installed-from");
    let wanted = lock_of(&path)?;
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    run(npm(folder).args(["ci", "--no-audit", "--no-fund"]))?;
    fs::write(&stamp, wanted).with_context(|| format!("could not write {}", stamp.display()))
}

fn lock_of(folder: &Path) -> Result<Vec<u8>> {
    let mut contents = Vec::new();
    for name in ["package.json", "package-lock.json"] {
        let file = folder.join(name);
        contents.extend(fs::read(&file).with_context(|| format!("could not read {}", file.display()))?);
    }
    Ok(contents)
}
