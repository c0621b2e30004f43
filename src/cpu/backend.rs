//! The CPU backend: what each operation works on, and how plans run.
//!
//! A plan is a list of operations with what they work on. Running it runs them in order, here and
//! now; only large products are shared with the [`Team`]. Projections write to scratch memory, and
//! what follows them (bias, RoPE, SwiGLU, residual) goes over it once, while it is in the cache.

use std::cell::Cell;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::graph::{Backend, Batch, HeadShape, Norm, Segment, Step, Traffic};
use crate::sampling::{SampleParams, draw};

use super::activations::{Activations, Bits};
use super::attention::{Cache, Head, Query};
use super::matrix::TOKENS;
use super::memory::{Account, Shared, floats};
use super::panel::BLOCK;
use super::simd::Level;
use super::team::{How, Team};
use super::vector;
use super::weight::CpuWeight;

/// Options of the CPU backend.
pub struct CpuOptions {
    /// Which vectors; [`Level::best`] unless a test wants another.
    pub level: Level,
    /// How finely activations are rounded.
    pub bits: Bits,
    /// Threads that share the work.
    pub team: Team,
}

impl Default for CpuOptions {
    /// The best vectors, sixteen bits, one thread.
    fn default() -> Self {
        CpuOptions { level: Level::best(), bits: Bits::default(), team: Team::solo() }
    }
}

/// Activations (rows, cols) f32. Rows lie `stride` floats apart, a multiple of 32; the padding is zero.
#[derive(Clone)]
pub struct CpuTensor {
    data: Shared<Vec<f32>>,
    rows: usize,
    cols: usize,
    stride: usize,
}

impl CpuTensor {
    fn row_at(&self, t: usize) -> std::ops::Range<usize> {
        t * self.stride..t * self.stride + self.cols
    }
}

/// K and V of one layer.
#[derive(Clone)]
pub struct CpuCache(Cache);

/// A vector of f32.
pub type CpuVector = Shared<Vec<f32>>;

/// RMSNorm in front of a projection, as recorded.
#[derive(Clone)]
struct OwnedNorm {
    gain: CpuVector,
    eps: f32,
}

enum Op {
    Embed {
        weight: CpuWeight,
        x: CpuTensor,
    },
    Qkv {
        x: CpuTensor,
        norm: OwnedNorm,
        weight: CpuWeight,
        bias: Option<CpuVector>,
        rope: CpuVector,
        qkv: CpuTensor,
        shape: HeadShape,
    },
    Attend {
        qkv: CpuTensor,
        cache: CpuCache,
        weight: CpuWeight,
        bias: Option<CpuVector>,
        x: CpuTensor,
    },
    GateUp {
        x: CpuTensor,
        norm: OwnedNorm,
        weight: CpuWeight,
        bias: Option<CpuVector>,
        h: CpuTensor,
    },
    ProjectAdd {
        h: CpuTensor,
        weight: CpuWeight,
        bias: Option<CpuVector>,
        x: CpuTensor,
    },
    Head {
        x: CpuTensor,
        norm: OwnedNorm,
        weight: CpuWeight,
        logits: CpuTensor,
        batch: Batch,
    },
    Sample {
        logits: CpuTensor,
        adjust: bool,
        batch: Batch,
    },
}

/// Recorded operations.
pub struct CpuPlan(Vec<Op>);

/// How tokens are drawn.
struct Sampling {
    params: SampleParams,
    bias: Vec<(u32, f32)>,
    recent: Vec<u32>,
}

/// Memory between two steps of an operation, kept from run to run.
#[derive(Default)]
struct Scratch {
    input: Activations,
    output: Vec<f32>,
}

/// The op set as SIMD code.
pub struct CpuBackend {
    level: Level,
    bits: Bits,
    team: Team,
    account: Account,
    weights: usize,
    recording: Vec<Op>,
    tokens: Vec<u32>,
    sampling: Option<Sampling>,
    scratch: Scratch,
    traffic: Traffic,
    breath: crate::breath::Breath,
}

impl CpuBackend {
    /// A backend.
    #[must_use]
    pub fn new(options: CpuOptions) -> Self {
        CpuBackend {
            level: options.level,
            bits: options.bits,
            team: options.team,
            account: Rc::new(Cell::new(0)),
            weights: 0,
            recording: Vec::new(),
            tokens: Vec::new(),
            sampling: None,
            scratch: Scratch::default(),
            traffic: Traffic::default(),
            breath: crate::breath::Breath::default(),
        }
    }

    /// The vectors in use.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// How finely activations are rounded.
    #[must_use]
    pub fn bits(&self) -> Bits {
        self.bits
    }

    /// Threads that compute.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.team.size()
    }

    /// Wasm memory of the helpers together, in bytes.
    #[cfg(target_arch = "wasm32")]
    #[must_use]
    pub fn helper_heap_bytes(&self) -> u64 {
        self.team.helper_heap_bytes()
    }

    /// All floats of a tensor, padding included. For tests.
    #[must_use]
    pub fn read_raw(&self, tensor: &CpuTensor) -> Vec<f32> {
        tensor.data.read().clone()
    }

    /// Overwrites all floats of a tensor, padding included. For tests.
    pub fn write_raw(&self, tensor: &CpuTensor, values: &[f32]) {
        tensor.data.write().copy_from_slice(values);
    }

    /// Floats from one row of a tensor to the next.
    #[must_use]
    pub fn stride(&self, tensor: &CpuTensor) -> usize {
        tensor.stride
    }

    /// K and V of a cache, each (kv_heads, capacity, head_dim). For tests.
    #[must_use]
    pub fn read_cache(&self, cache: &CpuCache) -> [Vec<f32>; 2] {
        cache.0.read()
    }

    /// What a cache is for. For tests.
    #[must_use]
    pub fn cache_shape(&self, cache: &CpuCache) -> HeadShape {
        cache.0.shape
    }

    /// Puts K and V, each (kv_heads, head_dim), into a cache at a position. For tests.
    pub fn write_cache(&self, cache: &CpuCache, pos: usize, k: &[f32], v: &[f32]) {
        cache.0.store(pos, k, v);
    }

    fn execute(&mut self, op: &Op, step: Step, scratch: &mut Scratch) -> Result<()> {
        let count = step.count as usize;
        match op {
            Op::Embed { weight, x } => self.run_embed(weight, x, count),
            Op::Qkv { x, norm, weight, bias, rope, qkv, shape } => {
                self.normed(x, 0, count, norm, &mut scratch.input);
                self.project(weight, scratch)?;
                add_bias(self.level, bias.as_ref(), &mut scratch.output);
                store_qkv(&scratch.output, &rope.read(), qkv, *shape, step.pos as usize);
                Ok(())
            }
            Op::Attend { qkv, cache, weight, bias, x } => {
                self.run_attention(qkv, &cache.0, step, &mut scratch.input);
                self.project(weight, scratch)?;
                add_bias(self.level, bias.as_ref(), &mut scratch.output);
                self.add_to(x, &scratch.output, count);
                Ok(())
            }
            Op::GateUp { x, norm, weight, bias, h } => {
                self.normed(x, 0, count, norm, &mut scratch.input);
                self.project(weight, scratch)?;
                add_bias(self.level, bias.as_ref(), &mut scratch.output);
                let mut h_data = h.data.write();
                for (t, both) in scratch.output.chunks_exact(2 * h.cols).enumerate() {
                    let (gate, up) = both.split_at(h.cols);
                    vector::swiglu(self.level, gate, up, &mut h_data[h.row_at(t)]);
                }
                Ok(())
            }
            Op::ProjectAdd { h, weight, bias, x } => {
                let data = h.data.read();
                scratch.input.set(count, h.cols, |t, row| row.copy_from_slice(&data[h.row_at(t)]));
                self.project(weight, scratch)?;
                add_bias(self.level, bias.as_ref(), &mut scratch.output);
                self.add_to(x, &scratch.output, count);
                Ok(())
            }
            Op::Head { x, norm, weight, logits, batch } => {
                let first = if *batch == Batch::One { step.row as usize } else { 0 };
                self.normed(x, first, draws(*batch, count), norm, &mut scratch.input);
                self.project(weight, scratch)?;
                let mut data = logits.data.write();
                for (t, y) in scratch.output.chunks_exact(logits.cols).enumerate() {
                    data[logits.row_at(t)].copy_from_slice(y);
                }
                Ok(())
            }
            Op::Sample { logits, adjust, batch } => {
                self.tokens.clear();
                (0..draws(*batch, count))
                    .try_for_each(|t| self.run_sample(logits, t, *adjust, step.counter + t as u32))
            }
        }
    }

    /// Rows `first`, … of x, normed, as the input of a projection.
    fn normed(&self, x: &CpuTensor, first: usize, count: usize, norm: &OwnedNorm, input: &mut Activations) {
        let (x_data, gain) = (x.data.read(), norm.gain.read());
        input.set(count, x.cols, |t, row| {
            vector::rms_norm(self.level, &x_data[x.row_at(first + t)], &gain[..x.cols], norm.eps, row);
        });
    }

    /// scratch.output (T, rows) = W · scratch.input.
    fn project(&mut self, weight: &CpuWeight, scratch: &mut Scratch) -> Result<()> {
        scratch.output.resize(scratch.input.rows() * weight.rows(), 0.0);
        self.traffic.weight_bytes += weight.bytes();
        let how = How { level: self.level, bits: self.bits };
        self.team.project(how, weight, &mut scratch.input, &mut scratch.output)
    }

    fn add_to(&self, x: &CpuTensor, y: &[f32], count: usize) {
        let mut data = x.data.write();
        for (t, y) in y.chunks_exact(x.cols).take(count).enumerate() {
            vector::add(self.level, &mut data[x.row_at(t)], y);
        }
    }

    fn run_embed(&mut self, weight: &CpuWeight, x: &CpuTensor, count: usize) -> Result<()> {
        fits("embed", count <= self.tokens.len() && count <= x.rows)?;
        let mut data = x.data.write();
        for (t, &token) in self.tokens.iter().take(count).enumerate() {
            self.team.row(weight, token as usize, &mut data[x.row_at(t)])?;
            data[x.row_at(t).end..(t + 1) * x.stride].fill(0.0);
        }
        Ok(())
    }

    fn run_attention(&self, qkv: &CpuTensor, cache: &Cache, step: Step, input: &mut Activations) {
        let shape = cache.shape;
        let (dim, pos) = (shape.head_dim as usize, step.pos as usize);
        let (q_cols, kv_cols) = (shape.heads as usize * dim, shape.kv_heads as usize * dim);
        let group = (shape.heads / shape.kv_heads) as usize;
        input.set(step.count as usize, q_cols, |_, _| ());
        let data = qkv.data.read();
        for t in 0..step.count as usize {
            let (k, v) = data[qkv.row_at(t)][q_cols..].split_at(kv_cols);
            cache.store(pos + t, k, v);
        }
        cache.with_heads(|heads| {
            let mut work: Vec<(Head<'_>, Vec<Query<'_>>)> =
                heads.into_iter().map(|head| (head, Vec::new())).collect();
            for (t, out) in input.rows_mut().enumerate() {
                let seen = pos + t + 1;
                let rows = data[qkv.row_at(t)][..q_cols].chunks_exact(dim).zip(out.chunks_exact_mut(dim));
                for (h, (q, out)) in rows.enumerate() {
                    work[h / group].1.push(Query::new(q, seen, out));
                }
            }
            self.team.attend(self.level, work);
        });
    }

    fn run_sample(&mut self, logits: &CpuTensor, row: usize, adjust: bool, counter: u32) -> Result<()> {
        let Some(sampling) = &mut self.sampling else {
            return Err(Error::Internal { what: "a draw before sampling was set".to_owned() });
        };
        let mut data = logits.data.write();
        let logits = &mut data[logits.row_at(row)];
        if adjust {
            draw::adjust(logits, &sampling.params, &sampling.bias, &sampling.recent);
        }
        let token = draw::draw(logits, &sampling.params, counter);
        if adjust {
            sampling.recent.push(token);
        }
        self.tokens.push(token);
        Ok(())
    }

    fn run_plans(&mut self, plans: &[&CpuPlan], step: Step) -> Result<()> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let result =
            plans.iter().flat_map(|plan| &plan.0).try_for_each(|op| self.execute(op, step, &mut scratch));
        self.scratch = scratch;
        result
    }
}

/// Rows of which the head makes logits, and the draw a token.
fn draws(batch: Batch, count: usize) -> usize {
    if batch == Batch::One { 1 } else { count }
}

/// Adds the bias to each token's row.
fn add_bias(level: Level, bias: Option<&CpuVector>, y: &mut [f32]) {
    let Some(bias) = bias else { return };
    let bias = bias.read();
    for row in y.chunks_exact_mut(bias.len()) {
        vector::add(level, row, &bias);
    }
}

/// Q, K and V of each token, Q and K rotated.
fn store_qkv(y: &[f32], table: &[f32], qkv: &CpuTensor, shape: HeadShape, pos: usize) {
    let (dim, rope_dim) = (shape.head_dim as usize, shape.rope_dim as usize);
    let rotated = (shape.heads + shape.kv_heads) as usize * dim;
    let mut data = qkv.data.write();
    for (t, y) in y.chunks_exact(qkv.cols).enumerate() {
        let turns = &table[(pos + t) * rope_dim..(pos + t + 1) * rope_dim];
        let to = &mut data[qkv.row_at(t)];
        to.copy_from_slice(y);
        for head in to[..rotated].chunks_exact_mut(dim) {
            vector::rope(head, turns, shape.pairs);
        }
    }
}

fn fits(what: &str, ok: bool) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::Internal { what: format!("{what}: shapes do not fit") }) }
}

impl Backend for CpuBackend {
    type Tensor = CpuTensor;
    type Weight = CpuWeight;
    type Vector = CpuVector;
    type Cache = CpuCache;
    type Plan = CpuPlan;
    type Ticket = Vec<u32>;
    /// The CPU itself computes: a step that runs ahead of a stop would be time lost.
    const STEPS_AHEAD: usize = 1;
    /// With the token before them one micro-tile; a second tile takes as long as the first.
    const MOST_DRAFTS: u32 = TOKENS as u32 - 1;

    fn tensor(&mut self, label: &str, rows: u32, cols: u32) -> Result<CpuTensor> {
        let stride = u64::from(cols).next_multiple_of(BLOCK as u64);
        let data = floats(&self.account, label, u64::from(rows) * stride)?;
        Ok(CpuTensor { data, rows: rows as usize, cols: cols as usize, stride: stride as usize })
    }

    fn weight(&mut self, label: &str, cols: u64, segments: &[Segment], _: u32) -> Result<CpuWeight> {
        self.weights += 1;
        CpuWeight::new(&self.account, &mut self.team, self.weights - 1, label, cols, segments)
    }

    fn upload_rows(&mut self, weight: &CpuWeight, row: u64, bytes: &[u8]) -> Result<()> {
        weight.fill(&mut self.team, row as usize, bytes)
    }

    fn vector(&mut self, label: &str, len: u32) -> Result<CpuVector> {
        floats(&self.account, label, len.into())
    }

    fn upload_vector(&mut self, vector: &CpuVector, at: u32, values: &[f32]) {
        vector.write()[at as usize..at as usize + values.len()].copy_from_slice(values);
    }

    fn cache(&mut self, label: &str, shape: HeadShape) -> Result<CpuCache> {
        let whole_blocks = shape.head_dim.is_multiple_of(BLOCK as u32);
        if !whole_blocks || shape.kv_heads == 0 || !shape.heads.is_multiple_of(shape.kv_heads) {
            return Err(Error::UnsupportedModel {
                what: format!(
                    "{} query and {} KV heads of size {} (the size must be a multiple of 32)",
                    shape.heads, shape.kv_heads, shape.head_dim
                ),
            });
        }
        Ok(CpuCache(Cache::new(&self.account, label, shape)?))
    }

    async fn settle(&mut self, _: &str) -> Result<()> {
        self.breath.take().await;
        Ok(())
    }

    fn allocated_bytes(&self) -> u64 {
        self.account.get()
    }

    fn embed(&mut self, weight: &CpuWeight, x: &CpuTensor, _: Batch) -> Result<()> {
        fits("embed", weight.cols() == x.cols)?;
        self.recording.push(Op::Embed { weight: weight.clone(), x: x.clone() });
        Ok(())
    }

    fn qkv(
        &mut self,
        x: &CpuTensor,
        norm: &Norm<'_, Self>,
        weight: &CpuWeight,
        bias: Option<&CpuVector>,
        rope: &CpuVector,
        qkv: &CpuTensor,
        shape: HeadShape,
        _: Batch,
    ) -> Result<()> {
        let rows = shape.qkv_width() as usize;
        let turns = shape.capacity as usize * shape.rope_dim as usize;
        fits("qkv", weight.cols() == x.cols && weight.rows() == rows && rope.read().len() >= turns)?;
        fits("qkv", qkv.cols == rows && qkv.rows >= 1)?;
        self.recording.push(Op::Qkv {
            x: x.clone(),
            norm: own(norm, x)?,
            weight: weight.clone(),
            bias: owned_bias(bias, weight)?,
            rope: rope.clone(),
            qkv: qkv.clone(),
            shape,
        });
        Ok(())
    }

    fn attend(
        &mut self,
        qkv: &CpuTensor,
        cache: &CpuCache,
        weight: &CpuWeight,
        bias: Option<&CpuVector>,
        x: &CpuTensor,
        _: Batch,
    ) -> Result<()> {
        let shape = cache.0.shape;
        let width = (shape.heads * shape.head_dim) as usize;
        fits("attend", qkv.cols == shape.qkv_width() as usize)?;
        fits("attend", weight.cols() == width && weight.rows() == x.cols)?;
        let (qkv, cache, bias) = (qkv.clone(), cache.clone(), owned_bias(bias, weight)?);
        self.recording.push(Op::Attend { qkv, cache, weight: weight.clone(), bias, x: x.clone() });
        Ok(())
    }

    fn gate_up(
        &mut self,
        x: &CpuTensor,
        norm: &Norm<'_, Self>,
        weight: &CpuWeight,
        bias: Option<&CpuVector>,
        h: &CpuTensor,
        _: Batch,
    ) -> Result<()> {
        fits("gate_up", weight.cols() == x.cols && weight.rows() == 2 * h.cols)?;
        let (norm, bias) = (own(norm, x)?, owned_bias(bias, weight)?);
        self.recording.push(Op::GateUp { x: x.clone(), norm, weight: weight.clone(), bias, h: h.clone() });
        Ok(())
    }

    fn project_add(
        &mut self,
        h: &CpuTensor,
        weight: &CpuWeight,
        bias: Option<&CpuVector>,
        x: &CpuTensor,
        _: Batch,
    ) -> Result<()> {
        fits("project_add", weight.cols() == h.cols && weight.rows() == x.cols && !h.data.is(&x.data))?;
        let bias = owned_bias(bias, weight)?;
        self.recording.push(Op::ProjectAdd { h: h.clone(), weight: weight.clone(), bias, x: x.clone() });
        Ok(())
    }

    fn head(
        &mut self,
        x: &CpuTensor,
        norm: &Norm<'_, Self>,
        weight: &CpuWeight,
        logits: &CpuTensor,
        batch: Batch,
    ) -> Result<()> {
        fits("head", weight.cols() == x.cols && weight.rows() == logits.cols)?;
        let norm = own(norm, x)?;
        let (x, weight, logits) = (x.clone(), weight.clone(), logits.clone());
        self.recording.push(Op::Head { x, norm, weight, logits, batch });
        Ok(())
    }

    fn sample(&mut self, logits: &CpuTensor, adjust: bool, batch: Batch) -> Result<()> {
        fits("sample", !adjust || batch == Batch::One)?;
        self.recording.push(Op::Sample { logits: logits.clone(), adjust, batch });
        Ok(())
    }

    fn finish(&mut self) -> CpuPlan {
        CpuPlan(std::mem::take(&mut self.recording))
    }

    fn dispatches(_: &CpuPlan) -> u64 {
        0
    }

    async fn compiled(&mut self, _: &str) -> Result<()> {
        Ok(())
    }

    fn set_tokens(&mut self, tokens: &[u32]) -> Result<()> {
        self.tokens.clear();
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }

    fn set_sampling(&mut self, params: &SampleParams, bias: &[(u32, f32)], recent: &[u32]) -> Result<()> {
        self.sampling = Some(Sampling { params: *params, bias: bias.to_vec(), recent: recent.to_vec() });
        Ok(())
    }

    fn run(&mut self, plans: &[&CpuPlan], step: Step) -> Result<()> {
        self.run_plans(plans, step)
    }

    fn run_and_fetch(&mut self, plans: &[&CpuPlan], step: Step, draws: u32) -> Result<Vec<u32>> {
        self.run_plans(plans, step)?;
        fits("draw", self.tokens.len() == draws as usize)?;
        Ok(self.tokens.clone())
    }

    async fn drawn(&mut self, ticket: Vec<u32>) -> Result<Vec<u32>> {
        self.breath.take().await;
        Ok(ticket)
    }

    async fn read(&mut self, tensor: &CpuTensor, row: u32) -> Result<Vec<f32>> {
        self.breath.take().await;
        fits("read", (row as usize) < tensor.rows)?;
        Ok(tensor.data.read()[tensor.row_at(row as usize)].to_vec())
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }
}

fn own(norm: &Norm<'_, CpuBackend>, x: &CpuTensor) -> Result<OwnedNorm> {
    fits("norm", norm.gain.read().len() >= x.cols)?;
    Ok(OwnedNorm { gain: norm.gain.clone(), eps: norm.eps })
}

/// A bias of as many floats as the weight has rows.
fn owned_bias(bias: Option<&CpuVector>, weight: &CpuWeight) -> Result<Option<CpuVector>> {
    fits("bias", bias.is_none_or(|bias| bias.read().len() == weight.rows()))?;
    Ok(bias.cloned())
}
