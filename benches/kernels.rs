//! `cargo bench --bench kernels [-- FILTER]`: see `shared/mod.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a bench fails by panicking

mod shared;

fn main() {
    let filter: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let start = std::time::Instant::now();
    let _ = START.set(start);
    pollster::block_on(shared::run(&filter.join(" "), now_ms, |line| println!("{line}")));
}

static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();

fn now_ms() -> f64 {
    START.get().map_or(0.0, |start| start.elapsed().as_secs_f64() * 1e3)
}
