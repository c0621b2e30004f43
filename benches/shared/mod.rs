//! The projections' kernels beside what the adapter can do at best. Each case is first compared with the CPU backend, then
//! timed on so many matrices that no cache holds them.
//! `matvec` is compared with the copy bandwidth of the same run, `matmul` with its FMA rate (`Gpu::rates`).
//! `attention` as the filter times the CPU path's attention instead, which needs no adapter.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attention;

use emberglass::cpu::{Bits, CpuBackend, CpuOptions};
use emberglass::engine::device::made_up;
use emberglass::gpu::{GpuBackend, KernelMap, KernelPair, MatmulKernel, MatvecKernel};
use emberglass::graph::{Backend, Batch, Of, Op, Rows, Segment, Step, Then};
use emberglass::{DType, Gpu, GpuOptions};

/// Beyond any cache, but in a browser, whose software adapter takes its time.
const WEIGHT_BYTES: u64 = if cfg!(target_arch = "wasm32") { 8 << 20 } else { 128 << 20 };
/// Timed runs; the best counts, since what disturbs only ever slows down.
const RUNS: usize = 5;
/// Milliseconds that a timed run takes at least: waiting for its end takes some tenths of one.
const LEAST_MS: f64 = 20.0;
/// Tokens of a prefill batch.
const TOKENS: u32 = 128;

/// Columns and rows of SmolLM2-135M's matrices, and of larger models'.
const SHAPES: [(u32, u32, &str); 8] = [
    (576, 960, "qkv"),
    (576, 576, "output"),
    (576, 3072, "gate and up"),
    (1536, 576, "down"),
    (576, 49_152, "head"),
    (2048, 4096, "of a 1B model"),
    (2048, 8192, "up of a 1.5B model"),
    (8192, 2048, "down of a 1.5B model"),
];
/// Matrices of one submit. The CPU encodes the next ones while the GPU computes these.
const SUBMIT: usize = 16;

/// Prints a row for each kernel, matrix, type and variant whose label contains `filter`. Fails at the end if one of
/// them computed something else than the CPU.
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
    let mut wrong = Vec::new();
    for dtype in [DType::Q4_1, DType::Q8_0, DType::F16] {
        for (columns, rows, name) in SHAPES {
            let mut case = None;
            for batch in [Batch::Decode, Batch::Prefill] {
                let mut want = None;
                for taken in variants(&gpu, batch) {
                    let (kernel, variant) = match batch {
                        Batch::Decode => ("matvec", taken.decode.to_string()),
                        _ => ("matmul", taken.prefill.to_string()),
                    };
                    let label = format!("{kernel} {name} {} {variant}", dtype.name());
                    if !label.contains(filter) {
                        continue;
                    }
                    let shape = (columns, rows);
                    if case.is_none() {
                        case = Some(Case::on_the_gpu(&gpu, dtype, shape).await);
                    }
                    let case = case.as_mut().unwrap();
                    if want.is_none() {
                        want = Some(on_the_cpu(dtype, shape, batch).await);
                    }
                    case.backend.set_kernels(KernelMap::all(taken));
                    let (embed, mut plans) = case.record(batch).await;
                    let right = agree(&case.rows(&embed, &plans[0], batch).await, want.as_ref().unwrap());
                    if !right {
                        wrong.push(label);
                    }
                    if batch != Batch::Decode {
                        plans.truncate(4);
                    }
                    let seconds = case.time(&plans, batch, now_ms).await;
                    let bytes = (case.bytes * plans.len() as u64) as f64 / seconds;
                    let products = f64::from(columns) * f64::from(rows) * f64::from(step(batch).count);
                    let multiplied = products * plans.len() as f64 / seconds;
                    let share = match batch {
                        Batch::Decode => bytes / rates.copy_bytes_per_second,
                        _ => multiplied / rates.fma_per_second,
                    };
                    print(format!(
                        "| {kernel} | {name} {rows}×{columns} | {} | {variant}{} | {} | {:.2} | {:.1} | {:.0} |",
                        dtype.name(),
                        if right { "" } else { " WRONG" },
                        plans.len(),
                        bytes / 1e9,
                        2.0 * multiplied / 1e9,
                        100.0 * share
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "not what the CPU computes: {wrong:?}");
}

fn variants(gpu: &Gpu, batch: Batch) -> Vec<KernelPair> {
    let usual = KernelPair::DEFAULT;
    let possible = MatvecKernel::ALL.into_iter().filter(|tuning| tuning.possible(gpu.features()));
    match batch {
        Batch::Decode => possible.map(|decode| KernelPair { decode, ..usual }).collect(),
        _ => MatmulKernel::ALL
            .into_iter()
            .filter(|tile| tile.possible(gpu.features()))
            .map(|prefill| KernelPair { prefill, ..usual })
            .collect(),
    }
}

fn step(batch: Batch) -> Step {
    Step { pos: 0, count: if batch == Batch::Decode { 1 } else { TOKENS }, row: 0, counter: 0 }
}

/// Copies of a matrix, and inputs to multiply with each.
struct Case<B: Backend> {
    backend: B,
    inputs: B::Weight,
    weights: Vec<B::Weight>,
    x: B::Tensor,
    out: B::Tensor,
    /// Of one copy.
    bytes: u64,
}

impl<B: Backend> Case<B> {
    async fn new(mut backend: B, dtype: DType, (columns, rows): (u32, u32), copies: u64) -> Self {
        let segment = |rows: u32| [Segment { dtype, rows: u64::from(rows) }];
        let inputs = backend.weight("inputs", u64::from(columns), &segment(TOKENS)).unwrap();
        backend.upload_rows(&inputs, 0, &made_up(dtype, TOKENS, columns)).unwrap();
        let x = backend.tensor("x", TOKENS, columns).unwrap();
        let out = backend.tensor("out", TOKENS, rows).unwrap();
        let bytes = made_up(dtype, rows, columns);
        let mut weights = Vec::new();
        for _ in 0..copies {
            let weight = backend.weight("weight", u64::from(columns), &segment(rows)).unwrap();
            backend.upload_rows(&weight, 0, &bytes).unwrap();
            weights.push(weight);
            backend.settle("uploading").await.unwrap();
        }
        Case { backend, inputs, weights, x, out, bytes: bytes.len() as u64 }
    }

    /// A plan that reads the inputs, and one for each copy that adds its product to the output.
    async fn record(&mut self, batch: Batch) -> (B::Plan, Vec<B::Plan>) {
        let embed = Op::Embed { table: &self.inputs, scale: 1.0, to: &self.x };
        let embed = self.backend.compile(&[embed], batch).unwrap();
        let mut plans = Vec::new();
        for weight in &self.weights {
            plans.push(self.backend.compile(&[add::<B>(&self.x, weight, &self.out)], batch).unwrap());
        }
        self.backend.compiled("recording").await.unwrap();
        (embed, plans)
    }

    /// The first and the last row of one product, which an output of zeros gets.
    async fn product(&mut self, embed: &B::Plan, plan: &B::Plan, batch: Batch) -> [Vec<f32>; 2] {
        let step = step(batch);
        self.backend.set_tokens(&(0..step.count).rev().collect::<Vec<_>>()).unwrap();
        self.backend.run(&[embed, plan], step).unwrap();
        let first = self.backend.read(&self.out, 0).await.unwrap();
        [first, self.backend.read(&self.out, step.count - 1).await.unwrap()]
    }
}

/// to += W · x.
fn add<'a, B: Backend>(x: &'a B::Tensor, weight: &'a B::Weight, to: &'a B::Tensor) -> Op<Of<'a, B>> {
    Op::Linear { x, rows: Rows::Batch, norm: None, weight, bias: None, scale: 1.0, then: Then::Add, to }
}

async fn on_the_cpu(dtype: DType, shape: (u32, u32), batch: Batch) -> [Vec<f32>; 2] {
    let options = CpuOptions { bits: Bits::Sixteen, ..CpuOptions::default() };
    let mut case = Case::new(CpuBackend::new(options), dtype, shape, 1).await;
    let (embed, plans) = case.record(batch).await;
    case.product(&embed, &plans[0], batch).await
}

/// The CPU rounds activations to 16 bits, some 1e-4 of a sum.
fn agree(got: &[Vec<f32>; 2], want: &[Vec<f32>; 2]) -> bool {
    got.iter().zip(want).all(|(got, want)| {
        let size = want.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        got.len() == want.len() && got.iter().zip(want).all(|(a, b)| (a - b).abs() <= 1e-3 * size)
    })
}

impl Case<GpuBackend> {
    async fn on_the_gpu(gpu: &std::rc::Rc<Gpu>, dtype: DType, shape: (u32, u32)) -> Self {
        let backend = GpuBackend::new(gpu.clone(), TOKENS, 1).unwrap();
        let one = u64::from(shape.0) * u64::from(shape.1) / dtype.block_len() * dtype.block_bytes();
        Case::new(backend, dtype, shape, WEIGHT_BYTES.div_ceil(one)).await
    }

    async fn rows(
        &mut self,
        embed: &<GpuBackend as Backend>::Plan,
        plan: &<GpuBackend as Backend>::Plan,
        batch: Batch,
    ) -> [Vec<f32>; 2] {
        let zeros = vec![0.0; TOKENS as usize * self.backend.stride(&self.out)];
        self.backend.write_raw(&self.out, &zeros);
        self.product(embed, plan, batch).await
    }

    /// Seconds of the fastest run.
    async fn time(
        &mut self,
        plans: &[<GpuBackend as Backend>::Plan],
        batch: Batch,
        now_ms: fn() -> f64,
    ) -> f64 {
        let plans: Vec<_> = plans.iter().collect();
        let mut best = f64::INFINITY;
        let mut repeats = 1;
        for _ in 0..=RUNS {
            let begun = now_ms();
            for plans in std::iter::repeat_n(&plans, repeats).flat_map(|plans| plans.chunks(SUBMIT)) {
                self.backend.run(plans, step(batch)).unwrap();
            }
            self.backend.settle("timing").await.unwrap();
            let ms = (now_ms() - begun) / repeats as f64;
            best = best.min(ms);
            // The first run says how many make up for the time that waiting for the end takes.
            repeats = (LEAST_MS / ms).clamp(1.0, 1000.0) as usize;
        }
        best / 1e3
    }
}
