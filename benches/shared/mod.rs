//! The projections' kernels beside what the adapter can do at best. Each case is first held against the CPU backend, then timed on so many matrices that no cache holds them.
//! `matvec` is compared with the copy bandwidth of the same run, `matmul` with its FMA rate (`Gpu::rates`).
//! `attention` as the filter times the CPU path's attention instead, which needs no adapter.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attention;

use emberglass::choice::made_up;
use emberglass::cpu::{CpuBackend, CpuOptions};
use emberglass::ops::{Backend, Batch, GpuBackend, Kernels, Segment, Step, Tile, Tuning, Variant};
use emberglass::{DType, Gpu, GpuOptions};

/// Beyond any cache, but in a browser, whose software adapter takes its time.
const WEIGHT_BYTES: u64 = if cfg!(target_arch = "wasm32") { 8 << 20 } else { 128 << 20 };
/// Timed runs; the best counts, since what disturbs only ever slows down.
const RUNS: usize = 5;
/// Tokens of a prefill batch.
const TOKENS: u32 = 128;

/// Columns and rows of SmolLM2-135M's matrices, and of a larger model's.
const SHAPES: [(u32, u32, &str); 5] = [
    (576, 960, "qkv"),
    (576, 576, "output"),
    (576, 3072, "gate and up"),
    (1536, 576, "down"),
    (2048, 4096, "of a 1B model"),
];

/// Prints a row for each kernel, matrix, type and variant whose label contains `filter`.
pub async fn run(filter: &str, now_ms: fn() -> f64, print: fn(String)) {
    if filter == "attention" {
        return attention::run(now_ms, print);
    }
    let gpu = Gpu::new(GpuOptions::default()).await.unwrap();
    let rates = gpu.rates().await.unwrap();
    print(format!(
        "{}: copy {:.1} GB/s (read and written), {:.1} GFLOP/s of f32 FMA",
        gpu.adapter().name,
        rates.copy_bytes_per_second / 1e9,
        2.0 * rates.fma_per_second / 1e9
    ));
    print("| kernel | matrix | type | variant | dispatches | GB/s | GFLOP/s | % of the rate |".to_owned());
    print("|---|---|---|---|---|---|---|---|".to_owned());
    for dtype in [DType::Q4_1, DType::Q8_0, DType::F16] {
        for (columns, rows, name) in SHAPES {
            for batch in [Batch::One, Batch::Many] {
                for taken in variants(&gpu, batch) {
                    let (kernel, variant) = match batch {
                        Batch::One => ("matvec", taken.decode.to_string()),
                        _ => ("matmul", taken.prefill.to_string()),
                    };
                    let label = format!("{kernel} {name} {} {variant}", dtype.name());
                    if !label.contains(filter) {
                        continue;
                    }
                    let mut case = Case::new(&gpu, taken, dtype, (columns, rows), batch).await;
                    case.check().await;
                    let seconds = case.time(now_ms).await;
                    let bytes = case.bytes as f64 / seconds / 1e9;
                    let flops = 2.0
                        * f64::from(columns)
                        * f64::from(rows)
                        * f64::from(case.step.count)
                        * case.plans.len() as f64
                        / seconds;
                    let share = match batch {
                        Batch::One => bytes * 1e9 / rates.copy_bytes_per_second,
                        _ => flops / 2.0 / rates.fma_per_second,
                    };
                    print(format!(
                        "| {kernel} | {name} {rows}×{columns} | {} | {} | {} | {bytes:.2} | {:.1} | {:.0} |",
                        dtype.name(),
                        variant,
                        case.plans.len(),
                        flops / 1e9,
                        100.0 * share
                    ));
                }
            }
        }
    }
}

fn variants(gpu: &Gpu, batch: Batch) -> Vec<Variant> {
    let usual = Variant::DEFAULT;
    let possible = Tuning::ALL.into_iter().filter(|tuning| tuning.possible(gpu.features()));
    match batch {
        Batch::One => possible.map(|decode| Variant { decode, ..usual }).collect(),
        _ => Tile::ALL
            .into_iter()
            .filter(|tile| tile.possible(gpu.features()))
            .map(|prefill| Variant { prefill, ..usual })
            .collect(),
    }
}

/// One product on many copies of a matrix.
struct Case<B: Backend> {
    backend: B,
    plans: Vec<B::Plan>,
    out: B::Tensor,
    step: Step,
    bytes: u64,
    shape: (DType, u32, u32, Batch),
    _held: (B::Tensor, Vec<B::Weight>),
}

async fn case<B: Backend>(
    mut backend: B,
    dtype: DType,
    (columns, rows): (u32, u32),
    batch: Batch,
    copies: u64,
) -> Case<B> {
    let segment = |rows: u32| [Segment { dtype, rows: u64::from(rows) }];
    let count = if batch == Batch::One { 1 } else { TOKENS };
    let inputs = backend.weight("inputs", u64::from(columns), &segment(TOKENS), 1).unwrap();
    backend.upload_rows(&inputs, 0, &made_up(dtype, TOKENS, columns)).unwrap();
    let x = backend.tensor("x", TOKENS, columns).unwrap();
    let out = backend.tensor("out", TOKENS, rows).unwrap();
    let bytes = made_up(dtype, rows, columns);
    backend.embed(&inputs, &x, batch).unwrap();
    let embed = backend.finish();
    let mut weights = vec![inputs];
    let mut plans = Vec::new();
    for _ in 0..copies {
        let weight = backend.weight("weight", u64::from(columns), &segment(rows), 1).unwrap();
        backend.upload_rows(&weight, 0, &bytes).unwrap();
        backend.project_add(&x, &weight, None, &out, batch).unwrap();
        plans.push(backend.finish());
        weights.push(weight);
        backend.settle("uploading").await.unwrap();
    }
    let step = Step { pos: 0, count, row: 0, counter: 0 };
    backend.compiled("uploading").await.unwrap();
    backend.set_tokens(&(0..count).rev().collect::<Vec<_>>()).unwrap();
    backend.run(&[&embed, &plans[0]], step).unwrap();
    let bytes = bytes.len() as u64 * copies;
    Case { backend, plans, out, step, bytes, shape: (dtype, columns, rows, batch), _held: (x, weights) }
}

impl Case<GpuBackend> {
    async fn new(
        gpu: &std::rc::Rc<Gpu>,
        variant: Variant,
        dtype: DType,
        shape: (u32, u32),
        batch: Batch,
    ) -> Self {
        let mut backend = GpuBackend::new(gpu.clone(), TOKENS, 1).unwrap();
        backend.set_kernels(Kernels::all(variant));
        let one = u64::from(shape.0) * u64::from(shape.1) / dtype.block_len() * dtype.block_bytes();
        let copies = if batch == Batch::One { WEIGHT_BYTES.div_ceil(one) } else { 4 };
        case(backend, dtype, shape, batch, copies).await
    }

    /// Against the CPU, which rounds activations to 16 bits: some 1e-4 of a sum.
    async fn check(&mut self) {
        let (dtype, columns, rows, batch) = self.shape;
        let mut cpu = case(CpuBackend::new(CpuOptions::default()), dtype, (columns, rows), batch, 1).await;
        for row in [0, self.step.count - 1] {
            let want = cpu.backend.read(&cpu.out, row).await.unwrap();
            let got = self.backend.read(&self.out, row).await.unwrap();
            let size = want.iter().fold(0.0f32, |most, v| most.max(v.abs()));
            assert_eq!(got.len(), want.len());
            for (a, b) in got.iter().zip(&want) {
                assert!((a - b).abs() <= 1e-3 * size, "{:?} row {row}: {a}, the CPU has {b}", self.shape);
            }
        }
    }

    /// Seconds of the fastest run.
    async fn time(&mut self, now_ms: fn() -> f64) -> f64 {
        let plans: Vec<_> = self.plans.iter().collect();
        let mut best = f64::INFINITY;
        for _ in 0..RUNS {
            let begun = now_ms();
            self.backend.run(&plans, self.step).unwrap();
            self.backend.settle("timing").await.unwrap();
            best = best.min((now_ms() - begun) / 1e3);
        }
        best
    }
}
