//! Which kernels a model's matrices take on an adapter: a self-test against the CPU, and a race on the model's shapes.

use std::rc::Rc;

use crate::clock::now_ms;
use crate::cpu::{Bits, CpuBackend, CpuOptions};
use crate::engine::MAX_BATCH;
use crate::error::{Error, Result};
use crate::formats::DType;
use crate::gpu::{Features, Gpu};
use crate::gpu::{GpuBackend, KernelMap, KernelPair, MatmulKernel, MatvecKernel};
use crate::graph::{Backend, Batch, Norm, NormKind, Of, Op, Rows, Segment, Step, Then};
use crate::model::{self, Matrix};
use crate::sort::sort_by;
use crate::weights::Directory;

/// No variant starts after so long, compiling included, so that the race takes 300 ms or little more; matrices that
/// had no turn take what was fastest so far.
const BUDGET_MS: f64 = 250.0;
/// Of the largest matrix all variants are tried; of the others those that were the fastest there.
const FAVOURITES: usize = 3;
/// Copies of a matrix that one timed run goes through: small ones would lie in a cache that a model does not fit.
const COPIES_BYTES: u64 = 16 << 20;
const MOST_COPIES: u64 = 16;
/// Variants that are compiled at the same time: about as many as a browser has threads for.
const WAVE: usize = 5;
/// Timed runs; the best counts, since what disturbs only ever slows down.
const RUNS: usize = 2;
/// Rows that the CPU computes for comparison: more than a workgroup of any variant takes, no whole number of panels.
const TEST_ROWS: u32 = 150;
/// Tokens of a timed batch, a usual one in prefill.
const BATCH: u32 = 64;

/// What the caller knows already.
#[derive(Debug, Clone, Copy, Default)]
pub struct TuneOptions<'a> {
    /// To be taken, or else it is an error.
    pub pinned: Option<&'a str>,
    /// What an earlier load said, by [`TunedKernels::key`].
    pub remembered: &'a [(String, String)],
    /// Time variants even on a software adapter. For tests: others are not at hand everywhere.
    pub race_anyway: bool,
}

/// How kernels were chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TuneSource {
    /// The caller named them.
    Pinned,
    /// As an earlier load had them.
    Remembered,
    /// A software adapter: few lanes are known to be best.
    Software,
    /// Timed: so many variants, so many milliseconds.
    Timed {
        /// Variants of matrices that were tried.
        tried: usize,
        /// For all of them.
        ms: f64,
    },
}

/// Kernels for a model on an adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct TunedKernels {
    /// What to record with.
    pub kernels: KernelMap,
    /// How they were found.
    pub how: TuneSource,
    /// Variants that computed wrong numbers, or did not compile, and were left out.
    pub wrong: Vec<KernelPair>,
    /// Names adapter and shapes: under this a caller remembers the kernels' text for the next load.
    pub key: String,
}

/// For people.
impl std::fmt::Display for TunedKernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.how {
            TuneSource::Pinned => write!(f, "Kernels as asked for.")?,
            TuneSource::Remembered => write!(f, "Kernels as measured at an earlier load.")?,
            TuneSource::Software => write!(f, "Kernels for a software adapter.")?,
            TuneSource::Timed { tried, ms } => {
                write!(f, "Kernels measured: {tried} variants in {ms:.0} ms.")?
            }
        }
        match self.wrong.len() {
            0 => Ok(()),
            n => write!(f, " {n} variants computed wrong numbers here and were left out."),
        }
    }
}

/// `None` if everything is wrong.
pub(super) async fn choose(
    gpu: &Rc<Gpu>,
    directory: &Directory,
    hints: TuneOptions<'_>,
) -> Result<Option<TunedKernels>> {
    let matrices = model::matrices(directory)?;
    let key = key(gpu, &matrices);
    let mut wrong = Vec::new();
    let found = |kernels, how, wrong| Ok(Some(TunedKernels { kernels, how, wrong, key: key.clone() }));
    if let Some(text) = hints.pinned {
        let kernels: KernelMap = text.parse()?;
        let reason = if !kernels.possible(gpu.features()) {
            "this device has no f16 or no subgroups as wide as these kernels need"
        } else if all_right(gpu, &matrices, &kernels, &mut wrong).await? {
            return found(kernels, TuneSource::Pinned, wrong);
        } else {
            "these kernels compute wrong numbers here"
        };
        return Err(Error::Gpu { label: text.to_owned(), reason: reason.to_owned() });
    }
    // Stored text may be anybody's: what cannot be read is measured again.
    let remembered = hints.remembered.iter().find(|(of, _)| *of == key);
    if let Some(kernels) = remembered.and_then(|(_, text)| text.parse::<KernelMap>().ok())
        && kernels.possible(gpu.features())
        && all_right(gpu, &matrices, &kernels, &mut wrong).await?
    {
        return found(kernels, TuneSource::Remembered, wrong);
    }
    if gpu.adapter().is_fallback && !hints.race_anyway {
        let kernels = KernelMap::all(KernelPair::software(gpu.features()));
        if all_right(gpu, &matrices, &kernels, &mut wrong).await? {
            return found(kernels, TuneSource::Software, wrong);
        }
    }
    let begun = now_ms();
    let (kernels, tried) = race(gpu, &matrices).await?;
    let how = TuneSource::Timed { tried, ms: now_ms() - begun };
    // The fastest, then what every adapter does well, then the plainest.
    for kernels in [kernels, KernelMap::default(), KernelMap::all(KernelPair::PLAIN)] {
        if all_right(gpu, &matrices, &kernels, &mut wrong).await? {
            return found(kernels, how, wrong);
        }
    }
    Ok(None)
}

/// A backend whose kernels are these.
pub(super) fn backend(gpu: &Rc<Gpu>, kernels: KernelMap) -> Result<GpuBackend> {
    let mut backend = GpuBackend::new(gpu.clone(), MAX_BATCH, 1)?;
    backend.set_kernels(kernels);
    Ok(backend)
}

/// Adapter, features and shapes.
fn key(gpu: &Gpu, matrices: &[Matrix]) -> String {
    let Features { subgroup_size, half } = gpu.features();
    let mut key = format!("{} {subgroup_size}{}", gpu.adapter().name, if half { " f16" } else { "" });
    for Matrix { cols, rows, dtype, .. } in matrices {
        key.push_str(&format!(" {cols}x{rows}{}", dtype.name()));
    }
    key
}

/// Times variants, the largest matrices first, until the budget is used up. How many there were.
async fn race(gpu: &Rc<Gpu>, matrices: &[Matrix]) -> Result<(KernelMap, usize)> {
    let begun = now_ms();
    let mut kernels = KernelMap::default();
    let mut tried = 0;
    let raced = |won_on_a_gpu: bool| won_on_a_gpu || gpu.adapter().is_fallback;
    let mut candidates: Vec<MatvecKernel> =
        MatvecKernel::ALL.into_iter().filter(|t| t.possible(gpu.features()) && raced(t.is_raced())).collect();
    let mut prefill = MatmulKernel::ALL[0];
    let mut seen = Vec::new();
    for (index, &matrix) in matrices.iter().enumerate() {
        // A shape of several types is timed by the one with the most bytes.
        if seen.contains(&(matrix.cols, matrix.rows)) {
            continue;
        }
        seen.push((matrix.cols, matrix.rows));
        let mut times: Vec<(f64, MatvecKernel)> = Vec::new();
        for wave in candidates.chunks(WAVE) {
            if tried > 0 && now_ms() - begun > BUDGET_MS {
                break;
            }
            let variants = wave.iter().map(|&decode| KernelPair { decode, prefill });
            compile(gpu, matrix, variants.clone(), Batch::Decode).await?;
            for variant in variants {
                if tried > 0 && now_ms() - begun > BUDGET_MS {
                    break;
                }
                tried += 1;
                if let Some(ms) = time(gpu, matrix, variant, Batch::Decode).await? {
                    times.push((ms, variant.decode));
                }
            }
        }
        sort_by(&mut times, |(a, _), (b, _)| a.total_cmp(b));
        if index == 0 {
            let mut best = f64::INFINITY;
            let tiles =
                MatmulKernel::ALL.into_iter().filter(|t| t.possible(gpu.features()) && raced(t.is_raced()));
            let variants = tiles.map(|prefill| KernelPair { decode: MatvecKernel::ALL[0], prefill });
            if now_ms() - begun < BUDGET_MS {
                compile(gpu, matrix, variants.clone(), Batch::Prefill).await?;
            }
            for variant in variants {
                if now_ms() - begun > BUDGET_MS {
                    break;
                }
                tried += 1;
                if let Some(ms) = time(gpu, matrix, variant, Batch::Prefill).await?
                    && ms < best
                {
                    (best, prefill) = (ms, variant.prefill);
                }
            }
            if let Some((_, decode)) = times.first() {
                kernels = KernelMap::all(KernelPair { decode: *decode, prefill });
                candidates = times.iter().take(FAVOURITES).map(|(_, tuning)| *tuning).collect();
            }
        } else if let Some((_, decode)) = times.first()
            && times.len() == candidates.len()
        {
            kernels.set(matrix.cols, matrix.rows, KernelPair { decode: *decode, prefill });
        }
    }
    Ok((kernels, tried))
}

/// What the race would measure of one variant on one matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// Shape and type.
    pub matrix: Matrix,
    /// Tokens that are computed at once.
    pub tokens: u32,
    /// The kernel: a [`MatvecKernel`] for one token, a [`MatmulKernel`] for many.
    pub kernel: String,
    /// Milliseconds for one product; `None` if the kernel does not compile.
    pub ms: Option<f64>,
    /// Whether the CPU computes the same.
    pub right: bool,
}

/// Times and checks every variant that the device can run on every shape and type of a model, as the race and the
/// self-test do, without the race's limit of time.
///
/// # Errors
/// What is wrong with the model's header; device lost, out of memory.
pub async fn time_all(gpu: &Rc<Gpu>, directory: &Directory, each: &mut dyn FnMut(Timing)) -> Result<()> {
    let usual = KernelPair::DEFAULT;
    let decode = MatvecKernel::ALL
        .map(|decode| (Batch::Decode, 1, decode.to_string(), KernelPair { decode, ..usual }));
    let prefill = MatmulKernel::ALL
        .map(|prefill| (Batch::Prefill, BATCH, prefill.to_string(), KernelPair { prefill, ..usual }));
    for matrix in model::matrices(directory)? {
        for (batch, tokens, kernel, variant) in decode.iter().chain(&prefill) {
            if !variant.possible(gpu.features()) {
                continue;
            }
            let ms = time(gpu, matrix, *variant, *batch).await?;
            let product = Product::record(backend(gpu, KernelMap::all(*variant))?, matrix, *batch)?;
            let right = product.computes_the_same(matrix, *batch).await?;
            each(Timing { matrix, tokens: *tokens, kernel: kernel.clone(), ms, right });
        }
    }
    Ok(())
}

/// Compiles variants beside each other. One that does not compile is found when it is timed.
async fn compile(
    gpu: &Rc<Gpu>,
    matrix: Matrix,
    variants: impl Iterator<Item = KernelPair>,
    batch: Batch,
) -> Result<()> {
    for variant in variants {
        // A kernel is the same for any number of rows.
        let few = Matrix { rows: 2, ..matrix };
        let mut backend = backend(gpu, KernelMap::all(variant))?;
        record(&mut backend, few, batch, 1, 1)?;
    }
    match gpu.compiled("race").await {
        Ok(()) | Err(Error::Gpu { .. }) => Ok(()),
        Err(other) => Err(other),
    }
}

/// Milliseconds for one matrix, or `None` if the kernel does not compile.
async fn time(gpu: &Rc<Gpu>, matrix: Matrix, variant: KernelPair, batch: Batch) -> Result<Option<f64>> {
    let mut backend = backend(gpu, KernelMap::all(variant))?;
    let copies = match batch {
        Batch::Decode => (COPIES_BYTES / matrix.bytes().max(1)).clamp(1, MOST_COPIES),
        _ => 1,
    };
    let count = if batch == Batch::Decode { 1 } else { BATCH };
    match timed(&mut backend, matrix, batch, count, copies).await {
        Ok(ms) => Ok(Some(ms / copies as f64)),
        Err(Error::Gpu { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// Recorded products and what they work on.
struct Recorded<B: Backend> {
    plan: B::Plan,
    _held: (B::Tensor, B::Tensor, B::Vector, Vec<B::Weight>),
}

/// out = W · rmsnorm(x).
fn product<'a, B: Backend>(
    x: &'a B::Tensor,
    gain: &'a B::Vector,
    weight: &'a B::Weight,
    out: &'a B::Tensor,
) -> Op<Of<'a, B>> {
    let norm = Some(Norm { kind: NormKind::Rms, gain, bias: None, eps: 1e-5 });
    Op::Linear { x, rows: Rows::Batch, norm, weight, bias: None, scale: 1.0, then: Then::Store, to: out }
}

/// Activations with copies of a matrix, whose weights are zeros: time does not depend on them.
fn record<B: Backend>(
    backend: &mut B,
    matrix: Matrix,
    batch: Batch,
    count: u32,
    copies: u64,
) -> Result<Recorded<B>> {
    let x = backend.tensor("race", count, matrix.cols as u32)?;
    let out = backend.tensor("race", count, matrix.rows as u32)?;
    let gain = backend.vector("race", matrix.cols as u32)?;
    let mut weights = Vec::new();
    for _ in 0..copies {
        let segment = [Segment { dtype: matrix.dtype, rows: matrix.rows }];
        weights.push(backend.weight("race", matrix.cols, &segment)?);
    }
    let ops: Vec<_> = weights.iter().map(|weight| product::<B>(&x, &gain, weight, &out)).collect();
    let plan = backend.compile(&ops, batch)?;
    Ok(Recorded { plan, _held: (x, out, gain, weights) })
}

async fn timed<B: Backend>(
    backend: &mut B,
    matrix: Matrix,
    batch: Batch,
    count: u32,
    copies: u64,
) -> Result<f64> {
    let recorded = record(backend, matrix, batch, count, copies)?;
    let plan = &recorded.plan;
    let step = Step { pos: 0, count, row: 0, counter: 0 };
    backend.compiled("race").await?;
    // The first run may still be slower than others.
    backend.run(&[plan], step)?;
    backend.settle("race").await?;
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let begun = now_ms();
        backend.run(&[plan], step)?;
        backend.settle("race").await?;
        best = best.min(now_ms() - begun);
    }
    Ok(best)
}

/// Whether products by these kernels are the CPU's, for every shape and type. Adds what is not to `wrong`.
async fn all_right(
    gpu: &Rc<Gpu>,
    matrices: &[Matrix],
    kernels: &KernelMap,
    wrong: &mut Vec<KernelPair>,
) -> Result<bool> {
    // All are recorded first, so that they are compiled beside each other.
    let mut products = Vec::new();
    for (&matrix, batch) in
        matrices.iter().flat_map(|matrix| [(matrix, Batch::Decode), (matrix, Batch::Prefill)])
    {
        let product = Product::record(backend(gpu, kernels.clone())?, matrix, batch)?;
        products.push((matrix, batch, product));
    }
    for (matrix, batch, product) in products {
        if !product.computes_the_same(matrix, batch).await? {
            wrong.push(kernels.of(matrix.cols, matrix.rows));
            return Ok(false);
        }
    }
    Ok(true)
}

/// The CPU rounds activations to 16 bits, some 1e-4 of a sum; what is wrong is wrong by far more than this allows.
fn agree(got: &[f32], want: &[f32]) -> bool {
    let size = want.iter().map(|v| v.abs()).fold(0.0, f32::max);
    // Written so that NaN fails.
    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-2 * size;
    got.len() == want.len() && got.iter().zip(want).all(close)
}

/// The first rows of a matrix of made-up numbers times the norm of made-up numbers: the same on every backend. With
/// the matrix's own columns and type, so that what is tested is the very kernel that was timed.
struct Product<B: Backend> {
    backend: B,
    plan: B::Plan,
    out: B::Tensor,
    /// Tokens; the last one's result counts.
    count: u32,
    _held: (B::Tensor, B::Vector, [B::Weight; 2]),
}

impl<B: Backend> Product<B> {
    fn record(mut backend: B, matrix: Matrix, batch: Batch) -> Result<Self> {
        let Matrix { cols, dtype, .. } = matrix;
        let columns = cols as u32;
        let segment = |rows: u32| [Segment { dtype, rows: u64::from(rows) }];
        let inputs = backend.weight("self-test", cols, &segment(2))?;
        let weight = backend.weight("self-test", cols, &segment(TEST_ROWS))?;
        backend.upload_rows(&inputs, 0, &made_up(dtype, 2, columns))?;
        backend.upload_rows(&weight, 0, &made_up(dtype, TEST_ROWS, columns))?;
        let x = backend.tensor("self-test", 2, columns)?;
        let out = backend.tensor("self-test", 2, TEST_ROWS)?;
        let gain = backend.vector("self-test", columns)?;
        let gains: Vec<f32> = (0..columns).map(|i| 0.5 + (i % 7) as f32 / 7.0).collect();
        backend.upload_vector(&gain, 0, &gains);
        let embed = Op::Embed { table: &inputs, scale: 1.0, to: &x };
        let plan = backend.compile(&[embed, product::<B>(&x, &gain, &weight, &out)], batch)?;
        let count = if batch == Batch::Decode { 1 } else { 2 };
        Ok(Product { backend, plan, out, count, _held: (x, gain, [inputs, weight]) })
    }

    /// Whether the CPU computes the same.
    async fn computes_the_same(self, matrix: Matrix, batch: Batch) -> Result<bool> {
        let exact = CpuOptions { bits: Bits::Sixteen, ..CpuOptions::default() };
        let want = Product::record(CpuBackend::new(exact), matrix, batch)?.run().await?;
        match self.run().await {
            Ok(got) => Ok(agree(&got, &want)),
            Err(Error::Gpu { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    async fn run(mut self) -> Result<Vec<f32>> {
        self.backend.compiled("self-test").await?;
        self.backend.set_tokens(&[1, 0])?;
        self.backend.run(&[&self.plan], Step { pos: 0, count: self.count, row: 0, counter: 0 })?;
        self.backend.read(&self.out, self.count - 1).await
    }
}

/// Rows of a type as they stand in a file: all bits vary, all values are of a size that sums well. For
/// self-tests and benches.
#[must_use]
pub fn made_up(dtype: DType, rows: u32, columns: u32) -> Vec<u8> {
    let blocks = u64::from(rows) * u64::from(columns) / dtype.block_len();
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state
    };
    let mut bytes = Vec::new();
    for _ in 0..blocks {
        let value = (next() >> 8) as f32 / (1 << 24) as f32 - 0.5;
        let start = bytes.len();
        bytes.extend((0..dtype.block_bytes()).map(|_| (next() >> 24) as u8));
        dtype.put_scale(&mut bytes[start..], value);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::agree;

    #[test]
    fn wrong_numbers_do_not_agree() {
        let want = [1.0, -2.0, 0.5, 3.0];
        assert!(agree(&[1.001, -2.001, 0.499, 3.0], &want));
        for wrong in [[1.0, -2.0, 0.5, f32::NAN], [0.0; 4], [-2.0, 1.0, 0.5, 3.0], [1.0, -2.0, 0.6, 3.0]] {
            assert!(!agree(&wrong, &want), "{wrong:?}");
        }
        assert!(!agree(&want[..3], &want));
        assert!(!agree(&[f32::INFINITY; 4], &[f32::NAN; 4]));
    }
}
