//! The CPU backend: what each operation works on, and how plans run.
//!
//! A plan is a list of operations with what they work on. Running it runs them in order, here and
//! now; only large products are shared with the [`Team`]. Projections write to scratch memory, and
//! what follows them (bias, RoPE, SwiGLU, residual) goes over it once, while it is in the cache.

use std::cell::Cell;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::graph::{
    Act, Backend, Batch, Bind, Each, Fit, HeadNorm, HeadShape, Heads, KvType, Needs, Norm, NormKind, Of, Op,
    Operands, Rope, RopePairs, Rows, Segment, Step, Then, Traffic,
};
use crate::sampling::{SampleParams, draw};

use super::activations::{Activations, Bits};
use super::attention::{Attend, AttendScratch, Cache, Rows as KvRows};
use super::limit::{beside_bytes, most_bytes};
use super::matrix::TOKENS;
use super::memory::{Account, Shared, floats};
use super::panel::BLOCK;
use super::room::room;
use super::simd::Level;
use super::team::{SCRATCH, Spread, Team};
use super::vector;
use super::weight::{CpuWeight, How};

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

/// Rows of a tensor as any thread reads them.
#[derive(Clone, Copy)]
struct Lines<'a> {
    data: &'a [f32],
    stride: usize,
    cols: usize,
}

impl<'a> Lines<'a> {
    /// From row `first` on.
    fn of(data: &'a [f32], tensor: &CpuTensor, first: usize) -> Self {
        Lines { data: &data[first * tensor.stride..], stride: tensor.stride, cols: tensor.cols }
    }

    fn row(self, t: usize) -> &'a [f32] {
        &self.data[t * self.stride..][..self.cols]
    }
}

/// Rows that threads write, each its own.
#[derive(Clone, Copy)]
struct OutLines<'a> {
    data: Spread<'a, f32>,
    stride: usize,
    cols: usize,
}

impl<'a> OutLines<'a> {
    fn of(data: &'a mut [f32], tensor: &CpuTensor) -> Self {
        OutLines { data: Spread::new(data), stride: tensor.stride, cols: tensor.cols }
    }

    /// # Safety
    /// Nobody else has this row.
    unsafe fn row(self, t: usize) -> &'a mut [f32] {
        let first = t * self.stride;
        // SAFETY: as promised.
        unsafe { self.data.part(first..first + self.cols) }
    }
}

/// K and V of one layer.
#[derive(Clone)]
pub struct CpuCache(Cache);

/// A vector of f32.
pub type CpuVector = Shared<Vec<f32>>;

/// Operands that a plan keeps.
enum Kept {}

impl Operands for Kept {
    type Tensor = CpuTensor;
    type Weight = CpuWeight;
    type Vector = CpuVector;
    type Memory = CpuCache;
}

/// Clones operands, which share what they stand for.
struct Keep;

impl Bind<Of<'_, CpuBackend>, Kept> for Keep {
    type Error = std::convert::Infallible;
    fn tensor(&self, of: &&CpuTensor) -> Result<CpuTensor, Self::Error> {
        Ok((*of).clone())
    }
    fn weight(&self, of: &&CpuWeight) -> Result<CpuWeight, Self::Error> {
        Ok((*of).clone())
    }
    fn vector(&self, of: &&CpuVector) -> Result<CpuVector, Self::Error> {
        Ok((*of).clone())
    }
    fn memory(&self, of: &&CpuCache) -> Result<CpuCache, Self::Error> {
        Ok((*of).clone())
    }
}

/// Ops and what they work on.
pub struct CpuPlan {
    ops: Vec<Op<Kept>>,
    batch: Batch,
}

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
    /// Products of a few tokens, on their way to `output`.
    strips: Vec<f32>,
}

/// The op set as SIMD code.
pub struct CpuBackend {
    level: Level,
    bits: Bits,
    team: Team,
    account: Account,
    tokens: Vec<u32>,
    sampling: Option<Sampling>,
    /// What a cache holds that could not hold a K or V, until that has been reported.
    overflow: Option<KvType>,
    scratch: Scratch,
    attention: AttendScratch,
    traffic: Traffic,
    breath: crate::yield_now::Breather,
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
            tokens: Vec::new(),
            sampling: None,
            overflow: None,
            scratch: Scratch::default(),
            attention: AttendScratch::default(),
            traffic: Traffic::default(),
            breath: crate::yield_now::Breather::default(),
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

    /// Threads that there are.
    #[must_use]
    pub fn most_threads(&self) -> usize {
        self.team.size()
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
        let rows = KvRows { data: &[k, v].concat(), stride: k.len() + v.len(), count: 1 };
        cache.0.store(&mut Team::solo(), pos, rows);
    }

    fn execute(&mut self, op: &Op<Kept>, batch: Batch, step: Step, scratch: &mut Scratch) -> Result<()> {
        let count = if batch == Batch::Decode { 1 } else { step.count as usize };
        let first = |rows: Rows| match (rows, batch) {
            (Rows::Wanted, Batch::Decode) => step.row as usize,
            _ => 0,
        };
        match op {
            Op::Embed { table, scale, to } => self.run_embed(table, *scale, to, count),
            Op::Positions { table, to } => self.run_positions(table, to, step.pos as usize, count),
            Op::Linear { x, rows, norm, weight, bias, scale, then, to } => {
                self.take_input(x, first(*rows), count, norm.as_ref(), &mut scratch.input);
                self.project(weight, scratch);
                let bias = bias.as_ref().map(|bias| bias.read());
                let bias = bias.as_ref().map(|bias| bias.as_slice());
                self.store(&mut scratch.output, bias, *scale, then, to, step.pos as usize);
                Ok(())
            }
            Op::Norm { x, rows, norm, add, to } => {
                let (from, mut out) = (x.data.read(), to.data.write());
                let (from, out) = (Lines::of(&from, x, first(*rows)), OutLines::of(&mut out, to));
                let (gain, bias) = (norm.gain.read(), norm.bias.as_ref().map(|bias| bias.read()));
                let (gain, bias) = (&gain[..x.cols], bias.as_ref().map(|bias| &bias[..x.cols]));
                let (level, kind, eps, add) = (self.level, norm.kind, norm.eps, *add);
                self.team.rows(count, x.cols, move |t, scratch| {
                    // SAFETY: each row is taken once.
                    let out = unsafe { out.row(t) };
                    if add {
                        let normed = &mut scratch[..out.len()];
                        vector::norm(level, kind, from.row(t), gain, bias, eps, normed);
                        vector::add(level, out, normed);
                    } else {
                        vector::norm(level, kind, from.row(t), gain, bias, eps, out);
                    }
                });
                Ok(())
            }
            Op::Heads { qkv, heads, norm, rope } => {
                let mut data = qkv.data.write();
                let [q_rows, kv_rows] = heads.rows().map(|rows| rows as usize);
                for t in 0..count {
                    let row = &mut data[qkv.row_at(t)];
                    if let Some(norm) = norm {
                        let (q, rest) = row.split_at_mut(q_rows);
                        norm_heads(self.level, norm, 0, heads.dim as usize, q, &mut scratch.output);
                        norm_heads(
                            self.level,
                            norm,
                            1,
                            heads.dim as usize,
                            &mut rest[..kv_rows],
                            &mut scratch.output,
                        );
                    }
                    if let Some(rope) = rope {
                        let (table, dim) = (rope.table.read(), rope.dim as usize);
                        let turns = &table[(step.pos as usize + t) * dim..][..dim];
                        rotate(row, *heads, turns, rope.pairs);
                    }
                }
                Ok(())
            }
            Op::Attend { qkv, memory, to } => {
                self.run_attention(qkv, &memory.0, step.pos as usize, count, to);
                Ok(())
            }
            Op::Each { what, a, b, to } => {
                let (a_data, b_data) = (a.data.read(), b.as_ref().map(|b| b.data.read()));
                let mut out = to.data.write();
                let (a_rows, out) = (Lines::of(&a_data, a, 0), OutLines::of(&mut out, to));
                let b_rows = b.as_ref().zip(b_data.as_ref()).map(|(b, data)| Lines::of(data, b, 0));
                let (level, what) = (self.level, *what);
                self.team.rows(count, a.cols, move |t, _| {
                    // SAFETY: each row is taken once.
                    let (a, out) = (a_rows.row(t), unsafe { out.row(t) });
                    if let Each::Gated(act) = what {
                        let (gate, up) = a.split_at(out.len());
                        vector::gated(level, act, gate, up, out);
                        return;
                    }
                    out.copy_from_slice(a);
                    match (what, b_rows) {
                        (Each::Add, Some(b)) => vector::add(level, out, b.row(t)),
                        (Each::Map(act), _) => vector::map(level, act, out),
                        (Each::Scale(by), _) => vector::scale(level, by, out),
                        _ => {}
                    }
                });
                Ok(())
            }
            Op::Sample { logits, adjust } => {
                self.tokens.clear();
                (0..count).try_for_each(|t| self.run_sample(logits, t, *adjust, step.counter + t as u32))
            }
        }
    }

    /// The rows that a linear op reads, normed or not.
    fn take_input(
        &mut self,
        x: &CpuTensor,
        first: usize,
        count: usize,
        norm: Option<&Norm<Kept>>,
        to: &mut Activations,
    ) {
        let (data, gain) = (x.data.read(), norm.map(|norm| norm.gain.read()));
        let from = Lines::of(&data, x, first);
        let norm = norm.zip(gain.as_ref()).map(|(norm, gain)| (&gain[..x.cols], norm.eps));
        let (level, cols) = (self.level, x.cols);
        let (to, stride) = to.room(count, cols);
        let to = OutLines { data: Spread::new(to), stride, cols };
        self.team.rows(count, cols, move |t, _| {
            // SAFETY: each row is taken once.
            let (x, row) = (from.row(t), unsafe { to.row(t) });
            match norm {
                Some((gain, eps)) => vector::rms_norm(level, x, gain, eps, row),
                None => row.copy_from_slice(x),
            }
        });
    }

    /// What a linear op does with its rows.
    fn store(
        &mut self,
        y: &mut [f32],
        bias: Option<&[f32]>,
        scale: f32,
        then: &Then<Kept>,
        to: &CpuTensor,
        pos: usize,
    ) {
        let mut data = to.data.write();
        let out = OutLines::of(&mut data, to);
        let (level, cols) = (self.level, to.cols);
        let width = if matches!(then, Then::Gated(_)) { 2 * cols } else { cols };
        let count = y.len() / width.max(1);
        let y = OutLines { data: Spread::new(y), stride: width, cols: width };
        let turns = match then {
            Then::Rotate(heads, rope) => Some((*heads, rope.table.read(), rope.dim as usize, rope.pairs)),
            _ => None,
        };
        let turns = turns.as_ref().map(|(heads, table, dim, pairs)| (*heads, table.as_slice(), *dim, *pairs));
        /// The same without what threads cannot share.
        #[derive(Clone, Copy)]
        enum Last {
            Store,
            Add,
            Map(Act),
            Gated(Act),
        }
        let last = match then {
            Then::Store | Then::Rotate(..) => Last::Store,
            Then::Add => Last::Add,
            Then::Map(act) => Last::Map(*act),
            Then::Gated(act) => Last::Gated(*act),
        };
        self.team.rows(count, width, move |t, _| {
            // SAFETY: each row is taken once.
            let (y, out) = unsafe { (y.row(t), out.row(t)) };
            if let Some(bias) = bias {
                vector::add(level, y, bias);
            }
            if scale != 1.0 {
                vector::scale(level, scale, y);
            }
            match last {
                Last::Store => out.copy_from_slice(y),
                Last::Add => vector::add(level, out, y),
                Last::Map(act) => {
                    out.copy_from_slice(y);
                    vector::map(level, act, out);
                }
                Last::Gated(act) => {
                    let (gate, up) = y.split_at(cols);
                    vector::gated(level, act, gate, up, out);
                }
            }
            if let Some((heads, table, dim, pairs)) = turns {
                rotate(out, heads, &table[(pos + t) * dim..(pos + t + 1) * dim], pairs);
            }
        });
    }

    /// scratch.output (T, rows) = W · scratch.input.
    fn project(&mut self, weight: &CpuWeight, scratch: &mut Scratch) {
        scratch.output.resize(scratch.input.rows() * weight.rows(), 0.0);
        self.traffic.weight_bytes += weight.bytes();
        let how = How { level: self.level, bits: self.bits };
        let Scratch { input, output, strips } = scratch;
        weight.project(&mut self.team, how, input, output, strips);
    }

    fn run_embed(&mut self, table: &CpuWeight, scale: f32, x: &CpuTensor, count: usize) -> Result<()> {
        fits("embed", count <= self.tokens.len() && count <= x.rows)?;
        let mut data = x.data.write();
        for (t, &token) in self.tokens.iter().take(count).enumerate() {
            let row = &mut data[x.row_at(t)];
            table.row(token as usize, row)?;
            if scale != 1.0 {
                vector::scale(self.level, scale, row);
            }
            data[x.row_at(t).end..(t + 1) * x.stride].fill(0.0);
        }
        Ok(())
    }

    fn run_positions(&mut self, table: &CpuWeight, x: &CpuTensor, pos: usize, count: usize) -> Result<()> {
        fits("positions", pos + count <= table.rows() && count <= x.rows)?;
        let mut data = x.data.write();
        let mut row = vec![0.0; x.cols];
        for t in 0..count {
            table.row(pos + t, &mut row)?;
            vector::add(self.level, &mut data[x.row_at(t)], &row);
        }
        Ok(())
    }

    /// Working memory of threads is enough for all but heads of hundreds of query heads each, which one thread takes.
    fn run_attention(&mut self, qkv: &CpuTensor, cache: &Cache, pos: usize, count: usize, to: &CpuTensor) {
        let shape = cache.shape;
        let [q_cols, _] = shape.heads().rows().map(|rows| rows as usize);
        let data = qkv.data.read();
        if !cache.store(&mut self.team, pos, KvRows { data: &data[q_cols..], stride: qkv.stride, count }) {
            self.overflow = Some(shape.kv);
        }
        let reading = cache.reading();
        let job = Attend {
            level: self.level,
            shape,
            kept: reading.kept(),
            q: &data,
            stride: qkv.stride,
            pos,
            count,
            all: false,
        };
        if job.scratch_floats() > SCRATCH {
            job.alone(&mut self.attention, &mut to.data.write(), to.stride);
            return;
        }
        let floats = job.chunk_floats();
        if !job.splits_positions() && floats + job.scratch_floats() <= SCRATCH {
            let (mut to_data, stride) = (to.data.write(), to.stride);
            let to = Spread::new(&mut to_data);
            self.team.each(job.chunks(), move |chunk, scratch| {
                let (result, scratch) = scratch.split_at_mut(floats);
                job.run(chunk, scratch, result);
                // SAFETY: chunks have rows of their own.
                unsafe { job.place(chunk, result, to, stride) };
            });
            return;
        }
        let results = self.attention.results(&job);
        // SAFETY: the job is made of plain slices, of which it uses nothing as an index or a length.
        unsafe {
            self.team.pieces(results, floats, move |chunk, out, scratch| job.run(chunk, scratch, out));
        }
        job.finish(results, &mut to.data.write(), to.stride);
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

    /// An overflow since the last time, which is told once.
    fn check_overflow(&mut self) -> Result<()> {
        match self.overflow.take() {
            Some(kv) => Err(Error::KvOverflow { kv: kv.name() }),
            None => Ok(()),
        }
    }

    fn run_plans(&mut self, plans: &[&CpuPlan], step: Step) -> Result<()> {
        self.team.check()?;
        // Tokens one after the other take about the same time, so that it can be compared.
        let begun = self.team.begin(plans.iter().all(|plan| plan.batch == Batch::Decode));
        let mut scratch = std::mem::take(&mut self.scratch);
        let ops = plans.iter().flat_map(|plan| plan.ops.iter().map(|op| (op, plan.batch)));
        let result = ops.into_iter().try_for_each(|(op, batch)| self.execute(op, batch, step, &mut scratch));
        self.scratch = scratch;
        self.team.end(begun);
        self.team.check()?;
        result
    }
}

/// Norms Q (`which` 0) or K (1) of a token. `out` is memory that is kept.
fn norm_heads(
    level: Level,
    norm: &HeadNorm<Kept>,
    which: usize,
    dim: usize,
    x: &mut [f32],
    out: &mut Vec<f32>,
) {
    let gain = norm.gains[which].read();
    let each = if norm.together { x.len() } else { dim };
    out.resize(each, 0.0);
    for (h, x) in x.chunks_exact_mut(each).enumerate() {
        let gain = if norm.gain_of_each_head { &gain[h * each..(h + 1) * each] } else { &gain[..each] };
        vector::norm(level, norm.kind, x, gain, None, norm.eps, out);
        x.copy_from_slice(out);
    }
}

/// Rotates Q and K of a token by the turns of its position.
fn rotate(qkv: &mut [f32], heads: Heads, turns: &[f32], pairs: RopePairs) {
    let [q_rows, kv_rows] = heads.rows().map(|rows| rows as usize);
    for head in qkv[..q_rows + kv_rows].chunks_exact_mut(heads.dim as usize) {
        vector::rope(head, turns, pairs);
    }
}

/// Whether the shapes of an op's operands fit.
fn check(op: &Op<Kept>, batch: Batch) -> Result<()> {
    let norm_fits = |norm: &Norm<Kept>, cols: usize| {
        norm.gain.read().len() >= cols && norm.bias.as_ref().is_none_or(|bias| bias.read().len() >= cols)
    };
    let rope_fits = |rope: &Rope<Kept>, heads: &Heads| {
        rope.dim <= heads.dim && rope.dim.is_multiple_of(2) && !rope.table.read().is_empty()
    };
    match op {
        Op::Embed { table, to, .. } | Op::Positions { table, to } => fits("embed", table.cols() == to.cols),
        Op::Linear { x, norm, weight, bias, then, to, .. } => {
            let rows = match then {
                Then::Gated(_) => 2 * to.cols,
                _ => to.cols,
            };
            fits("linear", weight.cols() == x.cols && weight.rows() == rows && !x.data.is(&to.data))?;
            fits("bias", bias.as_ref().is_none_or(|bias| bias.read().len() == rows))?;
            let plain = |norm: &Norm<Kept>| norm.kind == NormKind::Rms && norm.bias.is_none();
            fits("norm", norm.as_ref().is_none_or(|norm| plain(norm) && norm_fits(norm, x.cols)))?;
            match then {
                Then::Rotate(heads, rope) => {
                    fits("rope", rope_fits(rope, heads) && heads.qkv_width() as usize == rows)
                }
                _ => Ok(()),
            }
        }
        Op::Norm { x, norm, to, .. } => {
            fits("norm", x.cols == to.cols && !x.data.is(&to.data) && norm_fits(norm, x.cols))
        }
        Op::Heads { qkv, heads, norm, rope } => {
            fits("heads", qkv.cols == heads.qkv_width() as usize)?;
            fits("heads", rope.as_ref().is_none_or(|rope| rope_fits(rope, heads)))?;
            let Some(norm) = norm else { return Ok(()) };
            let wanted = if norm.gain_of_each_head { heads.rows() } else { [heads.dim; 2] };
            let of = |at: usize| norm.gains[at].read().len() >= wanted[at] as usize;
            fits("norm of heads", of(0) && of(1) && (norm.gain_of_each_head || !norm.together))
        }
        Op::Attend { qkv, memory, to } => {
            let heads = memory.0.shape.heads();
            fits("attend", qkv.cols == heads.qkv_width() as usize && to.cols == heads.rows()[0] as usize)
        }
        Op::Each { what, a, b, to } => {
            let width = if matches!(what, Each::Gated(_)) { 2 * to.cols } else { to.cols };
            let apart = !a.data.is(&to.data) && b.as_ref().is_none_or(|b| !b.data.is(&to.data));
            let both = b.as_ref().is_none_or(|b| b.cols == to.cols) && b.is_some() == (*what == Each::Add);
            fits("each", a.cols == width && both && apart)
        }
        Op::Sample { adjust, .. } => fits("sample", !adjust || batch == Batch::Decode),
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
    const MAX_DRAFTS: u32 = TOKENS as u32 - 1;

    fn tensor(&mut self, label: &str, rows: u32, cols: u32) -> Result<CpuTensor> {
        let stride = u64::from(cols).next_multiple_of(BLOCK as u64);
        let data = floats(&self.account, label, u64::from(rows) * stride)?;
        Ok(CpuTensor { data, rows: rows as usize, cols: cols as usize, stride: stride as usize })
    }

    fn weight(&mut self, label: &str, cols: u64, segments: &[Segment]) -> Result<CpuWeight> {
        CpuWeight::new(&self.account, label, cols, segments)
    }

    fn upload_rows(&mut self, weight: &CpuWeight, row: u64, bytes: &[u8]) -> Result<()> {
        weight.fill(row as usize, bytes)
    }

    fn vector(&mut self, label: &str, len: u32) -> Result<CpuVector> {
        floats(&self.account, label, len.into())
    }

    fn upload_vector(&mut self, vector: &CpuVector, at: u32, values: &[f32]) {
        vector.write()[at as usize..at as usize + values.len()].copy_from_slice(values);
    }

    fn cache(&mut self, label: &str, shape: HeadShape) -> Result<CpuCache> {
        shape.check()?;
        Ok(CpuCache(Cache::new(&self.account, label, shape)?))
    }

    async fn settle(&mut self, _: &str) -> Result<()> {
        self.breath.take().await;
        Ok(())
    }

    fn fit(&self, needs: &Needs) -> Option<Fit> {
        let needed = room(needs, self.team.size()).bytes().saturating_add(beside_bytes());
        most_bytes().map(|most| Fit { needed, most })
    }

    fn allocated_bytes(&self) -> u64 {
        self.account.get()
    }

    fn threads(&self) -> usize {
        self.team.threads_of_step()
    }

    fn compile(&mut self, ops: &[Op<Of<'_, Self>>], batch: Batch) -> Result<CpuPlan> {
        let mut kept = Vec::new();
        for op in ops {
            let Ok(op) = op.bind(&Keep);
            check(&op, batch)?;
            kept.push(op);
        }
        Ok(CpuPlan { ops: kept, batch })
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
        self.check_overflow()?;
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
        self.check_overflow()?;
        Ok(tensor.data.read()[tensor.row_at(row as usize)].to_vec())
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }
}
