//! `cargo xtask test`: what CI runs, step by step, stopping at the first failure.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::shell::{capture, cargo, run};
use crate::{demo, fuzz, model, notices, paths, reference, serve, setup, shaders, wasm, web};

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn() -> Result<()>,
    /// The next step begins at once, and the one after that when both have ended: each leaves the processor idle at times.
    beside_next: bool,
}

const STEPS: &[Step] = &[
    step("packages", "Chromium, ChromeDriver, Firefox, WebKit, a Vulkan driver", setup::system_packages),
    step("format", "rustfmt", format),
    step("tools", "wasm32 target, wasm-bindgen", tools),
    step("clippy", "clippy for this machine, warnings denied", clippy),
    step("clippy-wasm", "clippy for wasm32, warnings denied", clippy_wasm),
    step("docs", "rustdoc, warnings denied", docs),
    step("typescript", "type checks, and the npm package's tests", web::check),
    step("notices", "NOTICE.md is up to date", notices::check),
    step("model", "the default model", default_model),
    step("reference", "reference logits from the independent implementation", reference::dump),
    step("native", "tests on the Vulkan adapter", native),
    step("fuzz", "broken and hostile input, some seconds for each part", fuzz::sample),
    step("shaders", "every shader variant, by the compilers on PATH", shaders::check),
    Step { beside_next: true, ..step("browser", "wasm tests in headless Chromium and Firefox", browser) },
    step("site", "the site, as for the demo; the size of the wasm", site),
    step("package", "the npm package as it is packed: contents, entries, types", package),
    step("e2e", "the page, driven in Chromium, Firefox and WebKit", end_to_end),
];

const fn step(name: &'static str, about: &'static str, run: fn() -> Result<()>) -> Step {
    Step { name, about, run, beside_next: false }
}

/// How much of what is slow and seldom fails the tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// A sample, as CI does.
    Sample,
    /// All of it.
    Exhaustive,
}

static EXTENT: OnceLock<Extent> = OnceLock::new();

/// The variable by which tests know that they are to run all of what they sample otherwise.
const EXHAUSTIVE: &str = "EMBERGLASS_EXHAUSTIVE";

/// Tells the tests of this command how much to run.
fn with_extent(command: &mut Command) -> &mut Command {
    match EXTENT.get() {
        Some(Extent::Exhaustive) => command.env(EXHAUSTIVE, "1"),
        _ => command.env_remove(EXHAUSTIVE),
    }
}

/// Runs the steps, or those named.
pub fn run_steps(only: &[String]) -> Result<()> {
    let known = |name: &String| STEPS.iter().any(|step| step.name == name.as_str());
    if let Some(unknown) = only.iter().find(|name| !known(name)) {
        bail!("there is no step {unknown:?}: see `cargo xtask test --list`");
    }
    let chosen = |step: &&Step| only.is_empty() || only.iter().any(|name| name == step.name);
    let steps: Vec<&Step> = STEPS.iter().filter(chosen).collect();
    let start = Instant::now();
    let mut times = Vec::new();
    let mut begun = 0;
    for group in steps.chunk_by(|step, _| step.beside_next) {
        let computed = processor_time();
        let announce = |index: usize, step: &Step| {
            println!("\n=== [{}/{}] {}: {}", begun + index + 1, steps.len(), step.name, step.about);
        };
        let outcomes = side_by_side(group, announce);
        begun += group.len();
        let processor = processor_time().zip(computed).map(|(after, before)| after.saturating_sub(before));
        for (index, (step, (wall, _))) in group.iter().zip(&outcomes).enumerate() {
            let processor = processor.filter(|_| index + 1 == group.len());
            times.push((step.name, Took { wall: *wall, processor }));
        }
        for (step, (_, outcome)) in group.iter().zip(outcomes) {
            if let Err(error) = outcome {
                summary(&times, start.elapsed());
                return Err(error.context(format!("step {:?} failed", step.name)));
            }
        }
    }
    summary(&times, start.elapsed());
    println!("All {} steps passed.", steps.len());
    Ok(())
}

/// Runs the steps of a group at the same time. How long each took, and how it ended.
fn side_by_side(group: &[&Step], announce: impl Fn(usize, &Step) + Sync) -> Vec<(Duration, Result<()>)> {
    let run = |index: usize, step: &Step| {
        announce(index, step);
        let begun = Instant::now();
        let outcome = (step.run)();
        let wall = begun.elapsed();
        if outcome.is_ok() {
            println!("--- {}: ok in {}", step.name, seconds(wall));
        }
        (wall, outcome)
    };
    std::thread::scope(|scope| {
        let running: Vec<_> =
            group.iter().enumerate().map(|(index, step)| scope.spawn(move || run(index, step))).collect();
        let ended = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| (Duration::ZERO, Err(anyhow::anyhow!("its thread panicked"))))
        };
        running.into_iter().map(ended).collect()
    })
}

/// The command: lists the steps or runs them.
pub fn run_command(only: &[String], list: bool, extent: Extent) -> Result<()> {
    if !list {
        EXTENT.get_or_init(|| extent);
        return run_steps(only);
    }
    for step in STEPS {
        println!("{:<12} {}", step.name, step.about);
    }
    Ok(())
}

/// What a step took.
#[derive(Clone, Copy)]
struct Took {
    wall: Duration,
    /// Of the programs that it started and waited for, where the system tells: on a machine that does other work, too,
    /// this is the figure to compare. Of steps side by side the last has that of all.
    processor: Option<Duration>,
}

/// Processor time of all programs that this one has waited for (proc(5): cutime and cstime, a hundredth of a second
/// each). Linux only.
fn processor_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses, which may contain anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(13).map_while(|field| field.parse::<u64>().ok());
    Some(Duration::from_millis(10 * (times.next()? + times.next()?)))
}

fn summary(times: &[(&str, Took)], total: Duration) {
    println!("\n=== time by step, and processor time of the programs that it ran");
    for (name, took) in times {
        let processor = took.processor.map(seconds).unwrap_or_default();
        println!("{name:<12} {:>9} {processor:>9}", seconds(took.wall));
    }
    println!("{:<12} {:>9}", "total", seconds(total));
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn format() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))
}

fn tools() -> Result<()> {
    setup::wasm_target()?;
    setup::wasm_bindgen().map(|_| ())
}

fn clippy() -> Result<()> {
    run(cargo().args(["clippy", "--workspace", "--all-targets"]).args(["--", "-D", "warnings"]))
}

fn clippy_wasm() -> Result<()> {
    let mut command = cargo();
    command.args(["clippy", "--target", wasm::TARGET, "--lib"]);
    for test in browser_tests()? {
        command.args(["--test", &test]);
    }
    // The relaxed build has the other half of the CPU's vectors, and nothing else of its own.
    run(command.args(["--", "-D", "warnings"]))?;
    let relaxed = ["clippy", "--target", wasm::TARGET, "--lib", "--features", "relaxed-simd"];
    run(cargo().args(relaxed).args(["--", "-D", "warnings"]))
}

fn docs() -> Result<()> {
    run(cargo()
        .args(["doc", "--workspace", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings"))
}

fn default_model() -> Result<()> {
    let file = model::default_model()?;
    println!("  {}", file.display());
    Ok(())
}

fn native() -> Result<()> {
    let mut command = cargo();
    // Not the examples, each of which is linked with everything: clippy has compiled them, and there are no tests in them
    // or in documentation.
    command.args(["test", "--workspace", "--tests"]);
    if EXTENT.get() == Some(&Extent::Exhaustive) {
        command.args(["--", "--include-ignored"]);
    }
    run(with_extent(&mut command))
}

/// The test targets that run in a browser: those that Cargo.toml names `web_…`.
fn browser_tests() -> Result<BTreeSet<String>> {
    let metadata = capture(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    Ok(packages
        .iter()
        .flat_map(|package| package["targets"].as_array().into_iter().flatten())
        .filter_map(|target| target["name"].as_str())
        .filter(|name| name.starts_with("web_"))
        .map(str::to_owned)
        .collect())
}

/// What Firefox does not run: kernels for subgroups, which it does not offer; tests that read back often, since it looks for
/// finished work only ten times a second; and the words for a kernel that does not compile, where it only says that
/// parsing failed.
const NOT_IN_FIREFOX: [&str; 7] = [
    "gpu_one_lane",
    "gpu_subgroups_dot4",
    "gpu::attention_of_windows",
    "gpu::kv_overflow",
    "gpu::sample_chain",
    "gpu::sample_infinite",
    "refused_pipelines_are_named",
];
/// What Chromium leaves to Firefox, unless all is asked for. Whole models and the kernels for subgroups are its sample.
const NOT_IN_CHROMIUM: [&str; 14] = [
    "gpu::attention_f16",
    "gpu::attention_of_several_shapes",
    "gpu::elements",
    "gpu::embed",
    "gpu::gate_up",
    "gpu::head",
    "gpu::map",
    "gpu::norms",
    "gpu::positions",
    "gpu::project_add",
    "gpu::qkv",
    "gpu::sample_few",
    "gpu::sample_greedy",
    "gpu_image::",
];

fn browser() -> Result<()> {
    let tests = browser_tests()?;
    if tests.is_empty() {
        bail!("Cargo.toml has no test target named web_…: nothing would run in the browser");
    }
    web::install("tests/e2e")?;
    let exhaustive = EXTENT.get() == Some(&Extent::Exhaustive);
    let left_out: &[&str] = if exhaustive { &[] } else { &NOT_IN_CHROMIUM };
    let skip = |names: &[&'static str]| names.iter().flat_map(|name| ["--skip", name]).collect::<Vec<_>>();
    // Firefox waits more than it computes, so both run at the same time.
    std::thread::scope(|scope| {
        let firefox = scope.spawn(|| browser_build(&tests, Browser::Firefox, &[], &skip(&NOT_IN_FIREFOX)));
        let chromium = browser_build(&tests, Browser::Chromium, &[], &skip(left_out));
        let firefox = firefox.join().unwrap_or_else(|_| bail!("the thread of Firefox's tests panicked"));
        chromium.and(firefox)
    })?;
    // The CPU's kernels once more, in the build for relaxed SIMD.
    browser_build(&tests, Browser::Chromium, &["--features", "relaxed-simd"], &["cpu"])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Browser {
    Chromium,
    Firefox,
}

fn browser_build(
    tests: &BTreeSet<String>,
    browser: Browser,
    features: &[&str],
    arguments: &[&str],
) -> Result<()> {
    let runner = setup::wasm_bindgen()?.test_runner;
    let mut command = cargo();
    match browser {
        Browser::Chromium => {
            // Given one, the runner does not look for any other.
            command
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", runner)
                .env("CHROMEDRIVER", setup::driver()?)
        }
        Browser::Firefox => {
            let script = paths::root().join("tests/e2e/run-wasm-tests.mjs");
            let runner = format!("runner = [\"node\", {script:?}, {runner:?}]");
            command
                .args(["--config", &format!("target.{}.{runner}", wasm::TARGET)])
                .env("FIREFOX", setup::firefox()?)
        }
    };
    command.args(["test", "--target", wasm::TARGET]).args(features);
    for test in tests {
        command.args(["--test", test]);
    }
    command.arg("--").args(arguments);
    run(with_extent(&mut command)
        // A software adapter takes its time; the default is 20 seconds.
        .env("WASM_BINDGEN_TEST_TIMEOUT", "900"))
}

fn site() -> Result<()> {
    demo::run(None, None)?;
    wasm::check_size()
}

fn package() -> Result<()> {
    web::install("tests/package")?;
    run(web::npm("tests/package").arg("test"))
}

fn end_to_end() -> Result<()> {
    web::install("tests/e2e")?;
    drive_page(with_extent(web::npm("tests/e2e").arg("test")))
}

/// Serves the site that is there while a program drives it in browsers.
pub fn drive_page(driver: &mut Command) -> Result<()> {
    let site = paths::site();
    let server = serve::Server::bind(&site, 0, true)?;
    let url = server.url();
    server.start();
    // As a host without any headers has it.
    let plain = serve::Server::bind(&site, 0, false)?;
    let plain_url = plain.url();
    plain.start();
    let pictures: PathBuf = paths::target().join("screenshots");
    run(driver
        .env("EMBERGLASS_URL", url)
        .env("EMBERGLASS_PLAIN_URL", plain_url)
        .env("EMBERGLASS_SCREENSHOTS", &pictures)
        .env("EMBERGLASS_XTASK", std::env::current_exe()?)
        .env("CHROMIUM", setup::browser()?)
        .env("FIREFOX", setup::firefox()?))?;
    println!("  screenshots are in {}", pictures.display());
    Ok(())
}
