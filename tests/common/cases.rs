//! Kernel × weight format × edge shape, against the f64 oracles. One body for every machine.

use std::cell::RefCell;
use std::rc::Rc;

use emberglass::ops::{Backend, Batch, GpuBackend, HeadShape, Norm, RopePairs, SampleParams, Segment, Step};
use emberglass::{DType, Gpu, GpuOptions};

use super::compare::{GUARD, Layout, assert_close};
use super::random::Random;
use crate::reference::{Sum, attention, project, sample, weights};

/// f32 rounding: a sum of n terms is off by at most n · 2^-24 of the sum of their magnitudes
/// (Higham, Accuracy and Stability, 2nd ed., 4.2); 64 more roundings for scales, norms and epilogues.
fn tolerance(terms: usize, sum: f64) -> f64 {
    (terms as f64 + 64.0) * 2f64.powi(-24) * sum + 1e-30
}

const EPS: f32 = 1e-5;

thread_local! {
    /// One device for all cases of a test: kernels are compiled once.
    static DEVICE: RefCell<Option<Rc<Gpu>>> = const { RefCell::new(None) };
}

/// This thread's device.
pub async fn gpu() -> Rc<Gpu> {
    if let Some(gpu) = DEVICE.with_borrow(Clone::clone) {
        return gpu;
    }
    let gpu = Gpu::new(GpuOptions::default()).await.expect("a WebGPU or Vulkan adapter");
    // Never dropped: wgpu cannot be taken down while the thread's other locals are.
    std::mem::forget(gpu.clone());
    DEVICE.set(Some(gpu.clone()));
    gpu
}

pub async fn backend() -> GpuBackend {
    GpuBackend::new(gpu().await, 128, 256).unwrap()
}

async fn backend_with(options: GpuOptions) -> GpuBackend {
    let gpu = Gpu::new(options).await.expect("a WebGPU or Vulkan adapter");
    GpuBackend::new(gpu, 128, 256).unwrap()
}

/// Widths and heights that end on, before and past every tile: block 32, pairs 32, odd.
fn shapes(dtype: DType) -> Vec<(usize, usize)> {
    if dtype.block_len() == 1 {
        vec![(1, 1), (5, 3), (33, 66), (64, 31)]
    } else {
        vec![(32, 1), (96, 65), (576, 66), (160, 7)]
    }
}

const BATCHES: [(Batch, usize); 5] =
    [(Batch::One, 1), (Batch::Many, 1), (Batch::Many, 3), (Batch::Many, 32), (Batch::Many, 33)];

struct Setup {
    backend: GpuBackend,
    random: Random,
}

struct Matrix<W> {
    weight: W,
    values: Vec<f64>, // (rows, cols)
}

impl Setup {
    async fn new(seed: u64) -> Self {
        Setup { backend: backend().await, random: Random::new(seed) }
    }

    /// Random rows of one or more dtypes, uploaded in two pieces.
    fn matrix(
        &mut self,
        cols: usize,
        segments: &[(DType, usize)],
        stride: u32,
    ) -> Matrix<<GpuBackend as Backend>::Weight> {
        let parts: Vec<_> =
            segments.iter().map(|&(dtype, rows)| Segment { dtype, rows: rows as u64 }).collect();
        let weight = self.backend.weight("w", cols as u64, &parts, stride).unwrap();
        let mut values = Vec::new();
        let mut row = 0;
        for &(dtype, rows) in segments {
            let bytes = weights::random_rows(dtype, rows, cols, &mut self.random);
            let half = rows / 2;
            let (first, rest) = bytes.split_at(bytes.len() / rows * half);
            self.backend.upload_rows(&weight, row, first).unwrap();
            self.backend.upload_rows(&weight, row + half as u64, rest).unwrap();
            values.extend(weights::dequantize(dtype, &bytes));
            row += rows as u64;
        }
        Matrix { weight, values }
    }

    /// Random activations; the padding is zero, as kernels may rely on.
    fn input(&mut self, rows: usize, cols: usize) -> (<GpuBackend as Backend>::Tensor, Vec<f64>) {
        let tensor = self.backend.tensor("x", rows as u32, cols as u32).unwrap();
        let stride = self.backend.stride(&tensor);
        let mut raw = vec![0.0; rows * stride];
        let mut values = Vec::new();
        for row in 0..rows {
            let floats = self.random.floats(cols);
            raw[row * stride..row * stride + cols].copy_from_slice(&floats);
            values.extend(floats.iter().map(|&v| f64::from(v)));
        }
        self.backend.write_raw(&tensor, &raw);
        (tensor, values)
    }

    /// An output with one row more than is written, all guards.
    fn output(&mut self, rows: usize, cols: usize) -> (<GpuBackend as Backend>::Tensor, Layout) {
        let tensor = self.backend.tensor("y", rows as u32 + 1, cols as u32).unwrap();
        let stride = self.backend.stride(&tensor);
        self.backend.write_raw(&tensor, &vec![GUARD; (rows + 1) * stride]);
        (tensor, Layout { rows, cols, stride })
    }

    fn gain(&mut self, len: usize) -> (<GpuBackend as Backend>::Vector, Vec<f64>) {
        let values = self.random.floats(len);
        let vector = self.backend.vector("gain", len as u32).unwrap();
        self.backend.upload_vector(&vector, 0, &values);
        (vector, values.iter().map(|&v| f64::from(v)).collect())
    }

    async fn run(&mut self, step: Step) {
        let plan = self.backend.finish();
        self.backend.run(&[&plan], step).unwrap();
        self.backend.settle("test").await.unwrap();
    }

    async fn check(
        &self,
        what: &str,
        tensor: &<GpuBackend as Backend>::Tensor,
        layout: &Layout,
        want: &[Sum],
        terms: usize,
    ) {
        let got = self.backend.read_raw(tensor).await.unwrap();
        let values: Vec<f64> = want.iter().map(|s| s.value).collect();
        let tolerances: Vec<f64> = want.iter().map(|s| tolerance(terms, s.sum)).collect();
        assert_close(what, &got, layout, &values, &tolerances);
    }
}

fn step(pos: usize, count: usize, row: usize) -> Step {
    Step { pos: pos as u32, count: count as u32, row: row as u32, counter: 0 }
}

/// x += W h.
pub async fn project_add(dtype: DType) {
    for (cols, rows) in shapes(dtype) {
        for (batch, count) in BATCHES {
            let mut s = Setup::new((cols * 1000 + rows) as u64).await;
            let w = s.matrix(cols, &[(dtype, rows)], 1);
            let (h, h_values) = s.input(count, cols);
            let (x, layout) = s.output(count, rows);
            // The residual itself, with guards left round it.
            let mut raw = vec![GUARD; (count + 1) * layout.stride];
            let mut want = Vec::new();
            for t in 0..count {
                for (i, y) in
                    project::matvec(&w.values, &h_values[t * cols..(t + 1) * cols]).iter().enumerate()
                {
                    let residual = s.random.float();
                    raw[t * layout.stride + i] = residual;
                    let residual = f64::from(residual);
                    want.push(Sum { value: residual + y.value, sum: residual.abs() + y.sum });
                }
            }
            s.backend.write_raw(&x, &raw);
            s.backend.project_add(&h, &w.weight, &x, batch).unwrap();
            s.run(step(0, count, 0)).await;
            let what = format!("project_add {} {cols}x{rows} {batch:?} {count}", dtype.name());
            s.check(&what, &x, &layout, &want, cols).await;
        }
    }
}

/// h = silu(gate · norm(x)) ⊙ (up · norm(x)).
pub async fn gate_up(dtype: DType) {
    for (cols, half) in shapes(dtype) {
        for (batch, count) in BATCHES {
            let mut s = Setup::new((cols * 1000 + half + 1) as u64).await;
            let w = s.matrix(cols, &[(dtype, half), (dtype, half)], half as u32);
            let (x, x_values) = s.input(count, cols);
            let (gain, gain_values) = s.gain(cols);
            let (h, layout) = s.output(count, half);
            let mut want = Vec::new();
            for t in 0..count {
                let normed =
                    project::rms_norm(&x_values[t * cols..(t + 1) * cols], &gain_values, f64::from(EPS));
                let y = project::matvec(&w.values, &normed);
                want.extend((0..half).map(|i| project::swiglu(y[i], y[half + i])));
            }
            let norm = Norm { gain: &gain, eps: EPS, bias_at: None };
            s.backend.gate_up(&x, &norm, &w.weight, &h, batch).unwrap();
            s.run(step(0, count, 0)).await;
            let what = format!("gate_up {} {cols}x{half} {batch:?} {count}", dtype.name());
            s.check(&what, &h, &layout, &want, 2 * cols).await;
        }
    }
}

/// logits = W · norm(x[row]).
pub async fn head(dtype: DType) {
    for (cols, rows) in shapes(dtype) {
        let mut s = Setup::new((cols * 1000 + rows + 2) as u64).await;
        let w = s.matrix(cols, &[(dtype, rows)], 1);
        let (x, x_values) = s.input(4, cols);
        let (gain, gain_values) = s.gain(cols);
        for row in [0, 3] {
            let (logits, layout) = s.output(1, rows);
            let normed =
                project::rms_norm(&x_values[row * cols..(row + 1) * cols], &gain_values, f64::from(EPS));
            let want = project::matvec(&w.values, &normed);
            let norm = Norm { gain: &gain, eps: EPS, bias_at: None };
            s.backend.head(&x, &norm, &w.weight, &logits).unwrap();
            s.run(step(0, 4, row)).await;
            s.check(&format!("head {} {cols}x{rows} row {row}", dtype.name()), &logits, &layout, &want, cols)
                .await;
        }
    }
}

/// x[t] = row of the embedding.
pub async fn embed(dtype: DType) {
    for (cols, rows) in shapes(dtype) {
        for count in [1, 3, 65] {
            let mut s = Setup::new((cols * 1000 + rows + 3) as u64).await;
            let w = s.matrix(cols, &[(dtype, rows)], 1);
            let tokens: Vec<u32> = (0..count).map(|_| s.random.below(rows as u64) as u32).collect();
            check_embed(&mut s, dtype, &w, cols, &tokens).await;
        }
    }
}

async fn check_embed(
    s: &mut Setup,
    dtype: DType,
    w: &Matrix<<GpuBackend as Backend>::Weight>,
    cols: usize,
    tokens: &[u32],
) {
    // The padding of a block is written too, with the weight's own zeros.
    let padded = cols.next_multiple_of(32);
    let (x, mut layout) = s.output(tokens.len(), cols);
    layout.cols = padded;
    let mut want = Vec::new();
    for &token in tokens {
        let row = &w.values[token as usize * cols..(token as usize + 1) * cols];
        want.extend(row.iter().map(|&value| Sum { value, sum: value.abs() }));
        want.resize(want.len().next_multiple_of(padded), Sum::default());
    }
    s.backend.set_tokens(tokens);
    s.backend.embed(&w.weight, &x, Batch::Many).unwrap();
    s.run(step(0, tokens.len(), 0)).await;
    // d q + m is two roundings; covered by the 64 of `tolerance`, on |d q| + |m| <= 20 |d q + m| + 1.
    for sum in &mut want {
        sum.sum += 1.0;
    }
    s.check(&format!("embed {} {cols} x {}", dtype.name(), tokens.len()), &x, &layout, &want, 0).await;
}

/// Embedding and head of a vocabulary that no binding of this device could hold.
pub async fn split_vocabulary() {
    let (cols, rows) = (64, 257);
    for dtype in [DType::Q4_0, DType::Q8_0, DType::F16] {
        // Room for 80 rows of F16, 160 of Q8_0, 320 of Q4_0; the rope of other buffers is smaller.
        let options = GpuOptions { max_binding_bytes: Some(10240) };
        let mut s = Setup { backend: backend_with(options).await, random: Random::new(7) };
        let w = s.matrix(cols, &[(dtype, rows)], 1);
        check_embed(&mut s, dtype, &w, cols, &[0, 79, 80, 159, 160, 161, 255, 256]).await;
        let (x, x_values) = s.input(1, cols);
        let (gain, gain_values) = s.gain(cols);
        let (logits, layout) = s.output(1, rows);
        let want = project::matvec(&w.values, &project::rms_norm(&x_values, &gain_values, f64::from(EPS)));
        s.backend.head(&x, &Norm { gain: &gain, eps: EPS, bias_at: None }, &w.weight, &logits).unwrap();
        let plan = s.backend.finish();
        let parts = GpuBackend::dispatches(&plan);
        assert_eq!(parts > 1, dtype != DType::Q4_0, "{}: {parts} parts", dtype.name());
        s.backend.run(&[&plan], step(0, 1, 0)).unwrap();
        s.check(&format!("split head {}", dtype.name()), &logits, &layout, &want, cols).await;
    }
}

fn heads(heads: u32, kv_heads: u32, head_dim: u32, capacity: u32) -> HeadShape {
    HeadShape { heads, kv_heads, head_dim, rope_dim: head_dim, pairs: RopePairs::Adjacent, capacity }
}

/// Q, K, V with RoPE (whole and partial), bias, mixed dtypes, and the place in the cache.
pub async fn qkv(dtype: DType) {
    let cols = 64;
    for (shape, bias, other) in [
        (heads(3, 1, 32, 9), false, dtype),
        (HeadShape { rope_dim: 16, ..heads(4, 2, 64, 9) }, true, dtype),
        (heads(2, 2, 32, 9), true, DType::Q8_0),
    ] {
        for (batch, count, pos) in
            [(Batch::One, 1, 0), (Batch::One, 1, 8), (Batch::Many, 5, 3), (Batch::Many, 9, 0)]
        {
            let mut s = Setup::new((shape.heads * 100 + count as u32) as u64).await;
            let (q_rows, kv_rows) =
                ((shape.heads * shape.head_dim) as usize, (shape.kv_heads * shape.head_dim) as usize);
            let all = q_rows + 2 * kv_rows;
            let w = s.matrix(cols, &[(dtype, q_rows), (dtype, kv_rows), (other, kv_rows)], 1);
            let (x, x_values) = s.input(count, cols);
            let (aux, aux_values) = s.gain(cols + if bias { all } else { 0 });
            let (q, layout) = s.output(count, q_rows);
            let cache = s.backend.cache("cache", shape).unwrap();
            let cells = kv_rows * shape.capacity as usize;
            s.backend.write_cache(&cache, &vec![GUARD; cells], &vec![GUARD; cells]);
            let (dim, rope_dim) = (shape.head_dim as usize, shape.rope_dim as usize);
            let base: f64 = 10_000.0;
            let table: Vec<f32> = (0..shape.capacity as usize)
                .flat_map(|p| {
                    (0..rope_dim / 2).flat_map(move |i| {
                        let angle = p as f64 * base.powf(-2.0 * i as f64 / rope_dim as f64);
                        [angle.cos() as f32, angle.sin() as f32]
                    })
                })
                .collect();
            let rope = s.backend.vector("rope", table.len() as u32).unwrap();
            s.backend.upload_vector(&rope, 0, &table);

            let mut want_q = Vec::new();
            let mut want_cache = [vec![None; cells], vec![None; cells]];
            for t in 0..count {
                let normed = project::rms_norm(
                    &x_values[t * cols..(t + 1) * cols],
                    &aux_values[..cols],
                    f64::from(EPS),
                );
                let mut y = project::matvec(&w.values, &normed);
                if bias {
                    for (y, b) in y.iter_mut().zip(&aux_values[cols..]) {
                        y.value += b;
                        y.sum += b.abs();
                    }
                }
                let (rotated, v) = y.split_at_mut(q_rows + kv_rows);
                for head in rotated.chunks_exact_mut(dim) {
                    project::rope(head, rope_dim, pos + t, base);
                }
                want_q.extend_from_slice(&rotated[..q_rows]);
                for (cache, rows) in want_cache.iter_mut().zip([&rotated[q_rows..], v]) {
                    for (i, value) in rows.iter().enumerate() {
                        let at = (i / dim * shape.capacity as usize + pos + t) * dim + i % dim;
                        cache[at] = Some(*value);
                    }
                }
            }
            let norm = Norm { gain: &aux, eps: EPS, bias_at: bias.then_some(cols as u32) };
            s.backend.qkv(&x, &norm, &w.weight, &rope, &q, &cache, batch).unwrap();
            s.run(step(pos, count, 0)).await;
            let what = format!("qkv {} {shape:?} {batch:?} at {pos} of {count}", dtype.name());
            s.check(&what, &q, &layout, &want_q, cols).await;
            for (name, got, want) in s
                .backend
                .read_cache(&cache)
                .await
                .unwrap()
                .iter()
                .zip(&want_cache)
                .zip(["K", "V"])
                .map(|((g, w), n)| (n, g, w))
            {
                // Cells of other positions must still be guards: wanted exactly.
                let values: Vec<f64> =
                    want.iter().map(|c| c.map_or(f64::from(GUARD), |s: Sum| s.value)).collect();
                let tolerances: Vec<f64> =
                    want.iter().map(|c| c.map_or(0.0, |s| tolerance(cols, s.sum))).collect();
                let layout = Layout { rows: 1, cols: cells, stride: cells };
                assert_close(&format!("{what}: {name}"), &got[..cells], &layout, &values, &tolerances);
            }
        }
    }
}

/// Attention and its projection (an identity, so that its output shows), decode and prefill.
pub async fn attention() {
    let capacity = 600;
    for shape in [
        heads(1, 1, 32, capacity),
        heads(9, 3, 64, capacity),
        heads(4, 2, 128, capacity),
        heads(2, 1, 96, capacity),
        heads(4, 1, 256, capacity),
    ] {
        let (dim, width) = (shape.head_dim as usize, (shape.heads * shape.head_dim) as usize);
        let group = (shape.heads / shape.kv_heads) as usize;
        let mut cases: Vec<_> = [0, 1, 7, 63, 64, 513].map(|pos| (Batch::One, 1, pos)).to_vec();
        cases.extend(
            [(1, 0), (5, 0), (17, 0), (16, 31), (33, 64), (6, 500)].map(|(n, pos)| (Batch::Many, n, pos)),
        );
        for (batch, count, pos) in cases {
            let mut s = Setup::new(u64::from(shape.head_dim) + pos as u64).await;
            let cells = shape.kv_heads as usize * capacity as usize * dim;
            // Beyond the last position the cache holds NaN: nothing may look there.
            let mut cache_values = [vec![f32::NAN; cells], vec![f32::NAN; cells]];
            for values in &mut cache_values {
                for head in values.chunks_exact_mut(capacity as usize * dim) {
                    head[..(pos + count) * dim].copy_from_slice(&s.random.floats((pos + count) * dim));
                }
            }
            let [k, v] = &cache_values;
            let cache = s.backend.cache("cache", shape).unwrap();
            s.backend.write_cache(&cache, k, v);
            let (q, q_values) = s.input(count, width);
            let identity = s
                .backend
                .weight("identity", width as u64, &[Segment { dtype: DType::F32, rows: width as u64 }], 1)
                .unwrap();
            for row in 0..width {
                let mut line = vec![0f32; width];
                line[row] = 1.0;
                let bytes: Vec<u8> = line.iter().flat_map(|v| v.to_le_bytes()).collect();
                s.backend.upload_rows(&identity, row as u64, &bytes).unwrap();
            }
            let (x, layout) = s.output(count, width);
            let mut raw = vec![GUARD; (count + 1) * layout.stride];
            for row in 0..count {
                raw[row * layout.stride..row * layout.stride + width].fill(0.0);
            }
            s.backend.write_raw(&x, &raw);
            let as_f64 = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
            let mut want = Vec::new();
            for t in 0..count {
                for head in 0..shape.heads as usize {
                    let from = head / group * capacity as usize * dim;
                    let seen = from..from + (pos + t + 1) * dim;
                    let q = &q_values[t * width + head * dim..][..dim];
                    want.extend(attention::attend(q, &as_f64(&k[seen.clone()]), &as_f64(&v[seen])));
                }
            }
            s.backend.attend(&q, &cache, &identity, &x, batch).unwrap();
            s.run(step(pos, count, 0)).await;
            let got = s.backend.read_raw(&x).await.unwrap();
            // A score is a sum of `dim` products of size <= 100, so its error shifts p by that much
            // relatively; outputs are averages of |v| <= 10.
            let score_error = (dim as f64 + 8.0) * 2f64.powi(-24) * 100.0 * (dim as f64).sqrt();
            let tolerances =
                vec![10.0 * (2.0 * score_error + (pos + count + 16) as f64 * 2f64.powi(-23)); want.len()];
            let what = format!("attention {shape:?} {batch:?} {count} at {pos}");
            assert_close(&what, &got, &layout, &want, &tolerances);
        }
    }
}

fn params() -> SampleParams {
    SampleParams {
        top_k: 1,
        top_p: 1.0,
        min_p: 0.0,
        temperature: 0.0,
        seed: 0,
        repetition: 1.0,
        presence: 0.0,
        frequency: 0.0,
        window: 0,
    }
}

struct Sampling {
    setup: Setup,
    logits: <GpuBackend as Backend>::Tensor,
    plans: [<GpuBackend as Backend>::Plan; 2],
}

impl Sampling {
    async fn new(vocab: usize, seed: u64) -> Self {
        let mut setup = Setup::new(seed).await;
        let logits = setup.backend.tensor("logits", 1, vocab as u32).unwrap();
        let plans = [false, true].map(|adjust| {
            setup.backend.sample(&logits, adjust).unwrap();
            setup.backend.finish()
        });
        Sampling { setup, logits, plans }
    }

    async fn draw(&mut self, values: &[f32], adjust: bool, counter: u32) -> u32 {
        let mut raw = values.to_vec();
        raw.resize(values.len().next_multiple_of(32), f32::MAX); // padding must never win
        self.setup.backend.write_raw(&self.logits, &raw);
        let step = Step { counter, ..step(0, 1, 0) };
        let ticket = self.setup.backend.run_and_fetch(&[&self.plans[usize::from(adjust)]], step).unwrap();
        self.setup.backend.token(ticket).await.unwrap()
    }
}

/// Greedy: the highest logit, the lowest id among equals, wherever it lies; NaN never.
pub async fn sample_greedy() {
    for vocab in [1, 2, 63, 65, 1000, 49_152, 262_145] {
        let mut s = Sampling::new(vocab, vocab as u64).await;
        s.setup.backend.set_sampling(&params(), &[], &[]).unwrap();
        for place in [0, vocab / 2, vocab - 1] {
            let mut logits = s.setup.random.floats(vocab);
            logits[place] = 50.0;
            logits[vocab - 1] = 50.0;
            if place > 0 {
                logits[place - 1] = f32::NAN;
            }
            assert_eq!(s.draw(&logits, false, 0).await, place as u32, "vocabulary {vocab}");
        }
        let negative = vec![-3e30; vocab];
        assert_eq!(s.draw(&negative, false, 0).await, 0, "all equal");
    }
}

/// The whole chain against its definition: same random number, same token.
pub async fn sample_chain() {
    let vocab = 1000;
    let bias = [(3, 2.5f32), (999, f32::NEG_INFINITY), (500, -1.0)];
    let mut compared = 0;
    for (top_k, top_p, min_p, temperature) in [
        (40, 0.95, 0.05, 0.8),
        (128, 1.0, 0.0, 1.5),
        (2, 1.0, 0.0, 1.0),
        (40, 0.5, 0.0, 1.0),
        (100, 1.0, 0.3, 2.0),
        (64, 0.0, 1.0, 0.1),
    ] {
        for adjust in [false, true] {
            let mut s = Sampling::new(vocab, top_k as u64).await;
            let seed = 0x1234_5678_9abc_def0 + top_k as u64;
            let mut recent: Vec<u32> = (0..11).map(|_| s.setup.random.below(40) as u32).collect();
            let gpu = SampleParams {
                top_k: top_k as u32,
                top_p: top_p as f32,
                min_p: min_p as f32,
                temperature: temperature as f32,
                seed,
                repetition: 1.3,
                presence: 0.25,
                frequency: 0.5,
                window: 8,
            };
            s.setup.backend.set_sampling(&gpu, &bias, &recent).unwrap();
            for counter in 0..24 {
                // Close logits, so that the cuts and the draw matter.
                let logits: Vec<f32> = s.setup.random.floats(vocab).iter().map(|v| v * 0.3).collect();
                let drawn = s.draw(&logits, adjust, counter).await;
                let chain = sample::Chain {
                    bias: if adjust { &bias } else { &[] },
                    repetition: 1.3f32.into(),
                    presence: 0.25,
                    frequency: 0.5,
                    recent: if adjust { &recent[recent.len() - 8..] } else { &[] },
                    top_k,
                    top_p: f64::from(top_p as f32),
                    min_p: f64::from(min_p as f32),
                    temperature: f64::from(temperature as f32),
                };
                let candidates = sample::candidates(&logits, &chain);
                let (wanted, margin) = sample::draw(&candidates, sample::uniform(seed, counter));
                // Within the rounding of up to 128 additions in f32 either neighbour is right.
                if margin > 1e-4 {
                    assert_eq!(drawn, wanted, "top_k {top_k}, adjust {adjust}, draw {counter}");
                    compared += 1;
                } else {
                    assert!(candidates.iter().any(|(id, _)| *id == drawn));
                }
                if adjust {
                    recent.push(drawn);
                }
            }
        }
    }
    assert!(compared > 250, "only {compared} draws were far enough from a border");
}
