//! `run.sh` of the GPU bundle: runs what `gpu_bundle` packed, the most important parts first, each with a limit of
//! time, and writes report.json, report.md and log.txt anew after each.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::gpu_report;
use crate::gpu_web;

/// The folder of the bundle whose contents the tests take for the repository.
pub const ROOT: &str = "root";
/// The default model, in the bundle.
pub const MODEL: &str = "root/.cache/models/SmolLM2-135M-Instruct.Q4_1.gguf";
/// The reference's logits, in the bundle.
pub const LOGITS: &str = "root/.cache/reference/logits.bin";
/// The page's image model, in the bundle.
pub const EMOJI: &str = "root/www/public/emoji/emoji-vae.safetensors";
/// The weights of TAEF2, in the bundle: beside the repository.
pub const TAEF2: [&str; 2] =
    ["shared/models/taef2/taef2_decoder.safetensors", "shared/models/taef2/taef2_encoder.safetensors"];

/// Most lines of a Chromium's in the log.
const MOST_LINES: usize = 200;

/// What is asked for.
pub struct Wishes {
    /// Where the bundle is.
    pub bundle: PathBuf,
    /// Where reports go.
    pub out: PathBuf,
    /// For all parts together.
    pub seconds: u64,
    /// Names of parts, or `native` or `browser`; all if empty.
    pub only: Vec<String>,
    /// Little of everything: whether it runs, not how fast.
    pub quick: bool,
    /// By how much each part's limit of time is multiplied.
    pub patience: u32,
}

struct Part {
    name: &'static str,
    about: &'static str,
    browser: bool,
    /// Files of the bundle without which the part is left out.
    needs: &'static [&'static str],
    seconds: u64,
    run: fn(&mut Session) -> Result<()>,
}

const fn native(
    name: &'static str,
    about: &'static str,
    needs: &'static [&'static str],
    seconds: u64,
    run: fn(&mut Session) -> Result<()>,
) -> Part {
    Part { name, about, browser: false, needs, seconds, run }
}

const fn browser(
    name: &'static str,
    about: &'static str,
    needs: &'static [&'static str],
    seconds: u64,
    run: fn(&mut Session) -> Result<()>,
) -> Part {
    Part { name, about, browser: true, needs, seconds, run }
}

/// The most important first.
const PARTS: &[Part] = &[
    native("rates", "Best copy and multiply-add rates of the adapter", &["bin/measure"], 30, rates),
    native("kernels", "Kernel tests against f64 references: every variant", &["bin/ops"], 240, kernels),
    native(
        "golden",
        "The default model against the f64 reference",
        &["bin/engine", MODEL, LOGITS],
        120,
        golden,
    ),
    native("race", "Self-test and race: every variant on every shape", &["bin/measure", MODEL], 60, race),
    native("bench", "Kernels beside the adapter's rates", &["bin/kernels"], 180, bench),
    native("tokens", "Tokens a second of the default model", &["bin/measure", MODEL], 90, tokens),
    native("timeline", "Microseconds of each dispatch", &["bin/measure", MODEL], 60, timeline),
    native("choice", "Choice of kernels, speculative decoding", &["bin/engine", MODEL], 90, choice),
    native("images", "Image models against their references", &["bin/pictures"], 120, images),
    native("pictures", "Milliseconds of a decoded picture", &["bin/measure", EMOJI], 60, pictures),
    browser("adapter", "Chromium's WebGPU adapter by flag set", gpu_web::NEEDS, 120, gpu_web::adapter),
    browser("page", "Frames while generating, canvas decodes", gpu_web::NEEDS_MODEL, 90, gpu_web::page),
    browser("webgpu", "The bench page: Emberglass on the GPU", gpu_web::NEEDS_MODEL, 90, gpu_web::ours),
    browser("wllama-gpu", "The bench page: wllama on the GPU", gpu_web::NEEDS_MODEL, 120, gpu_web::wllama),
    browser(
        "onnx-gpu",
        "The bench page: ONNX Runtime Web on the GPU",
        gpu_web::NEEDS_ONNX,
        120,
        gpu_web::onnx,
    ),
    browser("cpu", "The bench page: the CPU paths", gpu_web::NEEDS_MODEL, 120, gpu_web::cpu),
];

/// What a part found.
#[derive(Default)]
pub struct Found {
    /// JSON lines that programs printed.
    pub records: Vec<Value>,
    /// (name, `ok` or `FAILED` or `ignored`).
    pub tests: Vec<(String, String)>,
    /// Lines for the report: tables, what tests printed.
    pub text: Vec<String>,
    /// What went wrong.
    pub problems: Vec<String>,
}

/// A run.
pub struct Session {
    /// Where the bundle is.
    pub bundle: PathBuf,
    /// Variables that programs are given, by which they find the GPU's driver.
    pub env: Vec<(String, String)>,
    /// Little of everything.
    pub quick: bool,
    /// By how much limits of time are multiplied.
    pub patience: u32,
    /// When the part has to end.
    pub deadline: Instant,
    /// What the part has found so far.
    pub found: Found,
    log: Arc<Mutex<File>>,
}

/// Runs the parts. Fails if one of them did not end well.
pub fn run(wishes: &Wishes) -> Result<()> {
    let Wishes { bundle, out, seconds, only, quick, patience } = wishes;
    let known =
        |name: &str| ["native", "browser"].contains(&name) || PARTS.iter().any(|part| part.name == name);
    if let Some(unknown) = only.iter().find(|name| !known(name)) {
        let names: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        bail!("there is no part {unknown:?}: there are native, browser, {}", names.join(", "));
    }
    fs::create_dir_all(out).with_context(|| format!("could not make {}", out.display()))?;
    let log = Arc::new(Mutex::new(File::create(out.join("log.txt"))?));
    let begun = Instant::now();
    let end = begun + Duration::from_secs(*seconds);
    let mut session = Session {
        bundle: fs::canonicalize(bundle)?,
        env: Vec::new(),
        quick: *quick,
        patience: *patience,
        deadline: (begun + Duration::from_secs(60)).min(end),
        found: Found::default(),
        log,
    };
    let commit = fs::read_to_string(session.bundle.join("commit")).unwrap_or_default();
    let mut report = json!({
        "commit": commit.trim(), "quick": quick,
        "unixTime": std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs()), "parts": [],
    });
    let chosen = |part: &&Part| {
        let group = if part.browser { "browser" } else { "native" };
        only.is_empty() || only.iter().any(|name| name == part.name || name == group)
    };
    let facts = Part {
        name: "facts",
        about: "The machine and its Vulkan adapters",
        browser: false,
        needs: &["bin/measure"],
        seconds: 60,
        run: facts,
    };
    let mut all_well = true;
    for part in [&facts].into_iter().chain(PARTS.iter().filter(chosen)) {
        let started = Instant::now();
        session.deadline = (started + *patience * Duration::from_secs(part.seconds)).min(end);
        session.found = Found::default();
        session.say(&format!("\n=== {}: {}", part.name, part.about));
        let missing = part.needs.iter().find(|file| !session.bundle.join(file).exists());
        let state = if started >= end {
            "left out: no time was left".to_owned()
        } else if let Some(file) = missing {
            format!("left out: {file} is not in the bundle")
        } else if let Err(error) = (part.run)(&mut session) {
            format!("failed: {error:#}")
        } else if session.found.problems.is_empty() {
            "ok".to_owned()
        } else {
            format!("failed: {}", session.found.problems.join("; "))
        };
        session.say(&format!("--- {}: {state} after {:.1} s", part.name, started.elapsed().as_secs_f64()));
        all_well &= !state.starts_with("failed");
        let found = std::mem::take(&mut session.found);
        if let Some(parts) = report["parts"].as_array_mut() {
            parts.push(json!({
                "name": part.name, "about": part.about, "state": state,
                "seconds": started.elapsed().as_secs_f64(),
                "records": found.records, "tests": found.tests, "text": found.text,
            }));
        }
        fs::write(out.join("report.json"), format!("{report:#}\n"))?;
        fs::write(out.join("report.md"), gpu_report::markdown(&report))?;
    }
    println!("\n{}", gpu_report::summary(&report));
    if all_well { Ok(()) } else { bail!("some parts failed: see {}", out.join("report.md").display()) }
}

/// How a program ended.
#[derive(PartialEq)]
enum End {
    Well,
    Badly(String),
    Stopped,
}

impl Session {
    /// Prints a line, and writes it into the log.
    pub fn say(&self, line: &str) {
        println!("{line}");
        write_line(&self.log, line);
    }

    /// A program of the bundle, with the variables it needs.
    fn program(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.bundle.join("bin").join(name));
        command
            .args(arguments)
            .current_dir(&self.bundle)
            .env("EMBERGLASS_ROOT", self.bundle.join(ROOT))
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .env("RUST_BACKTRACE", "0");
        command
    }

    /// Runs a program until it ends, or its time has passed. What it printed on standard output, and how it ended.
    fn lines(&mut self, name: &str, arguments: &[&str]) -> Result<(Vec<String>, End)> {
        write_line(&self.log, &format!("$ {name} {}", arguments.join(" ")));
        let mut command = self.program(name, arguments);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("could not start {name}"))?;
        let printed = Arc::new(Mutex::new(Vec::new()));
        let reader = child.stdout.take().map(|out| collect(out, &self.log, Some(&printed)));
        let complaints = child.stderr.take().map(|err| collect(err, &self.log, None));
        let end = wait(&mut child, self.deadline)?;
        // What a stopped program has started may keep the pipes open.
        if end != End::Stopped {
            for reader in [reader, complaints].into_iter().flatten() {
                reader.join().ok();
            }
        }
        let lines = printed.lock().map(|lines| lines.clone()).unwrap_or_default();
        Ok((lines, end))
    }

    /// Runs a program that prints JSON lines.
    fn records(&mut self, name: &str, arguments: &[&str]) -> Result<()> {
        let (lines, end) = self.lines(name, arguments)?;
        self.found.records.extend(lines.iter().filter_map(|line| serde_json::from_str(line).ok()));
        self.note(name, end);
        Ok(())
    }

    /// Runs the tests whose names contain one of the filters.
    fn tests(&mut self, name: &str, filters: &[&str], options: &[&str]) -> Result<()> {
        let arguments = [filters, &["--include-ignored", "--show-output"], options].concat();
        let (lines, end) = self.lines(name, &arguments)?;
        let (tests, text) = test_results(&lines);
        let failed = tests.iter().filter(|(_, result)| result == "FAILED").count();
        if failed > 0 {
            self.found.problems.push(format!("{failed} tests of {name} {}", filters.join(" ")));
        } else {
            self.note(&format!("{name} {}", filters.join(" ")), end);
        }
        self.found.tests.extend(tests);
        self.found.text.extend(text);
        Ok(())
    }

    fn note(&mut self, what: &str, end: End) {
        match end {
            End::Well => {}
            End::Badly(how) => self.found.problems.push(format!("{what}: {how}")),
            End::Stopped => self.found.problems.push(format!("{what}: stopped, its time had passed")),
        }
    }

    /// Whether there is time for more.
    pub fn has_time(&self) -> bool {
        Instant::now() < self.deadline
    }

    /// Writes what Chromium prints into the log, up to a limit: some of its errors come thousands of times.
    pub fn log_of(&self, stream: impl Read + Send + 'static) {
        let log = self.log.clone();
        thread::spawn(move || {
            let lines = BufReader::new(stream).split(b'\n').map_while(std::io::Result::ok);
            // It complains of every machine without D-Bus.
            let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
            for (number, line) in lines.filter(|line| !line.contains("dbus/")).enumerate() {
                if number < MOST_LINES {
                    write_line(&log, &line);
                }
            }
        });
    }

    fn path(&self, file: &str) -> String {
        self.bundle.join(file).display().to_string()
    }
}

/// Names and results of tests, and what they printed, out of what a test program printed.
fn test_results(lines: &[String]) -> (Vec<(String, String)>, Vec<String>) {
    let (mut tests, mut text) = (Vec::new(), Vec::new());
    let mut inside = false;
    for line in lines {
        if let Some((test, result)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) {
            let name = test.strip_suffix(" - should panic").unwrap_or(test);
            // `ignored` may have its reason behind it.
            let result = result.split(',').next().unwrap_or(result);
            tests.push((name.to_owned(), result.to_owned()));
            inside = false;
        } else if line.starts_with("---- ") {
            inside = true;
        } else if ["successes:", "failures:"].contains(&line.as_str()) || line.starts_with("test result:") {
            inside = false;
        } else if inside && !line.is_empty() && !line.ends_with(": ok") {
            text.push(line.clone());
        }
    }
    (tests, text)
}

fn write_line(log: &Mutex<File>, line: &str) {
    if let Ok(mut log) = log.lock() {
        // A full disk shall not end the run.
        writeln!(log, "{line}").ok();
    }
}

/// Reads lines into the log, and into a list.
fn collect(
    stream: impl Read + Send + 'static,
    log: &Arc<Mutex<File>>,
    lines: Option<&Arc<Mutex<Vec<String>>>>,
) -> thread::JoinHandle<()> {
    let (log, lines) = (log.clone(), lines.cloned());
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(std::io::Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            write_line(&log, &line);
            if let Some(Ok(mut lines)) = lines.as_ref().map(|lines| lines.lock()) {
                lines.push(line);
            }
        }
    })
}

fn wait(child: &mut Child, deadline: Instant) -> Result<End> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() { End::Well } else { End::Badly(status.to_string()) });
        }
        if Instant::now() >= deadline {
            stop(child);
            return Ok(End::Stopped);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Ends a program that leads a process group, and all that it has started.
pub fn stop(child: &mut Child) {
    let group = format!("kill -9 -{}", child.id());
    Command::new("/bin/sh").args(["-c", &group]).stderr(Stdio::null()).status().ok();
    child.kill().ok();
    child.wait().ok();
}

/// Where drivers register themselves, besides the places that Vulkan's loader knows.
const DRIVERS: [&str; 2] =
    ["/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json", "/usr/share/vulkan/icd.d/nvidia_icd.json"];

/// Finds the variables by which the machine's own GPU is offered, and says what there is.
fn facts(session: &mut Session) -> Result<()> {
    let library = session.path("lib");
    let mut choices: Vec<Vec<(String, String)>> = vec![Vec::new()];
    let with = |more: &[(&str, &str)]| {
        more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
    };
    choices.push(with(&[("LD_LIBRARY_PATH", &library)]));
    for driver in DRIVERS.into_iter().filter(|file| Path::new(file).exists()) {
        choices.push(with(&[("VK_DRIVER_FILES", driver)]));
        choices.push(with(&[("LD_LIBRARY_PATH", &library), ("VK_DRIVER_FILES", driver)]));
    }
    for driver in ["libGLX_nvidia.so.0", "libEGL_nvidia.so.0"] {
        let file = std::env::temp_dir().join(format!("{driver}.icd.json"));
        let text = json!({ "file_format_version": "1.0.1", "ICD": { "library_path": driver, "api_version": "1.3.0" } });
        fs::write(&file, text.to_string())?;
        let file = file.display().to_string();
        choices.push(with(&[("LD_LIBRARY_PATH", &library), ("VK_DRIVER_FILES", &file)]));
    }
    let mut software = None;
    let mut taken = false;
    for choice in choices {
        session.env.clone_from(&choice);
        let (lines, _) = session.lines("measure", &["facts"])?;
        let records: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let Some(last) = records.iter().find(|record| !record["taken"].is_null()) else { continue };
        if last["software"] == false {
            session.found.records = records;
            taken = true;
            break;
        }
        software.get_or_insert((choice, records));
    }
    if !taken {
        let Some((choice, records)) = software else {
            session.env.clear();
            bail!("no Vulkan adapter was offered, whatever the variables: the native parts will fail");
        };
        session.env = choice;
        session.found.records = records;
        session.say("Only a software adapter was offered.");
    }
    let variables = session.env.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
    session.found.text.push(format!("Variables: {}", variables.join(" ")));
    for (what, file, wanted) in [
        ("CPU", "/proc/cpuinfo", "model name"),
        ("Memory", "/proc/meminfo", "MemTotal"),
        ("NVIDIA driver", "/proc/driver/nvidia/version", "NVRM"),
        ("System", "/etc/os-release", "PRETTY_NAME"),
        ("Kernel", "/proc/version", "Linux"),
    ] {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.contains(wanted)).unwrap_or("not said");
        session.found.text.push(format!("{what}: {line}"));
    }
    let cores = thread::available_parallelism().map_or(0, usize::from);
    session.found.text.push(format!("Cores: {cores}"));
    for line in session.found.records.iter().map(ToString::to_string).collect::<Vec<_>>() {
        session.say(&line);
    }
    Ok(())
}

fn rates(session: &mut Session) -> Result<()> {
    session.records("measure", &["rates"])
}

/// A process for each module: a crash of one says nothing of the others.
fn kernels(session: &mut Session) -> Result<()> {
    let wanted = |name: &str| name.starts_with("gpu") || !name.contains("::") && !name.starts_with("cpu");
    let (lines, _) = session.lines("ops", &["--list", "--format", "terse"])?;
    let mut modules: Vec<String> = Vec::new();
    for line in lines {
        let Some(name) = line.strip_suffix(": test").filter(|name| wanted(name)) else { continue };
        let module = name.split_once("::").map_or(name.to_owned(), |(module, _)| format!("{module}::"));
        if !modules.contains(&module) {
            modules.push(module);
        }
    }
    if session.quick {
        modules.retain(|module| ["gpu::", "gpu_dot4::"].contains(&module.as_str()));
    } else {
        // What the modules of single variants test is among it.
        const EVERY: &str = "gpu_every_variant::";
        const OTHERS: [&str; 3] = ["gpu::", "gpu_image::", "gpu_image_f16::"];
        modules
            .retain(|module| !module.ends_with("::") || module == EVERY || OTHERS.contains(&module.as_str()));
        modules.sort_by_key(|module| module == EVERY);
    }
    for module in modules {
        session.tests("ops", &[&module], &[])?;
    }
    Ok(())
}

fn golden(session: &mut Session) -> Result<()> {
    let filters: &[&str] = if session.quick {
        &["golden::rounding_kernels_on"]
    } else {
        &[
            "golden::the_real_model_on_the_gpu",
            "golden::raced_kernels",
            "golden::rounding_kernels",
            "golden::cache_types_on_the_gpu",
        ]
    };
    session.tests("engine", filters, &["--test-threads=2"])
}

fn race(session: &mut Session) -> Result<()> {
    session.records("measure", &["race", &session.path(MODEL)])
}

fn bench(session: &mut Session) -> Result<()> {
    let filter: &[&str] = if session.quick { &["output Q4_1"] } else { &[] };
    let (lines, end) = session.lines("kernels", filter)?;
    session.found.text.extend(lines);
    session.note("kernels", end);
    Ok(())
}

fn tokens(session: &mut Session) -> Result<()> {
    let model = session.path(MODEL);
    let mut arguments = vec!["tokens", &model];
    if session.quick {
        arguments.extend(["--prefill", "32", "--decode", "32", "--tokens", "4", "--runs", "1"]);
    }
    session.records("measure", &arguments)
}

fn timeline(session: &mut Session) -> Result<()> {
    let model = session.path(MODEL);
    let after = if session.quick { "32" } else { "32,512" };
    session.records("measure", &["timeline", &model, "--after", after])
}

fn choice(session: &mut Session) -> Result<()> {
    session.tests("engine", &["choice::"], &["--test-threads=1"])?;
    if session.quick { Ok(()) } else { session.tests("engine", &["speculation::on_the_gpu"], &[]) }
}

fn images(session: &mut Session) -> Result<()> {
    session.tests("pictures", &["image_torch::on_the_gpu"], &[])?;
    let filters: &[&str] = if session.quick {
        &["image::autoencoder_kl_on_the_gpu"]
    } else {
        &[
            "image::autoencoder_kl_on_the_gpu",
            "image::f16",
            "image::taef2_on_the_gpu",
            "image::tiles_on_the_gpu",
        ]
    };
    session.tests("pictures", filters, &["--test-threads=2"])
}

fn pictures(session: &mut Session) -> Result<()> {
    let more: &[&str] = if session.quick { &["--sides", "64", "--runs", "1"] } else { &[] };
    session.found.text.push("First the emoji model, then TAEF2's decoder.".to_owned());
    let emoji = session.path(EMOJI);
    session.records("measure", &[&["pictures", emoji.as_str()], more].concat())?;
    if session.bundle.join(TAEF2[0]).exists() {
        let taef2 = session.path(TAEF2[0]);
        session.records("measure", &[&["pictures", taef2.as_str()], more].concat())?;
    } else {
        session.say("TAEF2's weights are not in the bundle.");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_are_read_off_what_a_test_program_prints() {
        let printed = "\nrunning 3 tests\ntest gpu::head ... ok\ntest gpu::qkv ... FAILED\n\
            test other ... ignored, takes minutes\n\nsuccesses:\n\n---- gpu::head stdout ----\nlanes8 Q4_1: ok\nwithin 1e-6\n\n\n\
            successes:\n    gpu::head\n\nfailures:\n\n---- gpu::qkv stdout ----\nthread panicked\n\n\n\
            failures:\n    gpu::qkv\n\ntest result: FAILED. 1 passed; 1 failed\n";
        let lines: Vec<String> = printed.lines().map(str::to_owned).collect();
        let (tests, text) = super::test_results(&lines);
        let tests: Vec<_> = tests.iter().map(|(name, result)| (name.as_str(), result.as_str())).collect();
        assert_eq!(tests, [("gpu::head", "ok"), ("gpu::qkv", "FAILED"), ("other", "ignored")]);
        assert_eq!(text, ["within 1e-6", "thread panicked"]);
    }
}
