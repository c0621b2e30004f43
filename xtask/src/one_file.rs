//! `cargo xtask one-file`: pages, engine and model in one HTML file, which needs no server.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::demo::Model;
use crate::shell::headline;
use crate::{paths, wasm, web};

/// Where the page's build wants what is inside, and the files themselves. Each is there once.
const DECLARATION: &str = r#"<script type="application/json" id="embedded"></script>"#;
const FILES: &str = "<!-- embedded -->";
/// By this, near its beginning, a file is known to be one of ours.
const MARK: &str = r#"<meta name="generator" content="Emberglass one-file" />"#;
/// Bytes of a block before base64: a multiple of three, so that no block but the last is padded. Smaller blocks take more
/// time to read, larger ones more memory.
const BLOCK: usize = 576 << 10;
/// The most bytes of all files together. Browsers open more, but take a minute and several times as much memory:
/// docs/MEASUREMENTS.md.
const MOST_BYTES: u64 = 2_000_000_000;

/// What is asked for.
pub struct Wishes {
    pub out: PathBuf,
    pub model: Option<PathBuf>,
    pub image: Option<PathBuf>,
    /// The page is taken as it was built last.
    pub page_as_it_is: bool,
}

/// Builds the page and writes the file.
pub fn run(wishes: &Wishes) -> Result<()> {
    // What is wrong with the wishes should not show only after the build.
    check_out(&wishes.out)?;
    let chosen = wishes.model.as_deref().map(Model::of).transpose()?;
    let image = wishes.image.as_deref().map(Image::of).transpose()?;
    if !wishes.page_as_it_is {
        wasm::build()?;
        web::build()?;
    }
    let model = chosen.map_or_else(Model::default_one, Ok)?;
    headline(&format!("Writing {}", wishes.out.display()));
    let built = paths::root().join("www/dist-one-file/index.html");
    let page = fs::read_to_string(&built).with_context(|| {
        format!("could not read {}: run the command without --page-as-it-is", built.display())
    })?;
    let bytes = write(&wishes.out, &page, &model, image.as_ref())?;
    println!("  {:.1} MB: open it in a browser, with a double click", bytes as f64 / 1e6);
    Ok(())
}

/// The weights of an image decoder.
struct Image {
    file: PathBuf,
    name: String,
    /// It is the one of the picture page.
    is_own: bool,
}

impl Image {
    fn of(file: &Path) -> Result<Self> {
        let describe = || format!("could not read the weights {}", file.display());
        let found = fs::canonicalize(file).with_context(describe)?;
        let mut head = [0; 9];
        File::open(&found).and_then(|mut file| file.read_exact(&mut head)).with_context(describe)?;
        // The length of the header, and the JSON text that it is.
        if head[8] != b'{' || head[7] != 0 {
            bail!("{} is not a .safetensors file, which --image takes", file.display());
        }
        let own = fs::read(paths::root().join("www/public/emoji/emoji-vae.safetensors"))?;
        let is_own = fs::metadata(&found)?.len() == own.len() as u64 && fs::read(&found)? == own;
        let name = found.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { file: found, name, is_own })
    }
}

/// Fails where the file would go over something that this command did not write, or into no folder.
fn check_out(out: &Path) -> Result<()> {
    if out.file_name().is_none() || out.is_dir() {
        bail!("{} is a folder: give the name of the file to write, such as chat.html", out.display());
    }
    let ending = out.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    if ending != "html" && ending != "htm" {
        bail!("{} does not end in .html, by which browsers open it with a double click", out.display());
    }
    if !folder_of(out).is_dir() {
        bail!("there is no folder {}", folder_of(out).display());
    }
    if !out.exists() {
        return Ok(());
    }
    let mut head = Vec::new();
    File::open(out)
        .and_then(|file| file.take(1 << 10).read_to_end(&mut head))
        .with_context(|| format!("could not read {}", out.display()))?;
    if !String::from_utf8_lossy(&head).contains(MARK) {
        bail!("{} is there already and is not a file of this command: choose another name", out.display());
    }
    Ok(())
}

fn folder_of(out: &Path) -> &Path {
    out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes it beside where it goes: it appears whole or not at all. Returns its size.
fn write(out: &Path, page: &str, model: &Model, image: Option<&Image>) -> Result<u64> {
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    let partial = out.with_file_name(format!(".{name}.{}.partial", std::process::id()));
    let written = write_whole(&partial, page, model, image).and_then(|()| {
        let bytes = fs::metadata(&partial)?.len();
        fs::rename(&partial, out).with_context(|| format!("could not write {}", out.display()))?;
        Ok(bytes)
    });
    if written.is_err() {
        // The first error counts; there may be no file.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn write_whole(to: &Path, page: &str, model: &Model, image: Option<&Image>) -> Result<()> {
    let (head, rest) = split(page, DECLARATION)?;
    let (body, end) = split(rest, FILES)?;
    let mut embedded = json!({
        "model": { "name": model.name, "bytes": size(&model.file)?, "sampling": model.sampling_options() },
    });
    let mut files = vec![("model", model.file.as_path())];
    if let Some(image) = image {
        embedded["image"] = json!({ "name": image.name, "bytes": size(&image.file)?, "isOwn": image.is_own });
        // First, since it is small: the picture page need not wait for the rest.
        files.insert(0, ("image", image.file.as_path()));
    }
    let all = files.iter().map(|(_, file)| size(file)).sum::<Result<u64>>()?;
    if all > MOST_BYTES {
        bail!(
            "the files have {all} bytes together, more than the {MOST_BYTES} that go into one HTML file: \
             take a smaller quantization, or `cargo xtask offline`, whose folder has no such limit"
        );
    }
    let output = File::create(to).with_context(|| format!("could not write {}", to.display()))?;
    let mut output = BufWriter::new(output);
    // In HTML, `<` could end the script.
    let embedded = embedded.to_string().replace('<', r"\u003c");
    let declaration = DECLARATION.replace("></", &format!(">{embedded}</"));
    for part in [head, &declaration, body] {
        output.write_all(part.as_bytes())?;
    }
    for (role, file) in files {
        write_blocks(&mut output, role, file)
            .with_context(|| format!("could not copy {} into the page", file.display()))?;
    }
    output.write_all(end.as_bytes())?;
    output.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(())
}

fn split<'a>(page: &'a str, mark: &str) -> Result<(&'a str, &'a str)> {
    let mut parts = page.split(mark);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(before), Some(after), None) => Ok((before, after)),
        _ => bail!("the built page has {mark} not once: build it again, without --page-as-it-is"),
    }
}

fn size(file: &Path) -> Result<u64> {
    Ok(fs::metadata(file).with_context(|| format!("could not read {}", file.display()))?.len())
}

/// The file in blocks that browsers do not run; www/src/embedded.ts reads them.
fn write_blocks(output: &mut impl Write, role: &str, file: &Path) -> Result<()> {
    let input = File::open(file)?;
    let mut text = String::new();
    loop {
        let mut block = Vec::with_capacity(BLOCK);
        if (&input).take(BLOCK as u64).read_to_end(&mut block)? == 0 {
            return Ok(());
        }
        let digest: String = Sha256::digest(&block).iter().map(|byte| format!("{byte:02x}")).collect();
        text.clear();
        STANDARD.encode_string(&block, &mut text);
        write!(
            output,
            r#"<script type="application/octet-stream" data-file="{role}" data-sha256="{digest}">{text}</script>"#
        )?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty folder that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("xtask-one-file-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
            fs::write(self.0.join(name), contents).unwrap();
            self.0.join(name)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn page() -> String {
        format!("<!doctype html>{MARK}{DECLARATION}<body>{FILES}</body>")
    }

    #[test]
    fn a_file_comes_back_out_of_its_blocks() {
        let folder = Folder::new("blocks");
        let bytes: Vec<u8> =
            b"GGUF".iter().copied().chain((0..2 * BLOCK + 100).map(|i| (i * i % 251) as u8)).collect();
        let model = Model::of(&folder.file("a<b.gguf", &bytes)).unwrap();
        let out = folder.0.join("out.html");
        write(&out, &page(), &model, None).unwrap();
        let html = fs::read_to_string(&out).unwrap();
        assert!(html.contains(r#""name":"a\u003cb""#));
        let blocks: Vec<&str> = html.split(r#"data-file="model""#).skip(1).collect();
        assert_eq!(blocks.len(), 3);
        let text =
            |block: &&str| STANDARD.decode(&block[block.find('>').unwrap() + 1..block.find('<').unwrap()]);
        let read: Vec<u8> = blocks.iter().flat_map(|block| text(block).unwrap()).collect();
        assert!(read == bytes);
        // Nothing else is left in the folder.
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 2);
    }

    #[test]
    fn only_files_of_this_command_are_written_over() {
        let folder = Folder::new("over");
        check_out(&folder.0.join("new.html")).unwrap();
        check_out(&folder.file("ours.html", page())).unwrap();
        let refused = |path: &Path| check_out(path).unwrap_err().to_string();
        assert!(refused(&folder.file("thesis.html", "<!doctype html>")).contains("choose another name"));
        assert!(refused(&folder.0).contains("is a folder"));
        assert!(refused(&folder.0.join("none/chat.html")).contains("there is no folder"));
        assert!(refused(&folder.0.join("chat")).contains("does not end in .html"));
    }

    #[test]
    fn a_page_without_its_places_is_refused() {
        let folder = Folder::new("places");
        let model = Model::of(&folder.file("a.gguf", "GGUF")).unwrap();
        let out = folder.0.join("out.html");
        let error = write(&out, &page().repeat(2), &model, None).unwrap_err();
        assert!(error.to_string().contains("not once"), "{error}");
        assert!(!out.exists());
    }

    #[test]
    fn weights_of_another_kind_are_refused() {
        let folder = Folder::new("weights");
        let refused = |path: &Path| Image::of(path).err().unwrap().to_string();
        assert!(refused(&folder.file("a.png", [0x89; 100])).contains("safetensors"));
        assert!(refused(&folder.file("short", "1234")).contains("could not read"));
        let own = paths::root().join("www/public/emoji/emoji-vae.safetensors");
        assert!(Image::of(&own).unwrap().is_own);
        assert!(!Image::of(&folder.file("b.safetensors", b"\x02\0\0\0\0\0\0\0{}")).unwrap().is_own);
    }
}
