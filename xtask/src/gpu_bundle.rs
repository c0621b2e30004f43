//! `cargo xtask gpu-bundle`: a folder that tests and measures on any Linux machine with a GPU (docs/MEASUREMENTS.md).

use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::gpu_run::{EMOJI, LOGITS, MODEL, ROOT, TAEF2};
use crate::shell::{capture, cargo, find, headline, program, run};
use crate::{bench, demo, model, paths, reference};

/// Tests that the bundle runs.
const TESTS: [&str; 3] = ["ops", "engine", "pictures"];
/// Most bytes of a folder of pieces: below 60 MB, so that a little more can travel along.
const PIECE: u64 = 56_000_000;
/// Debian's package of the browser, and the one with what all Chromium packages share.
const PACKAGES: [&str; 2] = ["chromium-headless-shell", "chromium-common"];
/// What the browser does without, in the folder of the packages.
const UNUSED: [&str; 6] = [
    "libVkLayer_khronos_validation.so",
    "libVkICD_mock_icd.so",
    "resources.pak",
    "chrome_crashpad_handler",
    "chrome_100_percent.pak",
    "chrome_200_percent.pak",
];
/// Libraries that the browser opens by name.
const OPENED: [&str; 3] = ["libsoftokn3.so", "libfreebl3.so", "libfreeblpriv3.so"];
/// Libraries that the browser takes from the machine if it has them: its drivers may need newer ones.
const CPP: [&str; 2] = ["libstdc++.so", "libgcc_s.so"];
/// A browser without any font does not start.
const FONT: &str = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";
/// Libraries that belong to the machine's own C library.
const SYSTEM: [&str; 8] =
    ["linux-vdso", "ld-linux", "libc.so", "libm.so", "libdl.so", "libpthread.so", "librt.so", "libresolv.so"];

/// Weights of 4 bits.
const ONNX_WEIGHTS: &str = "model_q4";

/// What to build.
pub struct Wishes {
    /// Where the bundle goes; target/gpu-bundle if none.
    pub out: Option<PathBuf>,
    /// Where the pieces go, if the bundle has to travel.
    pub parts: Option<PathBuf>,
    /// The folder that tools/bench-onnx/README.md makes.
    pub onnx: Option<PathBuf>,
    /// No browser.
    pub native_only: bool,
    /// The site and the npm package as they were built last.
    pub site_as_it_is: bool,
}

/// Builds the bundle, and its pieces.
pub fn build(wishes: &Wishes) -> Result<()> {
    let out = wishes.out.clone().unwrap_or_else(|| paths::target().join("gpu-bundle"));
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("could not empty {}", out.display()))?;
    }
    fs::create_dir_all(&out)?;
    headline(&format!("Building the GPU bundle in {}", out.display()));
    binaries(&out)?;
    files(&out)?;
    let mut archives = vec![
        ("native", vec!["run.sh", "commit", "bin", "lib", "root/tests", "root/www", "shared"], ""),
        ("model", vec!["root/.cache"], ""),
    ];
    if !wishes.native_only {
        browser(&out)?;
        if !wishes.site_as_it_is {
            demo::run(None, None)?;
        }
        site(&out)?;
        archives.push(("browser", vec!["chromium", "site"], "site/onnx"));
    }
    if let Some(folder) = &wishes.onnx {
        onnx(&out, folder)?;
        archives.push(("onnx", vec!["site/onnx"], ""));
    }
    if let Some(parts) = &wishes.parts {
        if parts.exists() {
            fs::remove_dir_all(parts)?;
        }
        let mut packer = Packer { folder: parts.clone(), index: 0, room: 0 };
        for (name, paths, without) in archives {
            let paths: Vec<_> = paths.into_iter().filter(|path| out.join(path).exists()).collect();
            packer.pack(&out, name, &paths, without)?;
        }
    }
    println!("  {}/run.sh OUT", out.display());
    Ok(())
}

/// Tests, benches and measuring programs, and this program, without what debuggers need.
fn binaries(out: &Path) -> Result<()> {
    let mut command = cargo();
    command.args([
        "build",
        "--release",
        "--example",
        "measure",
        "--bench",
        "kernels",
        "--message-format",
        "json-render-diagnostics",
    ]);
    for test in TESTS {
        command.args(["--test", test]);
    }
    let messages = capture(&mut command)?;
    let bin = out.join("bin");
    fs::create_dir_all(&bin)?;
    for message in messages.lines() {
        let message: serde_json::Value = serde_json::from_str(message)?;
        let (Some(from), Some(name)) = (message["executable"].as_str(), message["target"]["name"].as_str())
        else {
            continue;
        };
        copy(Path::new(from), &bin.join(name))?;
    }
    copy(&std::env::current_exe()?, &bin.join("xtask"))?;
    let strip = find("strip").context("no `strip` found: install binutils")?;
    for entry in fs::read_dir(&bin)? {
        run(program(&strip).arg(entry?.path()))?;
    }
    Ok(())
}

/// What tests and measurements read, and Vulkan's loader.
fn files(out: &Path) -> Result<()> {
    let root = paths::root();
    for script in ["run.sh", "unpack.sh"] {
        copy(&root.join("tools/gpu-bundle").join(script), &out.join(script))?;
    }
    let commit = capture(program("git").args(["describe", "--always", "--dirty", "--abbrev=12"]))?;
    fs::write(out.join("commit"), commit + "\n")?;
    let to = out.join(ROOT);
    demo::copy_folder(&root.join("tests/data"), &to.join("tests/data"))?;
    copy(&root.join("www/public/emoji/emoji-vae.safetensors"), &out.join(EMOJI))?;
    let here = model::default_model()?;
    copy(&here, &out.join(MODEL))?;
    reference::dump()?;
    copy(&paths::cache().join("reference/logits.bin"), &out.join(LOGITS))?;
    for file in TAEF2 {
        // The weights are beside the repository, on some machines.
        let from = root.join("..").join(file);
        if from.is_file() {
            copy(&from, &out.join(file))?;
        } else {
            println!("  {} is not there: its tests will compare nothing", from.display());
        }
    }
    let known = capture(program("/sbin/ldconfig").arg("-p"))?;
    let loader =
        known.lines().find(|line| line.contains("libvulkan.so.1")).and_then(|line| line.split("=> ").nth(1));
    let loader = loader.context("this machine has no libvulkan.so.1: install libvulkan1")?;
    copy(Path::new(loader), &out.join("lib/libvulkan.so.1"))
}

/// Debian's headless Chromium with all libraries that it needs.
fn browser(out: &Path) -> Result<()> {
    headline("Packing Chromium");
    let downloads = paths::cache().join("gpu-bundle");
    // An older version may be there.
    if downloads.exists() {
        fs::remove_dir_all(&downloads)?;
    }
    fs::create_dir_all(&downloads)?;
    run(program("apt-get").current_dir(&downloads).args(["download", "-q"]).args(PACKAGES))?;
    let unpacked = downloads.join("unpacked");
    for entry in fs::read_dir(&downloads)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            run(program("dpkg").arg("-x").arg(&file).arg(&unpacked))?;
        }
    }
    let chromium = out.join("chromium");
    let folder = unpacked.join("usr/lib/chromium");
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type()?.is_file() && !UNUSED.contains(&&*name) && !name.ends_with(".TOC") {
            copy(&entry.path(), &chromium.join(&*name))?;
        }
    }
    let libraries = capture(program("ldd").arg(folder.join("chromium-headless-shell")))?;
    let mut found: Vec<PathBuf> = Vec::new();
    for line in libraries.lines() {
        let name = line.trim();
        if SYSTEM.iter().any(|library| name.trim_start_matches("/lib64/").starts_with(library)) {
            continue;
        }
        let path = name.split("=> ").nth(1).and_then(|rest| rest.split(' ').next());
        match path.filter(|path| path.starts_with('/')) {
            Some(path) => found.push(path.into()),
            None => bail!("Chromium needs a library that is not here: {name}"),
        }
    }
    let beside = found.iter().find(|file| file.ends_with("libnss3.so")).and_then(|file| file.parent());
    let beside = beside.context("Chromium needs no libnss3.so any more: see OPENED")?.to_owned();
    for name in OPENED {
        let places = [beside.join(name), beside.join("nss").join(name)];
        found
            .push(places.into_iter().find(|file| file.is_file()).with_context(|| format!("no {name} here"))?);
    }
    for file in found {
        let name = file.file_name().context("a library has a name")?.to_owned();
        let cpp = CPP.iter().any(|library| name.to_string_lossy().starts_with(library));
        copy(&file, &chromium.join(if cpp { "lib-cpp" } else { "lib" }).join(name))?;
    }
    copy(Path::new(FONT), &chromium.join("fonts/DejaVuSans.ttf"))
}

/// The site without the model, which the runner puts there, and the npm package in a page of its own.
fn site(out: &Path) -> Result<()> {
    let (site, root) = (out.join("site"), paths::root());
    demo::copy_folder(&paths::site(), &site)?;
    let model = site.join("models").join(Path::new(MODEL).file_name().unwrap_or_default());
    if model.exists() {
        fs::remove_file(model)?;
    }
    let package = site.join("package");
    demo::copy_folder(&root.join("pkg/dist"), &package.join("dist"))?;
    copy(&root.join("tests/e2e/package.html"), &package.join("index.html"))?;
    copy(&root.join("tools/gpu-bundle/page.js"), &package.join("page.js"))
}

/// ONNX Runtime Web with the weights that a GPU decodes fastest.
fn onnx(out: &Path, folder: &Path) -> Result<()> {
    bench::add_onnx(folder, &out.join("site"))?;
    for entry in fs::read_dir(out.join("site/onnx/model/onnx"))? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(ONNX_WEIGHTS) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The file that a link names, too.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).with_context(|| format!("could not copy {}", from.display()))?;
    Ok(())
}

/// Fills folders 1, 2, … with pieces of archives.
struct Packer {
    folder: PathBuf,
    index: usize,
    room: u64,
}

impl Packer {
    fn pack(&mut self, bundle: &Path, name: &str, files: &[&str], without: &str) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        let whole = self.folder.join(format!("{name}.tgz"));
        let mut tar = program("tar");
        tar.arg("-C").arg(bundle);
        if !without.is_empty() {
            tar.arg(format!("--exclude={without}"));
        }
        run(tar.arg("-czf").arg(&whole).args(files))?;
        let bytes = fs::metadata(&whole)?.len();
        let first = self.room.min(bytes);
        let count = u64::from(first > 0) + (bytes - first).div_ceil(PIECE);
        let mut input = File::open(&whole)?;
        for number in 1..=count {
            if self.room == 0 {
                self.index += 1;
                self.room = PIECE;
                fs::create_dir_all(self.folder.join(format!("{:02}", self.index)))?;
                fs::copy(bundle.join("unpack.sh"), self.folder.join(format!("{:02}/unpack.sh", self.index)))?;
            }
            let piece = self.folder.join(format!("{:02}/{name}.tgz-{number:02}-of-{count:02}", self.index));
            let mut output = File::create(&piece)?;
            self.room -= std::io::copy(&mut Read::by_ref(&mut input).take(self.room), &mut output)?;
            output.flush()?;
            println!("  {}", piece.display());
        }
        fs::remove_file(whole)?;
        Ok(())
    }
}
