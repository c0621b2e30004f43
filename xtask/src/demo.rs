//! `cargo xtask demo`: everything from the sources to a page that runs.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::shell::headline;
use crate::{bench, model, paths, serve, wasm, web};

/// Builds the site and serves it.
pub fn run(chosen: Option<&Path>, serving: Option<Serving>) -> Result<()> {
    // A mistyped name should not show only after the build.
    let model = chosen.map(Model::of).transpose()?;
    wasm::build()?;
    web::build()?;
    let model = model.map_or_else(Model::default_one, Ok)?;
    let site = paths::site();
    if site.exists() {
        fs::remove_dir_all(&site)?;
    }
    assemble(&paths::root().join("www/dist"), &site, &model, link)?;
    fs::write(site.join(SIZES), sizes()?)?;
    serving.map_or(Ok(()), serve_site)
}

/// How the site is served.
#[derive(Clone, Copy)]
pub struct Serving {
    /// The port, or the next free one.
    pub port: u16,
    /// With the headers that threads need.
    pub isolated: bool,
}

/// Serves the site that is there, until stopped.
pub fn serve_site(serving: Serving) -> Result<()> {
    let site = paths::site();
    if !site.join("index.html").is_file() {
        bail!("{} has no page yet: run `cargo xtask demo`", site.display());
    }
    let server = serve::Server::bind(&site, serving.port, serving.isolated)?;
    println!("\nEmberglass is at {}", server.url());
    println!("Press Ctrl+C to stop.");
    server.run();
    Ok(())
}

/// The model that the page offers.
pub struct Model {
    pub file: PathBuf,
    pub name: String,
    /// The sampling options that are recommended for it, by the package's names, where this program knows them.
    sampling: &'static [(&'static str, f64)],
}

impl Model {
    /// The file that the user names.
    pub fn of(file: &Path) -> Result<Self> {
        // Relative to where the user is.
        let file =
            fs::canonicalize(file).with_context(|| format!("could not open the model {}", file.display()))?;
        let mut magic = [0; 4];
        let read = fs::File::open(&file).and_then(|mut file| file.read_exact(&mut magic));
        if read.is_err() || magic != *b"GGUF" {
            bail!("{} is not a GGUF model", file.display());
        }
        let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if is_shard(&name) {
            bail!(
                "{} is one part of a split model; leave --model out and open all parts together \
                 with “Open a .gguf file…” on the page",
                file.display()
            );
        }
        Ok(Self { file, name, sampling: &[] })
    }

    /// The default model, downloaded the first time.
    pub fn default_one() -> Result<Self> {
        Ok(Self { file: model::default_model()?, name: model::NAME.to_owned(), sampling: model::SAMPLING })
    }

    /// As the page takes them.
    pub fn sampling_options(&self) -> serde_json::Map<String, serde_json::Value> {
        self.sampling.iter().map(|(option, value)| ((*option).to_owned(), (*value).into())).collect()
    }
}

/// Whether a name ends like `-00001-of-00003`.
fn is_shard(stem: &str) -> bool {
    let mut parts = stem.rsplitn(4, '-');
    let number = |part: Option<&str>| {
        part.is_some_and(|part| part.len() == 5 && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    number(parts.next()) && parts.next() == Some("of") && number(parts.next())
}

/// Puts page, model and manifest into one folder of static files; `place` puts the model there.
pub fn assemble(
    pages: &Path,
    site: &Path,
    model: &Model,
    place: impl Fn(&Path, &Path) -> Result<()>,
) -> Result<()> {
    headline(&format!("Putting the site together in {}", site.display()));
    copy_folder(pages, site)?;
    let models = site.join("models");
    fs::create_dir_all(&models)?;
    let name = model.file.file_name().unwrap_or_default();
    // A hard link to a symbolic link would be another symbolic link.
    let file = fs::canonicalize(&model.file)?;
    let to = models.join(name);
    place(&file, &to)?;
    let manifest = serde_json::json!({
        "default": {
            "url": format!("models/{}", encode(&name.to_string_lossy())),
            "name": model.name,
            "bytes": fs::metadata(&to)?.len(),
            "sha256": model::sha256(&to)?,
            "sampling": model.sampling_options(),
        }
    });
    fs::write(models.join("manifest.json"), format!("{manifest:#}\n"))?;
    Ok(())
}

/// The file of the site that says to the bench page how large the engine is.
pub const SIZES: &str = "bench.json";

/// What it holds.
pub fn sizes() -> Result<String> {
    Ok(format!("{}\n", serde_json::json!({ "runtimeBytes": bench::runtime_bytes()? })))
}

/// A second name for the same file where the disk allows it, otherwise a copy.
pub fn link(from: &Path, to: &Path) -> Result<()> {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).with_context(|| format!("could not copy {}", from.display()))?;
    }
    Ok(())
}

/// With its folders.
pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let entries = fs::read_dir(from).with_context(|| format!("could not read {}", from.display()))?;
    for entry in entries {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// A file name as a part of a URL.
fn encode(name: &str) -> String {
    name.bytes().fold(String::new(), |mut url, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url += &format!("%{byte:02X}");
        }
        url
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_url_parts() {
        assert_eq!(encode("SmolLM2-135M.Q4_1.gguf"), "SmolLM2-135M.Q4_1.gguf");
        assert_eq!(encode("a b#c?é%.gguf"), "a%20b%23c%3F%C3%A9%25.gguf");
    }

    #[test]
    fn shards_are_told_from_whole_files() {
        assert!(is_shard("model-q4-00001-of-00003"));
        assert!(!is_shard("model-00001"));
        assert!(!is_shard("SmolLM2-135M-Instruct.Q4_1"));
        assert!(!is_shard("one-of-a-kind"));
    }
}
