//! The CPU path's attention beside the products of the same layers: SmolLM2-135M's shapes, one thread.

use emberglass::DType;
use emberglass::cpu::{CpuBackend, CpuOptions};
use emberglass::engine::device::made_up;
use emberglass::graph::{Backend, Batch, HeadShape, KvType, Op, Segment, Step};

/// Each has a cache and weights of its own, so that what is read is as cold as in a model.
const LAYERS: usize = 30;
const DIM: u32 = 64;
const HEADS: u32 = 9;
const KV_HEADS: u32 = 3;
const CONTEXT: u32 = 2048;
const TOKENS: u32 = 128;
/// Columns and rows of a layer's matrices.
const MATRICES: [(u32, u32); 4] = [(576, 960), (576, 576), (576, 3072), (1536, 576)];
/// Timed runs; the best counts.
const RUNS: usize = 5;

/// Prints a row for each place in the context, in decode and in prefill.
pub fn run(now_ms: fn() -> f64, print: fn(String)) {
    print("| attention of | at | ms a token | GFLOP/s | products, ms a token |".to_owned());
    print("|---|---|---|---|---|".to_owned());
    for kv in [KvType::F32, KvType::F16] {
        for (name, batch, count) in [("one token", Batch::Decode, 1), ("128 tokens", Batch::Prefill, TOKENS)]
        {
            let mut layers = Layers::new(kv, batch);
            for end in [128, 512, 1024, 2048] {
                let pos = end - count;
                let (attention, products) = layers.time(Step { pos, count, row: 0, counter: 0 }, now_ms);
                let seen: u32 = (pos + 1..=pos + count).sum();
                let flops = 4.0 * f64::from(seen) * f64::from(HEADS * DIM) * LAYERS as f64;
                let token = f64::from(count);
                print(format!(
                    "| {name}, {} | {end} | {:.2} | {:.1} | {:.2} |",
                    kv.name(),
                    attention / token,
                    flops / attention / 1e6,
                    products / token
                ));
            }
        }
    }
}

struct Layers {
    backend: CpuBackend,
    attention: <CpuBackend as Backend>::Plan,
    products: <CpuBackend as Backend>::Plan,
}

impl Layers {
    fn new(kv: KvType, batch: Batch) -> Self {
        let mut backend = CpuBackend::new(CpuOptions::default());
        let (width, rows) = (HEADS * DIM, if batch == Batch::Decode { 1 } else { TOKENS });
        let shape = HeadShape {
            heads: HEADS,
            kv_heads: KV_HEADS,
            head_dim: DIM,
            scale: 0.125,
            cap: 0.0,
            window: 0,
            max_batch: TOKENS,
            capacity: CONTEXT,
            kv,
        };
        let values: Vec<f32> = (0..4096).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
        let qkv = backend.tensor("qkv", rows, width + 2 * KV_HEADS * DIM).unwrap();
        let floats = backend.read_raw(&qkv).len();
        backend.write_raw(&qkv, &values.iter().copied().cycle().take(floats).collect::<Vec<_>>());
        let out = backend.tensor("out", rows, width).unwrap();
        let mut caches = Vec::new();
        for _ in 0..LAYERS {
            let cache = backend.cache("cache", shape).unwrap();
            for pos in 0..CONTEXT as usize {
                let kv = &values[pos..][..(KV_HEADS * DIM) as usize];
                backend.write_cache(&cache, pos, kv, kv);
            }
            caches.push(cache);
        }
        let attend: Vec<_> = caches.iter().map(|memory| Op::Attend { qkv: &qkv, memory, to: &out }).collect();
        let attention = backend.compile(&attend, batch).unwrap();
        let mut products = Vec::new();
        for (columns, outputs) in MATRICES {
            let h = backend.tensor("h", rows, columns).unwrap();
            let x = backend.tensor("x", rows, outputs).unwrap();
            let bytes = made_up(DType::Q4_1, outputs, columns);
            let segment = [Segment { dtype: DType::Q4_1, rows: outputs.into() }];
            for _ in 0..LAYERS {
                let weight = backend.weight("weight", columns.into(), &segment).unwrap();
                backend.upload_rows(&weight, 0, &bytes).unwrap();
                products.push((h.clone(), weight, x.clone()));
            }
        }
        let add: Vec<_> = products.iter().map(|(h, weight, x)| super::add(h, weight, x)).collect();
        let products = backend.compile(&add, batch).unwrap();
        Layers { attention, products, backend }
    }

    /// Milliseconds of attention and of products, each the fastest run.
    fn time(&mut self, step: Step, now_ms: fn() -> f64) -> (f64, f64) {
        // A browser's clock has steps of a millisecond.
        let times = if step.count == 1 { 10 } else { 1 };
        let mut best = [f64::INFINITY; 2];
        for _ in 0..RUNS {
            for (plan, best) in [&self.attention, &self.products].into_iter().zip(&mut best) {
                let begun = now_ms();
                self.backend.run(&vec![plan; times], step).unwrap();
                *best = best.min((now_ms() - begun) / times as f64);
            }
        }
        (best[0], best[1])
    }
}
