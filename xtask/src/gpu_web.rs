//! The GPU bundle's parts in Chromium.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::devtools::Browser;
use crate::gpu_run::{MODEL, Session};
use crate::serve;

const CHROMIUM: &str = "chromium/chromium-headless-shell";
/// Files of the bundle for parts that need no model.
pub const NEEDS: &[&str] = &[CHROMIUM, "site"];
/// For those with the default model.
pub const NEEDS_MODEL: &[&str] = &[CHROMIUM, "site", MODEL];
/// For ONNX Runtime Web.
pub const NEEDS_ONNX: &[&str] = &[CHROMIUM, "site/onnx", MODEL];

const FLAGS: [&str; 11] = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--enable-unsafe-webgpu",
    "--ignore-gpu-blocklist",
    "--disable-gpu-watchdog",
    "--disable-gpu-process-crash-limit",
];

/// Where the C++ library is.
const CPP: [&str; 3] =
    ["/usr/lib/x86_64-linux-gnu/libstdc++.so.6", "/usr/lib64/libstdc++.so.6", "/usr/lib/libstdc++.so.6"];

/// Seconds for one set of flags: a browser whose GPU process crashes again and again never answers.
const SECONDS_A_SET: u64 = 15;

/// By which a browser may find the machine's own GPU; the last is the software adapter that Chromium brings.
const SETS: [(&str, &[&str]); 7] = [
    (
        "Vulkan for all",
        &[
            "--enable-features=Vulkan",
            "--use-angle=vulkan",
            "--use-vulkan=native",
            "--disable-vulkan-surface",
            "--use-webgpu-adapter=default",
        ],
    ),
    (
        "Vulkan for all, asked for by features",
        &[
            "--enable-features=Vulkan,VulkanFromANGLE,DefaultANGLEVulkan",
            "--disable-vulkan-surface",
            "--use-webgpu-adapter=default",
        ],
    ),
    (
        "Vulkan for WebGPU, no GL",
        &[
            "--enable-features=Vulkan",
            "--use-vulkan=native",
            "--disable-vulkan-surface",
            "--use-gl=disabled",
            "--disable-gpu-sandbox",
        ],
    ),
    (
        "Vulkan for WebGPU, GL in software",
        &[
            "--enable-features=Vulkan",
            "--use-gl=angle",
            "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader",
            "--disable-gpu-sandbox",
        ],
    ),
    (
        "GL by EGL",
        &["--use-gl=angle", "--use-angle=gl-egl", "--enable-features=Vulkan", "--disable-gpu-sandbox"],
    ),
    (
        "one process",
        &[
            "--enable-features=Vulkan",
            "--use-angle=vulkan",
            "--use-vulkan=native",
            "--disable-vulkan-surface",
            "--in-process-gpu",
        ],
    ),
    ("SwiftShader", &["--use-webgpu-adapter=swiftshader"]),
];

const ASK: &str = "(async () => {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) return { webgpu: Boolean(navigator.gpu) };
  const { vendor, architecture, device, description, isFallbackAdapter, subgroupMinSize, subgroupMaxSize } = adapter.info;
  await adapter.requestDevice();
  return {
    vendor, architecture, device, description, fallback: isFallbackAdapter, subgroups: [subgroupMinSize, subgroupMaxSize],
    maxBuffer: adapter.limits.maxBufferSize, maxBinding: adapter.limits.maxStorageBufferBindingSize,
    features: [...adapter.features],
  };
})()";

/// A browser on the bundle's site.
struct Visit {
    browser: Browser,
    url: String,
}

impl Visit {
    fn start(session: &mut Session, flags: &[&str]) -> Result<Self> {
        let chromium = session.bundle.join(CHROMIUM);
        let library = session.bundle.join("chromium/lib");
        let home = std::env::temp_dir().join(format!("gpu-bundle-{}", std::process::id()));
        fs::create_dir_all(&home)?;
        fs::write(home.join("fonts.conf"), fonts(&session.bundle, &home))?;
        let home_text = home.display().to_string();
        let mut env: Vec<(String, String)> = session.env.clone();
        env.retain(|(key, _)| key != "LD_LIBRARY_PATH");
        let mut libraries = library.display().to_string();
        // The machine's C++ library may be newer, and its drivers may need that.
        if !CPP.iter().any(|file| Path::new(file).exists()) {
            libraries += &format!(":{}", session.bundle.join("chromium/lib-cpp").display());
        }
        for (key, value) in [
            ("LD_LIBRARY_PATH", libraries),
            ("HOME", home_text.clone()),
            ("FONTCONFIG_FILE", home.join("fonts.conf").display().to_string()),
        ] {
            env.push((key.to_owned(), value));
        }
        let profile = format!("--user-data-dir={}", home.join("profile").display());
        let flags: Vec<String> =
            FLAGS.iter().chain(flags).map(|flag| (*flag).to_owned()).chain([profile]).collect();
        let (browser, complaints) = Browser::start(&chromium, &flags, &env, session.deadline)?;
        session.log_of(complaints);
        let server = serve::Server::bind(&session.bundle.join("site"), 0, true)?;
        let url = server.url();
        server.start();
        Ok(Visit { browser, url })
    }

    /// A browser with the flags that gave the best adapter.
    fn again(session: &mut Session) -> Result<Self> {
        model_into_site(&session.bundle)?;
        let flags = match kept_flags(&session.bundle) {
            Some(flags) => flags,
            None => {
                let flags = choose_flags(session)?;
                session.found.records.clear();
                flags
            }
        };
        Self::start(session, &flags.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// The bundle's own font: a browser without any does not start.
fn fonts(bundle: &Path, home: &Path) -> String {
    format!(
        "<?xml version=\"1.0\"?><!DOCTYPE fontconfig SYSTEM \"fonts.dtd\"><fontconfig><dir>{}</dir><cachedir>{}</cachedir></fontconfig>\n",
        bundle.join("chromium/fonts").display(),
        home.join("fonts").display()
    )
}

/// The model has one file in the bundle; the site has another name for it.
fn model_into_site(bundle: &Path) -> Result<()> {
    let from = bundle.join(MODEL);
    let to: PathBuf = bundle.join("site/models").join(from.file_name().unwrap_or_default());
    if !to.exists() && fs::hard_link(&from, &to).is_err() {
        fs::copy(&from, &to)?;
    }
    Ok(())
}

/// Where the flags are kept that gave an adapter on this machine.
const KEPT: &str = "chromium/flags.json";

fn kept_flags(bundle: &Path) -> Option<Vec<String>> {
    serde_json::from_slice(&fs::read(bundle.join(KEPT)).ok()?).ok()
}

/// Tries the sets of flags.
pub fn adapter(session: &mut Session) -> Result<()> {
    choose_flags(session).map(|_| ())
}

/// The first set of flags with an adapter that is no software, or else the first with any.
fn choose_flags(session: &mut Session) -> Result<Vec<String>> {
    // Of another machine, perhaps.
    fs::remove_file(session.bundle.join(KEPT)).ok();
    let mut fallback = None;
    for (name, flags) in SETS {
        if !session.has_time() {
            break;
        }
        let end = session.deadline;
        session.deadline = end.min(Instant::now() + session.patience * Duration::from_secs(SECONDS_A_SET));
        let answer = ask(session, flags);
        session.deadline = end;
        let mut record = answer.unwrap_or_else(|error| json!({ "failed": format!("{error:#}") }));
        let real = record["fallback"] == false && !record["vendor"].is_null();
        let any = !record["vendor"].is_null();
        record["flags"] = json!(name);
        session.say(&record.to_string());
        session.found.records.push(record);
        let flags = || flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>();
        if real {
            session.found.text.push(format!("Taken: {name}: {}", flags().join(" ")));
            fs::write(session.bundle.join(KEPT), json!(flags()).to_string())?;
            return Ok(flags());
        }
        if any {
            fallback.get_or_insert((name, flags()));
        }
    }
    let Some((name, flags)) = fallback else { bail!("no set of flags gave a WebGPU adapter") };
    session.found.text.push(format!("Only a software adapter, by {name}: {}", flags.join(" ")));
    Ok(flags)
}

fn ask(session: &mut Session, flags: &[&str]) -> Result<Value> {
    let mut visit = Visit::start(session, flags)?;
    visit.browser.open(&visit.url, session.deadline)?;
    visit.browser.evaluate(ASK, session.deadline)
}

/// Frames while generating; decodes to a canvas.
pub fn page(session: &mut Session) -> Result<()> {
    let mut visit = Visit::again(session)?;
    let outcome = on_the_page(session, &mut visit);
    for line in &visit.browser.console {
        session.say(line);
    }
    outcome
}

fn on_the_page(session: &mut Session, visit: &mut Visit) -> Result<()> {
    let (tokens, sides, runs) =
        if session.quick { (4, &[64][..], 1) } else { (256, &[256, 512, 1024][..], 5) };
    visit.browser.open(&format!("{}package/index.html", visit.url), session.deadline)?;
    let calls = ["load()".to_owned(), format!("generate({tokens})")]
        .into_iter()
        .chain(sides.iter().map(|side| format!("decode({side}, {runs})")));
    for call in calls {
        let run = format!("import('/package/page.js').then((page) => page.{call})");
        let record = visit.browser.evaluate(&run, session.deadline)?;
        session.say(&record.to_string());
        session.found.records.push(record);
    }
    Ok(())
}

/// Rows of the bench page, in a browser of their own.
fn bench(session: &mut Session, rows: &str, more: &str) -> Result<()> {
    let mut visit = Visit::again(session)?;
    let quick = if session.quick { "&quick=1" } else { "" };
    let url = format!("{}bench.html?auto=1&rows={rows}{quick}{more}", visit.url);
    visit.browser.open(&url, session.deadline)?;
    let end = session.deadline;
    let ended = loop {
        let found = visit.browser.evaluate("window.benchResult ?? window.benchError ?? null", end);
        match found {
            Ok(Value::Null) => {
                if !session.has_time() {
                    break Value::Null;
                }
                std::thread::sleep(Duration::from_millis(500));
            }
            Ok(result) => break result,
            Err(error) => {
                for line in &visit.browser.console {
                    session.say(line);
                }
                return Err(error);
            }
        }
    };
    for line in &visit.browser.console {
        session.say(line);
    }
    if let Some(error) = ended.as_str() {
        bail!("{error}");
    }
    if ended.is_null() {
        bail!("stopped, its time had passed");
    }
    let text = ended["markdown"].as_str().unwrap_or_default();
    session.found.text.extend(text.lines().map(str::to_owned));
    for row in ended["rows"].as_array().into_iter().flatten() {
        if let Some(failure) = row["failure"].as_str() {
            session.found.problems.push(format!("{}: {failure}", row["label"].as_str().unwrap_or_default()));
        }
        for point in row["figures"]["points"].as_array().into_iter().flatten() {
            let begins = point["text"].as_str().unwrap_or_default().chars().take(40).collect::<String>();
            session.found.records.push(json!({
                "row": row["id"], "prompt": point["promptTokens"], "firstTokenMs": point["firstTokenMs"],
                "prefill": point["prefillTokensPerSecond"], "decode": point["decodeTokensPerSecond"], "text": begins,
            }));
        }
    }
    Ok(())
}

/// Emberglass on the GPU.
pub fn ours(session: &mut Session) -> Result<()> {
    bench(session, "webgpu", "&long=1")
}

/// wllama on the GPU.
pub fn wllama(session: &mut Session) -> Result<()> {
    bench(session, "wllama-webgpu", "&long=1&reading=0")
}

/// ONNX Runtime Web on the GPU.
pub fn onnx(session: &mut Session) -> Result<()> {
    bench(session, "onnx-webgpu-q4", "&onnx=1&long=1&reading=0")
}

/// Both on the CPU.
pub fn cpu(session: &mut Session) -> Result<()> {
    let many = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
    let rows = if many { "cpu-1,cpu-all,wllama-1,wllama-all" } else { "cpu-1,wllama-1" };
    // Few tokens are enough: the GPU is what this is about.
    bench(session, rows, if session.quick { "" } else { "&quick=1" })
}
