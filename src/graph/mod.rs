//! What is computed: the op set of a language model, about a dozen fused operations. A model is written
//! once over the trait [`Backend`] and never asks which backend it has.
//!
//! Recording and running are separate: a model records its operations into plans when it is loaded;
//! a step of generation runs plans, with [`Step`] as the only thing that changes.
//!
//! Letters in shapes: `T` tokens of a batch, `C` model width, `H` query heads, `G` KV heads,
//! `D` head size, `F` feed-forward width, `V` vocabulary.

mod image;

use crate::error::Result;
use crate::formats::DType;
use crate::sampling::SampleParams;

pub use image::{Activation, Conv, ConvShape, GroupNorm, ImageBackend, ImageShape, Precision, Rect, Window};
pub(crate) use image::{
    check_attention, check_conv, check_copy, check_norm, check_pixels, check_rect, check_weights, not_finite,
};

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

/// Most tokens of a [`Batch::Few`].
pub const MAX_FEW: u32 = 8;

/// How many tokens a plan is recorded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    /// Decode: one token.
    One,
    /// Verification of drafts: up to [`MAX_FEW`] tokens, each bit for bit as it would be by `One`.
    Few,
    /// Prefill: up to the tensors' number of rows.
    Many,
}

/// Rows of one dtype inside a weight matrix that is put together from several tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Type of the tensor in the file.
    pub dtype: DType,
    /// Its rows.
    pub rows: u64,
}

/// RMSNorm in front of a projection.
pub struct Norm<'a, B: Backend> {
    /// `C` floats.
    pub gain: &'a B::Vector,
    /// Added to the mean square.
    pub eps: f32,
}

/// Which elements of a head RoPE rotates with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairs {
    /// (2i, 2i + 1): Llama files, whose Q and K rows are permuted for it.
    Adjacent,
    /// (i, i + R/2) with `R` the elements that are rotated: NeoX.
    Halves,
}

/// What K and V are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvType {
    /// Four bytes an element.
    #[default]
    F32,
    /// Two. What is beyond its range becomes the largest number there is.
    F16,
    /// Bytes with one f32 scale for 32 elements of a head.
    Q8_0,
}

impl KvType {
    /// All of them, largest first.
    pub const ALL: [KvType; 3] = [KvType::F32, KvType::F16, KvType::Q8_0];

    /// `f32`, `f16` or `q8_0`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
            KvType::Q8_0 => "q8_0",
        }
    }

    /// Parses a name such as `q8_0`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kv| kv.name() == name)
    }

    /// Bytes of 32 elements.
    const fn block_bytes(self) -> u64 {
        match self {
            KvType::F32 => 128,
            KvType::F16 => 64,
            KvType::Q8_0 => 36,
        }
    }
}

/// Shape of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadShape {
    /// Query heads `H`.
    pub heads: u32,
    /// KV heads `G`; divides `H`.
    pub kv_heads: u32,
    /// Head size `D`.
    pub head_dim: u32,
    /// Elements of a head that are rotated.
    pub rope_dim: u32,
    /// How they pair up.
    pub pairs: RopePairs,
    /// Positions in the cache.
    pub capacity: u32,
    /// What it holds.
    pub kv: KvType,
}

impl HeadShape {
    /// Bytes of K and V of one position.
    #[must_use]
    pub fn kv_bytes(self) -> u64 {
        2 * u64::from(self.kv_heads) * u64::from(self.head_dim) / 32 * self.kv.block_bytes()
    }

    /// Elements of a token's Q, K and V.
    #[must_use]
    pub fn qkv_width(self) -> u32 {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }
}

/// The operations and what they work on. Everything a backend hands out is freed when dropped.
#[allow(async_fn_in_trait)] // one thread, in the browser's worker and natively alike
pub trait Backend: Sized {
    /// Activations, (rows, columns) f32.
    type Tensor;
    /// A matrix in its quantized form.
    type Weight;
    /// A vector of f32.
    type Vector;
    /// K and V of one layer.
    type Cache;
    /// Operations recorded, ready to run.
    type Plan;
    /// Drawn tokens on their way to the CPU.
    type Ticket;
    /// Decode steps worth having in flight, so that the device does not wait for the CPU.
    const STEPS_AHEAD: usize;
    /// Drafts worth verifying at once: each that is rejected costs its row.
    const MOST_DRAFTS: u32;

    // --- memory ---

    /// Zeroed activations.
    ///
    /// # Errors
    /// Out of memory, or over a limit of the device.
    fn tensor(&mut self, label: &str, rows: u32, cols: u32) -> Result<Self::Tensor>;
    /// A zeroed matrix whose rows are the segments one after the other, `cols` wide. `pair_stride` is the distance of
    /// rows that one operation needs together: `F` for [`Backend::gate_up`], R/2 for [`Backend::qkv`] with
    /// [`RopePairs::Halves`], else 1. A matrix of stride 1 may be split when it is larger than the device can bind.
    ///
    /// # Errors
    /// As for [`Backend::tensor`].
    fn weight(
        &mut self,
        label: &str,
        cols: u64,
        segments: &[Segment],
        pair_stride: u32,
    ) -> Result<Self::Weight>;
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

    // --- operations; each is recorded, nothing runs yet ---

    /// `x[t] = row tokens[t] of weight`, (T, C). The tokens are [`Backend::set_tokens`]'s, or those
    /// drawn last.
    ///
    /// # Errors
    /// Shapes that do not fit; so for all operations.
    fn embed(&mut self, weight: &Self::Weight, x: &Self::Tensor, batch: Batch) -> Result<()>;
    /// qkv (T, H·D + 2·G·D) = W · rmsnorm(x) + bias, RoPE on Q and K. A bias has a float for each row of W; so for all
    /// operations.
    ///
    /// # Errors
    /// See [`Backend::embed`].
    #[allow(clippy::too_many_arguments)]
    fn qkv(
        &mut self,
        x: &Self::Tensor,
        norm: &Norm<'_, Self>,
        weight: &Self::Weight,
        bias: Option<&Self::Vector>,
        rope: &Self::Vector,
        qkv: &Self::Tensor,
        shape: HeadShape,
        batch: Batch,
    ) -> Result<()>;
    /// Puts the tokens' K and V into the cache; then x += W · softmax(Q Kᵀ / √D) V + bias, causal, grouped heads.
    ///
    /// # Errors
    /// See [`Backend::embed`].
    fn attend(
        &mut self,
        qkv: &Self::Tensor,
        cache: &Self::Cache,
        weight: &Self::Weight,
        bias: Option<&Self::Vector>,
        x: &Self::Tensor,
        batch: Batch,
    ) -> Result<()>;
    /// h = silu(gate · rmsnorm(x) + bias) ⊙ (up · rmsnorm(x) + bias); `weight` is gate's rows, then up's, and so is
    /// `bias`.
    ///
    /// # Errors
    /// See [`Backend::embed`].
    fn gate_up(
        &mut self,
        x: &Self::Tensor,
        norm: &Norm<'_, Self>,
        weight: &Self::Weight,
        bias: Option<&Self::Vector>,
        h: &Self::Tensor,
        batch: Batch,
    ) -> Result<()>;
    /// x += W · h + bias.
    ///
    /// # Errors
    /// See [`Backend::embed`].
    fn project_add(
        &mut self,
        h: &Self::Tensor,
        weight: &Self::Weight,
        bias: Option<&Self::Vector>,
        x: &Self::Tensor,
        batch: Batch,
    ) -> Result<()>;
    /// logits (1, V) = W · rmsnorm(x\[`step.row`\]); with [`Batch::Few`] logits (T, V) of every row.
    ///
    /// # Errors
    /// See [`Backend::embed`].
    fn head(
        &mut self,
        x: &Self::Tensor,
        norm: &Norm<'_, Self>,
        weight: &Self::Weight,
        logits: &Self::Tensor,
        batch: Batch,
    ) -> Result<()>;
    /// Draws a token from the logits as [`Backend::set_sampling`] said. With `adjust`, logit bias and
    /// penalties are applied to the logits first, in place. With [`Batch::Few`], which cannot adjust
    /// (a penalty waits for the token before), row `t` draws token `step.counter + t`.
    ///
    /// # Errors
    /// See [`Backend::embed`].
    fn sample(&mut self, logits: &Self::Tensor, adjust: bool, batch: Batch) -> Result<()>;
    /// Takes what was recorded since the last call.
    fn finish(&mut self) -> Self::Plan;

    /// Kernel launches of a plan.
    fn dispatches(plan: &Self::Plan) -> u64;

    // --- running ---

    /// Waits until all kernels recorded so far are compiled. A plan that does not wait for it is right as well, but
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
    /// for plans recorded with `adjust`.
    ///
    /// # Errors
    /// No draw was recorded yet; device lost.
    fn set_sampling(&mut self, params: &SampleParams, bias: &[(u32, f32)], recent: &[u32]) -> Result<()>;
    /// Runs plans in order, as one submit.
    ///
    /// # Errors
    /// Device lost.
    fn run(&mut self, plans: &[&Self::Plan], step: Step) -> Result<()>;
    /// Runs plans that end in a draw of `draws` tokens, at most [`MAX_FEW`], and starts to bring them to
    /// the CPU.
    ///
    /// # Errors
    /// Device lost.
    fn run_and_fetch(&mut self, plans: &[&Self::Plan], step: Step, draws: u32) -> Result<Self::Ticket>;
    /// Waits for drawn tokens. [`NO_TOKEN`] stands where there was no candidate.
    ///
    /// # Errors
    /// Device lost, out of memory.
    async fn drawn(&mut self, ticket: Self::Ticket) -> Result<Vec<u32>>;
    /// Copies one row of activations to the CPU.
    ///
    /// # Errors
    /// Device lost, out of memory.
    async fn read(&mut self, tensor: &Self::Tensor, row: u32) -> Result<Vec<f32>>;
    /// Dispatches, submits, readbacks and weight bytes since the backend was made.
    fn traffic(&self) -> Traffic;
}
