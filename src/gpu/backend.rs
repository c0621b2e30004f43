//! The GPU backend: what each operation works on, and how plans run.

use std::rc::Rc;

use crate::error::{Error, Result};
use crate::graph::{
    Backend, Batch, HeadShape, KvType, MAX_VERIFY_ROWS, Of, Op, Rows, Segment, Step, Traffic,
};
use crate::sampling::SampleParams;

use super::device::{Copied, Gpu, GpuBuffer, Mapping, Plan, Recorder};

use super::kernels::linear::{Input, Linear};
use super::kernels::sample::Sampler;
use super::kernels::{attention, embed, rows};
use super::variants::KernelMap;
use super::weight::GpuWeight;

/// Activations (rows, cols) f32. Rows lie `stride` floats apart, a multiple of 32; the padding is zero
/// and stays zero, so that kernels may read whole blocks.
#[derive(Debug, Clone)]
pub struct GpuTensor {
    pub(super) buffer: GpuBuffer,
    pub(super) rows: u32,
    pub(super) cols: u32,
    pub(super) stride: u32,
}

/// K and V of one layer, laid out as `shaders/shared/kv.wgsl` says.
#[derive(Debug)]
pub struct GpuCache {
    pub(super) buffer: GpuBuffer,
    pub(super) shape: HeadShape,
    /// The backend's, see there.
    pub(super) overflow: GpuBuffer,
}

/// Staging buffers for tokens on their way to the CPU, used again and again.
#[derive(Default)]
struct TokenRing {
    free: Vec<GpuBuffer>,
}

/// Drawn tokens on their way.
pub struct GpuTicket {
    mapping: Mapping,
    staging: GpuBuffer,
}

/// Partial sums of attention, which the product behind it merges.
struct Partials {
    buffer: GpuBuffer,
    splits: u32,
    shape: HeadShape,
}

/// Memory between two dispatches. Layers share it one after the other. Plans that were recorded before it grew keep the
/// smaller buffer, so none is given back before the backend is.
struct Scratch {
    label: &'static str,
    /// The last is the largest.
    buffers: Vec<GpuBuffer>,
}

impl Scratch {
    fn new(label: &'static str) -> Self {
        Scratch { label, buffers: Vec::new() }
    }

    /// A buffer of at least so many floats.
    fn of(&mut self, gpu: &Gpu, floats: u64) -> Result<GpuBuffer> {
        match self.buffers.last() {
            Some(buffer) if buffer.size() >= floats * 4 => Ok(buffer.clone()),
            _ => {
                let buffer = gpu.storage(self.label, floats * 4)?;
                self.buffers.push(buffer.clone());
                Ok(buffer)
            }
        }
    }
}

/// Bytes of the word that tells an overflow; what is read together with it follows.
const OVERFLOW_BYTES: u64 = 4;

/// The op set as WGSL.
pub struct GpuBackend {
    gpu: Rc<Gpu>,
    recorder: Recorder,
    step: GpuBuffer,
    tokens: GpuBuffer,
    max_tokens: u32,
    longest_window: u32,
    ring: TokenRing,
    /// Partial sums of attention when decoding, for [`MAX_VERIFY_ROWS`] tokens.
    partials: Scratch,
    /// A word that is 1 after a cache could not hold a K or V, until that has been reported.
    overflow: GpuBuffer,
    /// What such a cache holds.
    narrow: KvType,
    sampler: Option<Sampler>,
    /// Rows and columns of the logits that the sampler was made for.
    sampled: (u32, u32),
    traffic: Traffic,
    kernels: KernelMap,
}

impl GpuBackend {
    /// A backend on a device, for batches of at most `max_tokens` tokens and penalties that look back
    /// at most `longest_window` tokens.
    ///
    /// # Errors
    /// As for [`Gpu::storage`].
    pub fn new(gpu: Rc<Gpu>, max_tokens: u32, longest_window: u32) -> Result<Self> {
        Ok(GpuBackend {
            recorder: Recorder::new(gpu.clone()),
            step: gpu.uniform("step", size_of::<Step>() as u64),
            tokens: gpu.storage("tokens", u64::from(max_tokens) * 4)?,
            max_tokens,
            longest_window,
            ring: TokenRing::default(),
            partials: Scratch::new("attention partials"),
            overflow: gpu.storage("KV overflow", OVERFLOW_BYTES)?,
            narrow: KvType::default(),
            sampler: None,
            sampled: (0, 0),
            traffic: Traffic::default(),
            kernels: KernelMap::default(),
            gpu,
        })
    }

    /// The device.
    #[must_use]
    pub fn gpu(&self) -> &Rc<Gpu> {
        &self.gpu
    }

    /// Which kernels are recorded from now on.
    pub fn set_kernels(&mut self, kernels: KernelMap) {
        self.kernels = kernels;
    }

    /// All floats of a tensor, padding included. For tests.
    ///
    /// # Errors
    /// Device lost.
    pub async fn read_raw(&self, tensor: &GpuTensor) -> Result<Vec<f32>> {
        let bytes = self.gpu.read(&tensor.buffer, 0, tensor.buffer.size()).await?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    /// Overwrites all floats of a tensor, padding included. For tests.
    pub fn write_raw(&self, tensor: &GpuTensor, values: &[f32]) {
        self.gpu.write(&tensor.buffer, 0, bytemuck::cast_slice(values));
    }

    /// Floats from one row of a tensor to the next.
    #[must_use]
    pub fn stride(&self, tensor: &GpuTensor) -> usize {
        tensor.stride as usize
    }

    /// A cache's words (`shaders/shared/kv.wgsl`), and the shape that says what they are. For tests.
    ///
    /// # Errors
    /// Device lost.
    pub async fn read_cache(&self, cache: &GpuCache) -> Result<(HeadShape, Vec<u32>)> {
        let bytes = self.gpu.read(&cache.buffer, 0, cache.buffer.size()).await?;
        Ok((cache.shape, bytemuck::pod_collect_to_vec(&bytes)))
    }

    /// Overwrites a cache's words. For tests.
    pub fn write_cache(&self, cache: &GpuCache, words: &[u32]) {
        self.gpu.write(&cache.buffer, 0, bytemuck::cast_slice(words));
    }

    /// What was read behind the word that tells an overflow, if it does not tell one. A told one is forgotten.
    fn behind_overflow<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8]> {
        let (word, rest) = bytes.split_at(OVERFLOW_BYTES as usize);
        if word.iter().all(|&byte| byte == 0) {
            return Ok(rest);
        }
        self.gpu.write(&self.overflow, 0, &[0; OVERFLOW_BYTES as usize]);
        Err(Error::KvOverflow { kv: self.narrow.name() })
    }

    /// Records the dispatches of an op. `merged` are the partial sums of the attention before it, which `op` merges.
    /// Returns such sums if `op` leaves some, because the op behind it is a product that reads its output.
    fn record(
        &mut self,
        op: &Op<Of<'_, Self>>,
        batch: Batch,
        merged: Option<Partials>,
        read_next: &dyn Fn(&GpuTensor) -> bool,
    ) -> Result<Option<Partials>> {
        let (recorder, step) = (&mut self.recorder, &self.step);
        match op {
            Op::Embed { table, scale, to } => {
                embed::record(recorder, step, Some(&self.tokens), table, *scale, to)?;
            }
            Op::Positions { table, to } => embed::record(recorder, step, None, table, 1.0, to)?,
            Op::Linear { x, rows, norm, weight, bias, scale, then, to } => {
                let input = match &merged {
                    Some(Partials { buffer, splits, shape }) => {
                        Input::Partials { buffer, splits: *splits, shape: *shape }
                    }
                    None => Input::Tensor(x),
                };
                let (norm, bias, rows, scale) = (norm.as_ref(), *bias, *rows, *scale);
                Linear { weight, input, rows, norm, bias, scale, then, out: to, batch }.record(
                    recorder,
                    step,
                    &self.kernels,
                )?;
            }
            Op::Norm { x, rows, norm, add, to } => {
                rows::record_norm(recorder, step, (x, *rows), norm, (to, *add), batch)?;
            }
            Op::Heads { qkv, heads, norm, rope } => {
                rows::record_heads(recorder, step, qkv, *heads, norm.as_ref(), rope.as_ref(), batch)?;
            }
            Op::Each { what, a, b, to } => rows::record_each(recorder, step, *what, a, *b, to, batch)?,
            Op::Attend { qkv, memory, to } => {
                return self.record_attention(qkv, memory, to, batch, read_next(to));
            }
            Op::Sample { logits, adjust } => self.record_sample(logits, *adjust, batch)?,
        }
        Ok(None)
    }

    fn record_attention(
        &mut self,
        qkv: &GpuTensor,
        cache: &GpuCache,
        to: &GpuTensor,
        batch: Batch,
        merges: bool,
    ) -> Result<Option<Partials>> {
        let shape = cache.shape;
        let heads = shape.heads();
        if qkv.cols != heads.qkv_width() || to.cols != heads.rows()[0] {
            return Err(Error::ShapeMismatch {
                what: "attention".to_owned(),
                found: vec![qkv.cols.into(), to.cols.into()],
                expected: vec![heads.qkv_width().into(), heads.rows()[0].into()],
            });
        }
        let (recorder, step) = (&mut self.recorder, &self.step);
        if batch != Batch::Decode {
            attention::record_store(recorder, step, qkv, cache)?;
        }
        if batch == Batch::Prefill {
            attention::record_prefill(recorder, step, qkv, cache, to)?;
            return Ok(None);
        }
        let splits = match merges {
            true => attention::most_splits(shape, self.gpu.adapter().is_fallback),
            false => 1,
        };
        if splits == 1 {
            attention::record_decode(recorder, step, qkv, cache, (&to.buffer, to.stride), batch, 1)?;
            return Ok(None);
        }
        let stride = attention::partial_floats(shape, splits);
        let buffer = self.partials.of(&self.gpu, u64::from(MAX_VERIFY_ROWS) * u64::from(stride))?;
        attention::record_decode(recorder, step, qkv, cache, (&buffer, stride), batch, splits)?;
        Ok(Some(Partials { buffer, splits, shape }))
    }

    fn record_sample(&mut self, logits: &GpuTensor, adjust: bool, batch: Batch) -> Result<()> {
        let sampler = match &mut self.sampler {
            Some(sampler) => sampler,
            none => {
                self.sampled = (logits.rows, logits.cols);
                none.insert(Sampler::new(&self.gpu, logits, self.longest_window)?)
            }
        };
        // Its buffers are as large as the first logits need.
        let (rows, cols) = self.sampled;
        if logits.rows > rows || logits.cols != cols {
            return Err(Error::ShapeMismatch {
                what: "sample".to_owned(),
                found: vec![logits.cols.into(), logits.rows.into()],
                expected: vec![cols.into(), rows.into()],
            });
        }
        sampler.record(&mut self.recorder, &self.step, logits, &self.tokens, adjust, batch)
    }

    #[cfg(test)]
    pub(super) fn recorded(&mut self) -> Plan {
        self.recorder.finish()
    }

    #[cfg(test)]
    pub(super) fn recording(&mut self) -> (&mut Recorder, &GpuBuffer) {
        (&mut self.recorder, &self.step)
    }

    fn count(&mut self, plans: &[&Plan], step: Step) {
        self.gpu.write(&self.step, 0, bytemuck::bytes_of(&step));
        self.traffic.submits += 1;
        for plan in plans {
            let traffic = plan.traffic();
            self.traffic.dispatches += traffic.dispatches;
            self.traffic.weight_bytes += traffic.weight_bytes;
        }
    }
}

impl Backend for GpuBackend {
    type Tensor = GpuTensor;
    type Weight = GpuWeight;
    type Vector = GpuBuffer;
    type Cache = GpuCache;
    type Plan = Plan;
    type Ticket = GpuTicket;
    const STEPS_AHEAD: usize = 3;
    /// A row adds little to reading the weights.
    const MAX_DRAFTS: u32 = MAX_VERIFY_ROWS - 1;

    fn tensor(&mut self, label: &str, rows: u32, cols: u32) -> Result<GpuTensor> {
        let stride = cols.next_multiple_of(32);
        let buffer = self.gpu.storage(label, u64::from(rows) * u64::from(stride) * 4)?;
        Ok(GpuTensor { buffer, rows, cols, stride })
    }

    fn weight(&mut self, label: &str, cols: u64, segments: &[Segment]) -> Result<GpuWeight> {
        GpuWeight::new(&self.gpu, label, cols, segments)
    }

    fn upload_rows(&mut self, weight: &GpuWeight, row: u64, bytes: &[u8]) -> Result<()> {
        weight.upload(&self.gpu, row, bytes)
    }

    fn vector(&mut self, label: &str, len: u32) -> Result<GpuBuffer> {
        self.gpu.storage(label, u64::from(len) * 4)
    }

    fn upload_vector(&mut self, vector: &GpuBuffer, at: u32, values: &[f32]) {
        self.gpu.write(vector, u64::from(at) * 4, bytemuck::cast_slice(values));
    }

    fn cache(&mut self, label: &str, shape: HeadShape) -> Result<GpuCache> {
        shape.check()?;
        if shape.kv != KvType::F32 {
            self.narrow = shape.kv;
        }
        let buffer = self.gpu.storage(label, attention::cache_bytes(shape))?;
        Ok(GpuCache { buffer, shape, overflow: self.overflow.clone() })
    }

    async fn settle(&mut self, doing: &str) -> Result<()> {
        self.gpu.settle(doing).await
    }

    fn allocated_bytes(&self) -> u64 {
        self.gpu.allocated_bytes()
    }

    fn compile(&mut self, ops: &[Op<Of<'_, Self>>], batch: Batch) -> Result<Plan> {
        let mut merged = None;
        for (at, op) in ops.iter().enumerate() {
            let read_next = |to: &GpuTensor| match ops.get(at + 1) {
                Some(Op::Linear { x, rows: Rows::Batch, norm: None, .. }) => x.buffer.is(&to.buffer),
                _ => false,
            };
            match self.record(op, batch, merged.take(), &read_next) {
                Ok(partials) => merged = partials,
                Err(error) => {
                    // What was recorded is of no use.
                    self.recorder.finish();
                    return Err(error);
                }
            }
        }
        Ok(self.recorder.finish())
    }

    fn dispatches(plan: &Plan) -> u64 {
        plan.traffic().dispatches
    }

    async fn compiled(&mut self, doing: &str) -> Result<()> {
        self.gpu.compiled(doing).await
    }

    fn set_tokens(&mut self, tokens: &[u32]) -> Result<()> {
        if tokens.len() > self.max_tokens as usize {
            let what = format!("{} tokens for a backend of at most {}", tokens.len(), self.max_tokens);
            return Err(Error::Internal { what });
        }
        self.gpu.write(&self.tokens, 0, bytemuck::cast_slice(tokens));
        Ok(())
    }

    fn set_sampling(&mut self, params: &SampleParams, bias: &[(u32, f32)], recent: &[u32]) -> Result<()> {
        let Some(sampler) = &self.sampler else {
            return Err(Error::Internal { what: "sampling is set before a draw was recorded".to_owned() });
        };
        sampler.set(&self.gpu, params, bias, recent);
        self.gpu.check("sampling")
    }

    fn run(&mut self, plans: &[&Plan], step: Step) -> Result<()> {
        self.count(plans, step);
        self.recorder.run(plans, (step.pos, step.count), &[]);
        self.gpu.check("running kernels")
    }

    fn run_and_fetch(&mut self, plans: &[&Plan], step: Step, draws: u32) -> Result<GpuTicket> {
        self.count(plans, step);
        let most = OVERFLOW_BYTES + u64::from(MAX_VERIFY_ROWS) * 4;
        let staging = self.ring.free.pop().unwrap_or_else(|| self.gpu.staging("drawn tokens", most));
        let bytes = u64::from(draws) * 4;
        let copies = [
            Copied { from: &self.overflow, to: &staging, at: 0, bytes: OVERFLOW_BYTES },
            Copied { from: &self.tokens, to: &staging, at: OVERFLOW_BYTES, bytes },
        ];
        self.recorder.run(plans, (step.pos, step.count), &copies);
        self.traffic.readbacks += 1;
        let mapping = self.gpu.start_map(&staging, OVERFLOW_BYTES + bytes);
        self.gpu.check("running kernels")?;
        Ok(GpuTicket { mapping, staging })
    }

    async fn drawn(&mut self, ticket: GpuTicket) -> Result<Vec<u32>> {
        let bytes = self.gpu.finish_map(ticket.mapping).await?;
        self.ring.free.push(ticket.staging);
        self.behind_overflow(&bytes).map(bytemuck::pod_collect_to_vec)
    }

    async fn read(&mut self, tensor: &GpuTensor, row: u32) -> Result<Vec<f32>> {
        let offset = u64::from(row) * u64::from(tensor.stride) * 4;
        let row = (&tensor.buffer, offset, u64::from(tensor.cols) * 4);
        let bytes = self.gpu.read_parts(&[(&self.overflow, 0, OVERFLOW_BYTES), row]).await?;
        self.traffic.readbacks += 1;
        self.traffic.submits += 1;
        self.behind_overflow(&bytes).map(bytemuck::pod_collect_to_vec)
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }
}
