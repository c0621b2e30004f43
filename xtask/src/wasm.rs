//! Builds the crate for the browser: cargo, wasm-bindgen, wasm-opt.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::shell::{cargo, headline, program, run};
use crate::{paths, setup, web};

/// The browser's target.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// What rustc may emit for this target by default, and SIMD. Every browser with WebGPU has them.
const WASM_FEATURES: [&str; 8] = [
    "--enable-bulk-memory",
    "--enable-bulk-memory-opt",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
    "--enable-simd",
];

/// Writes pkg/wasm and prints the size of the module.
pub fn build() -> Result<()> {
    setup::wasm_target()?;
    let tools = setup::wasm_bindgen()?;
    let wasm_opt = web::wasm_opt()?;

    headline("Building the wasm");
    run(cargo().args(["build", "--profile", "wasm", "--lib", "--target", TARGET]))?;
    let built = paths::target().join(TARGET).join("wasm/emberglass.wasm");
    // Next to where it goes: pkg/wasm appears whole or not at all.
    let folder = paths::root().join("pkg/wasm");
    let fresh = paths::target().join("wasm-bindgen");
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    run(program(&tools.bindgen)
        .args(["--target", "web", "--out-name", "emberglass", "--out-dir"])
        .args([&fresh, &built]))?;

    headline("Optimizing the wasm");
    let module = fresh.join("emberglass_bg.wasm");
    let before = size(&fs::read(&module)?)?;
    run(program(wasm_opt).arg("-Os").args(WASM_FEATURES).arg(&module).arg("-o").arg(&module))?;
    let after = size(&fs::read(&module)?)?;
    println!("  wasm before wasm-opt: {before}");
    println!("  wasm as shipped:      {after}");

    fs::create_dir_all(&folder)?;
    for entry in fs::read_dir(&fresh)? {
        let entry = entry?;
        let to = folder.join(entry.file_name());
        fs::copy(entry.path(), &to).with_context(|| format!("could not write {}", to.display()))?;
    }
    Ok(())
}

fn size(module: &[u8]) -> Result<String> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(module)?;
    let gzip = encoder.finish()?.len();
    Ok(format!("{} bytes, {gzip} bytes after gzip -9", module.len()))
}
