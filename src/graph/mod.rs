//! What is computed: the op set of a language model, about a dozen fused operations. A model is written
//! once over the trait [`Backend`] and never asks which backend it has.
//!
//! Recording and running are separate: a model records its operations into plans when it is loaded;
//! a step of generation runs plans, with [`Step`] as the only thing that changes.
//!
//! Letters in shapes: `T` tokens of a batch, `C` model width, `H` query heads, `G` KV heads,
//! `D` head size, `F` feed-forward width, `V` vocabulary.

mod image;

use crate::error::{Error, Result};
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

/// Largest head size: a workgroup of `attention_decode` has a thread for each four elements of a head.
pub(crate) const MAX_HEAD: u32 = 256;

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
    F32,
    /// Two. A K or V beyond ±65504 is [`Error::KvOverflow`].
    #[default]
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

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kv| kv.name() == name)
    }

    /// Bytes of a head's elements at one position. The last block of q8_0 may be shorter than 32 elements.
    fn head_bytes(self, head_dim: u32) -> u64 {
        let elements = u64::from(head_dim);
        match self {
            KvType::F32 => 4 * elements,
            KvType::F16 => 2 * elements,
            KvType::Q8_0 => elements + 4 * elements.div_ceil(32),
        }
    }
}

/// Shape of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq)]
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
    /// Factor of the scores; most models have 1 / √D.
    pub scale: f32,
    /// Soft cap of the scaled scores: each becomes cap · tanh(score / cap). 0 is none.
    pub cap: f32,
    /// Sliding window: a query at position p sees the positions p - window + 1 to p. 0 is none: it sees all up to p.
    pub window: u32,
    /// Most tokens of a batch, whatever its [`Batch`]. With a window the cache has room for so many besides.
    pub max_batch: u32,
    /// Positions of a context.
    pub capacity: u32,
    /// What the cache holds.
    pub kv: KvType,
}

/// Positions by which the ring of a sliding window grows: whole panels of K on the GPU, and whole tiles on the CPU.
const RING_STEP: u64 = 64;

impl HeadShape {
    /// Slots of the cache: position p lies in slot p mod `slots`. With a window they are as many as its first query and
    /// its last token of a batch need together, in whole tiles; never more than the context has positions.
    #[must_use]
    pub fn slots(self) -> u32 {
        if self.window == 0 {
            return self.capacity;
        }
        let needed = u64::from(self.window) + u64::from(self.max_batch.max(1)) - 1;
        needed.next_multiple_of(RING_STEP).min(self.capacity.into()) as u32
    }

    /// First position that a query at this position sees.
    #[must_use]
    pub fn first_seen(self, position: u32) -> u32 {
        match self.window {
            0 => 0,
            window => position.saturating_sub(window - 1),
        }
    }

    /// Whether the cache can go back: whether everything that a query at position `to` sees before itself is still there
    /// after positions below `written` have been stored since a text began at position 0. In a ring a later position
    /// takes the slot of an earlier one.
    #[must_use]
    pub fn rollback_ok(self, written: u32, to: u32) -> bool {
        let first = self.first_seen(to);
        let kept = u64::from(first) + u64::from(self.slots());
        to <= written && (first == to || u64::from(written) <= kept)
    }

    /// Refuses what no backend computes.
    pub(crate) fn check(self) -> Result<()> {
        let HeadShape { heads, kv_heads, head_dim, scale, cap, window, max_batch, .. } = self;
        let unsupported = |what| Err(Error::UnsupportedModel { what });
        if kv_heads == 0 || heads == 0 || !heads.is_multiple_of(kv_heads) {
            return unsupported(format!("{heads} query heads for {kv_heads} KV heads"));
        }
        if !(8..=MAX_HEAD).contains(&head_dim) || !head_dim.is_multiple_of(8) {
            return unsupported(format!("heads of size {head_dim} (a multiple of 8 up to {MAX_HEAD})"));
        }
        if !scale.is_finite() || !cap.is_finite() || cap < 0.0 || (window > 0 && max_batch == 0) {
            return Err(Error::Internal { what: format!("attention of {self:?}") });
        }
        Ok(())
    }

    /// Bytes of K and V of one position.
    #[must_use]
    pub fn kv_bytes(self) -> u64 {
        2 * u64::from(self.kv_heads) * self.kv.head_bytes(self.head_dim)
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
    /// Device lost, out of memory; [`Error::KvOverflow`] if a K or V that was stored since the last report could not be.
    async fn drawn(&mut self, ticket: Self::Ticket) -> Result<Vec<u32>>;
    /// Copies one row of activations to the CPU.
    ///
    /// # Errors
    /// As for [`Backend::drawn`].
    async fn read(&mut self, tensor: &Self::Tensor, row: u32) -> Result<Vec<f32>>;
    /// Dispatches, submits, readbacks and weight bytes since the backend was made.
    fn traffic(&self) -> Traffic;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windowed(window: u32, max_batch: u32, capacity: u32) -> HeadShape {
        HeadShape {
            heads: 2,
            kv_heads: 1,
            head_dim: 8,
            rope_dim: 8,
            pairs: RopePairs::Adjacent,
            scale: 1.0,
            cap: 0.0,
            window,
            max_batch,
            capacity,
            kv: KvType::F32,
        }
    }

    #[test]
    fn a_ring_has_room_for_the_window_and_a_batch() {
        assert_eq!(windowed(0, 8, 1000).slots(), 1000);
        assert_eq!(windowed(57, 8, 1000).slots(), 64);
        assert_eq!(windowed(58, 8, 1000).slots(), 128);
        assert_eq!(windowed(512, 512, 1000).slots(), 1000);
        assert_eq!(windowed(u32::MAX, u32::MAX, 1000).slots(), 1000);
        assert_eq!(windowed(1, 1, 100).slots(), 64);
    }

    /// Against a ring that is written position by position.
    #[test]
    fn a_cache_goes_back_as_far_as_a_query_finds_all_it_sees() {
        for (window, max_batch, capacity) in
            [(0, 8, 150), (5, 8, 300), (60, 8, 300), (1, 1, 200), (64, 64, 120)]
        {
            let shape = windowed(window, max_batch, capacity);
            for written in [0, 1, 63, 64, 65, 100, capacity] {
                let mut ring = vec![None; shape.slots() as usize];
                for position in 0..written {
                    ring[(position % shape.slots()) as usize] = Some(position);
                }
                for to in 0..=written {
                    let mut seen = shape.first_seen(to)..to;
                    let there = seen.all(|p| ring[(p % shape.slots()) as usize] == Some(p));
                    assert_eq!(
                        shape.rollback_ok(written, to),
                        there,
                        "{window} {max_batch}: {written} to {to}"
                    );
                }
                assert!(!shape.rollback_ok(written, written + 1));
            }
        }
    }

    #[test]
    fn q8_0_has_a_scale_for_each_block_begun() {
        for (head_dim, bytes) in [(8, 12), (32, 36), (80, 92), (96, 108)] {
            let shape = HeadShape { head_dim, kv: KvType::Q8_0, ..windowed(0, 1, 1) };
            assert_eq!(shape.kv_bytes(), 2 * bytes);
        }
    }
}
