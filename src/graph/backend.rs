//! What a backend does: it holds tensors, compiles ops into plans, and runs these.
//!
//! Compiling and running are separate: a model's ops are compiled into plans when it is loaded; a step of generation
//! runs plans, with [`Step`] as the only thing that changes.

use crate::error::Result;
use crate::formats::DType;
use crate::sampling::SampleParams;

use super::memory::HeadShape;
use super::needs::{Fit, Needs};
use super::op::{Of, Op};

/// Counts of what was recorded or run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Kernel launches.
    pub dispatches: u64,
    /// Command buffers given to the queue.
    pub submits: u64,
    /// Buffers mapped for reading.
    pub readbacks: u64,
    /// Weight bytes read.
    pub weight_bytes: u64,
}

/// What changes from one run to the next. Mirrors `shaders/shared/step.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Step {
    /// Position of the batch's first token in the KV cache.
    pub pos: u32,
    /// Tokens in the batch.
    pub count: u32,
    /// Row of the activations that the head reads.
    pub row: u32,
    /// Index of the token to be drawn, of several the first; the counter of the random generator.
    pub counter: u32,
}

/// Most tokens of a [`Batch::Verify`].
pub const MAX_VERIFY_ROWS: u32 = 8;

/// What a plan computes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    /// One token.
    Decode,
    /// A token and its drafts: up to [`MAX_VERIFY_ROWS`] tokens, each bit for bit as it would be by `Decode`.
    Verify,
    /// A piece of a prompt: up to the tensors' number of rows.
    Prefill,
}

/// Rows of one dtype inside a weight matrix that is put together from several tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Type of the tensor in the file.
    pub dtype: DType,
    /// Its rows.
    pub rows: u64,
}

/// What holds tensors and runs ops. Everything that a backend hands out is freed when dropped.
#[allow(async_fn_in_trait)] // one thread, in the browser's worker and natively alike
pub trait Backend: Sized {
    /// Activations, (rows, columns) f32.
    type Tensor: Clone;
    /// A matrix in its quantized form.
    type Weight;
    /// A vector of f32.
    type Vector;
    /// What a layer remembers: its K and V.
    type Cache;
    /// Ops that are ready to run.
    type Plan;
    /// Drawn tokens on their way to the CPU.
    type Ticket;
    /// Decode steps worth having in flight, so that the device does not wait for the CPU.
    const STEPS_AHEAD: usize;
    /// Drafts worth verifying at once: each that is rejected costs its row.
    const MAX_DRAFTS: u32;

    // --- memory ---

    /// Zeroed activations.
    ///
    /// # Errors
    /// Out of memory, or over a limit of the device.
    fn tensor(&mut self, label: &str, rows: u32, cols: u32) -> Result<Self::Tensor>;
    /// A zeroed matrix whose rows are the segments one after the other, `cols` wide.
    ///
    /// # Errors
    /// As for [`Backend::tensor`].
    fn weight(&mut self, label: &str, cols: u64, segments: &[Segment]) -> Result<Self::Weight>;
    /// Fills whole rows from `row` on with bytes as they stand in the file.
    ///
    /// # Errors
    /// Bytes that are not whole rows of one segment.
    fn upload_rows(&mut self, weight: &Self::Weight, row: u64, bytes: &[u8]) -> Result<()>;
    /// A zeroed vector.
    ///
    /// # Errors
    /// As for [`Backend::tensor`].
    fn vector(&mut self, label: &str, len: u32) -> Result<Self::Vector>;
    /// Fills a vector from `at` on.
    fn upload_vector(&mut self, vector: &Self::Vector, at: u32, values: &[f32]);
    /// An empty KV cache of one layer.
    ///
    /// # Errors
    /// As for [`Backend::tensor`].
    fn cache(&mut self, label: &str, shape: HeadShape) -> Result<Self::Cache>;
    /// Waits until uploads have been taken over, so that staging memory stays bounded.
    ///
    /// # Errors
    /// What went wrong since the last call: out of memory, device lost.
    async fn settle(&mut self, doing: &str) -> Result<()>;
    /// Bytes held.
    fn allocated_bytes(&self) -> u64;
    /// Threads that compute a token; 1 where it is not threads that do.
    fn threads(&self) -> usize {
        1
    }
    /// Whether what is needed would fit, by arithmetic alone. `None` where only trying tells.
    fn fit(&self, needs: &Needs) -> Option<Fit> {
        let _ = needs;
        None
    }

    // --- plans ---

    /// Makes a plan of ops, and begins to compile their kernels.
    ///
    /// # Errors
    /// Operands whose shapes do not fit; out of memory.
    fn compile(&mut self, ops: &[Op<Of<'_, Self>>], batch: Batch) -> Result<Self::Plan>;

    /// Kernel launches of a plan.
    fn dispatches(plan: &Self::Plan) -> u64;

    /// Waits until the kernels of all plans so far are compiled. A plan that does not wait for it is right as well, but
    /// may have to compile.
    ///
    /// # Errors
    /// A kernel that does not compile; what else went wrong since the last call: out of memory, device lost.
    async fn compiled(&mut self, doing: &str) -> Result<()>;

    /// Sets the tokens of the next batch.
    ///
    /// # Errors
    /// More tokens than the backend has room for.
    fn set_tokens(&mut self, tokens: &[u32]) -> Result<()>;
    /// Sets how tokens are drawn. `bias` and the penalty window (`recent`, oldest first) matter only
    /// for plans whose draw adjusts.
    ///
    /// # Errors
    /// No plan draws yet; device lost.
    fn set_sampling(&mut self, params: &SampleParams, bias: &[(u32, f32)], recent: &[u32]) -> Result<()>;
    /// Runs plans in order, as one submit.
    ///
    /// # Errors
    /// Device lost.
    fn run(&mut self, plans: &[&Self::Plan], step: Step) -> Result<()>;
    /// Runs plans that end in a draw of `draws` tokens, at most [`MAX_VERIFY_ROWS`], and starts to bring them to
    /// the CPU.
    ///
    /// # Errors
    /// Device lost.
    fn run_and_fetch(&mut self, plans: &[&Self::Plan], step: Step, draws: u32) -> Result<Self::Ticket>;
    /// Waits for drawn tokens. [`NO_TOKEN`](crate::sampling::NO_TOKEN) stands where there was no candidate.
    ///
    /// # Errors
    /// Device lost, out of memory; [`Error::KvOverflow`](crate::error::Error::KvOverflow) if a K or V that was stored since the
    /// last report could not be.
    async fn drawn(&mut self, ticket: Self::Ticket) -> Result<Vec<u32>>;
    /// Copies one row of activations to the CPU.
    ///
    /// # Errors
    /// As for [`Backend::drawn`].
    async fn read(&mut self, tensor: &Self::Tensor, row: u32) -> Result<Vec<f32>>;
    /// Dispatches, submits, readbacks and weight bytes since the backend was made.
    fn traffic(&self) -> Traffic;
}
