//! `fuzz-seeded TARGET…`: random changes of seeds and of the corpus, the same for the same seed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use emberglass_fuzz::memory::Limited;
use emberglass_fuzz::mutate::{Random, mutate};
use emberglass_fuzz::{TARGETS, Target, find};

#[global_allocator]
static ALLOCATOR: Limited = Limited;

/// Runs fuzz targets without coverage.
#[derive(Parser)]
struct Options {
    /// Targets; all if none is named.
    targets: Vec<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Cases for each target at most.
    #[arg(long, default_value_t = u64::MAX)]
    cases: u64,
    /// Seed of the random changes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder with a folder of inputs for each target; they run first, unchanged.
    #[arg(long)]
    corpus: Option<PathBuf>,
    /// Folder for the input that runs; it is left there after a failure.
    #[arg(long)]
    current: PathBuf,
    /// Only run this input.
    #[arg(long)]
    input: Option<PathBuf>,
}

/// Seconds that one case may take. Debug builds on a busy machine are slow; a hang is much longer.
const CASE_SECONDS: u64 = 30;

/// When the current case began, in milliseconds since the start of the program.
static BEGAN: AtomicU64 = AtomicU64::new(u64::MAX);

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fuzz: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> std::io::Result<()> {
    let start = Instant::now();
    std::fs::create_dir_all(&options.current)?;
    std::thread::spawn(move || watch(start));
    let targets: Vec<&Target> = if options.targets.is_empty() {
        TARGETS.iter().collect()
    } else {
        let named = options.targets.iter().map(|name| find(name).ok_or(name));
        named
            .collect::<Result<_, _>>()
            .map_err(|name| std::io::Error::other(format!("no target {name:?}")))?
    };
    for target in targets {
        if let Some(input) = &options.input {
            case(target, &std::fs::read(input)?, start);
            continue;
        }
        let begun = Instant::now();
        let count = fuzz(target, options, start)?;
        println!("fuzz {:<12} {count} cases in {:.1} s", target.name, begun.elapsed().as_secs_f64());
    }
    Ok(())
}

fn fuzz(target: &Target, options: &Options, start: Instant) -> std::io::Result<u64> {
    let until = Instant::now() + Duration::from_secs_f64(options.seconds);
    let current = options.current.join(target.name);
    let mut inputs = (target.seeds)();
    if let Some(corpus) = &options.corpus {
        inputs.extend(files(&corpus.join(target.name))?);
    }
    let mut random = Random::new(options.seed);
    let mut count = 0;
    while count < options.cases && (Instant::now() < until || count < inputs.len() as u64) {
        let mut input = inputs[random.below(inputs.len())].clone();
        match inputs.get(count as usize) {
            Some(unchanged) => input.clone_from(unchanged),
            None => {
                let other = inputs[random.below(inputs.len())].clone();
                mutate(&mut random, &mut input, &other, target.words);
            }
        }
        // A panic, an abort and a stack overflow all leave this file behind.
        std::fs::write(&current, &input)?;
        case(target, &input, start);
        count += 1;
    }
    std::fs::remove_file(&current)?;
    Ok(count)
}

fn case(target: &Target, input: &[u8], start: Instant) {
    BEGAN.store(start.elapsed().as_millis() as u64, Ordering::Relaxed);
    (target.run)(input);
    BEGAN.store(u64::MAX, Ordering::Relaxed);
}

/// Ends the program once a case takes too long.
fn watch(start: Instant) {
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let now = start.elapsed().as_millis() as u64;
        if now > BEGAN.load(Ordering::Relaxed).saturating_add(1000 * CASE_SECONDS) {
            eprintln!("fuzz: a case takes more than {CASE_SECONDS} s");
            std::process::abort();
        }
    }
}

/// The contents of the files in a folder, by name; none if there is no folder.
fn files(folder: &Path) -> std::io::Result<Vec<Vec<u8>>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.sort();
    paths.iter().map(std::fs::read).collect()
}
