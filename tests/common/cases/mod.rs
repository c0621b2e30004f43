//! Kernel × weight format × edge shape, against the f64 oracles. One body for every machine and
//! every backend.

mod attention;
mod embed;
pub mod image;
pub mod misuse;
pub mod pipelines;
mod project;
mod rows;
mod sample;

pub use attention::{
    attention, attention_f16, attention_of_cut_prompts, attention_of_head_sizes, attention_of_several_shapes,
    attention_of_windows, attention_q8_0, attention_with_a_cap, kv_overflow,
};
pub use embed::{embed, split_vocabulary};
pub use project::{gate_up, head, map, project_add, qkv};
pub use rows::{elements, norms, norms_of_heads, positions};
pub use sample::{sample_chain, sample_few, sample_greedy, sample_infinite};

use emberglass::DType;
use emberglass::graph::{
    Backend, Batch, HeadShape, KvType, Norm, NormKind, Of, Op, Rows, Segment, Step, Then,
};

use super::compare::{GUARD, Layout, assert_close};
use super::random::Random;
use super::rig::{HALF_ERROR, Rig};
use crate::reference::{Sum, project as oracle, weights};

/// f32 rounding: a sum of n terms is off by at most n · 2^-24 of the sum of their magnitudes
/// (Higham, Accuracy and Stability, 2nd ed., 4.2); 64 more roundings for scales, norms and epilogues.
/// What quantized activations add comes on top.
fn tolerance(terms: usize, sum: &Sum) -> f64 {
    (terms as f64 + 64.0) * 2f64.powi(-24) * sum.sum + sum.slack + 1e-30
}

const EPS: f32 = 1e-5;

/// Widths and heights that end on, before and past every tile: block 32, pairs 32, odd.
fn shapes(dtype: DType) -> Vec<(usize, usize)> {
    match dtype.block_len() as usize {
        1 => vec![(1, 1), (5, 3), (33, 66), (64, 31)],
        32 => vec![(32, 1), (96, 65), (576, 66), (160, 7)],
        block => vec![(block, 1), (2 * block, 66), (3 * block, 7)],
    }
}

/// Floats, nibbles, bytes and two scales a block: they stand for all types where nothing depends on the type, as biases and row pairs.
const FORMATS: [DType; 4] = [DType::F16, DType::Q4_1, DType::Q8_0, DType::Q6_K];

const BATCHES: [(Batch, usize); 6] = [
    (Batch::Decode, 1),
    (Batch::Verify, 3),
    (Batch::Prefill, 1),
    (Batch::Prefill, 3),
    (Batch::Prefill, 32),
    (Batch::Prefill, 33),
];

/// What activations look like where they meet the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inputs {
    /// Any floats. A backend that quantizes them has a wide tolerance, `Sum::slack`, which a small
    /// mistake could hide in.
    Floats,
    /// Blocks of 32 that int8 holds exactly, so that f32 rounding is all that remains and the
    /// tolerance is the tight one for every backend. For one that sums in f16: -1, 0 and 1, and weights whose sums
    /// f16 holds exactly.
    Exact,
}

const INPUTS: [Inputs; 2] = [Inputs::Floats, Inputs::Exact];

/// A backend and a source of numbers.
struct Setup<R> {
    backend: R,
    random: Random,
}

/// Weights, and what they are.
struct Matrix<R: Rig> {
    weight: R::Weight,
    /// (rows, cols)
    values: Vec<f64>,
    /// The same less every block's middle.
    spreads: Vec<f64>,
    /// Of each row, `Rig::activation_error`.
    errors: Vec<f64>,
    /// Whether sums of [`Inputs::Exact`] are exact.
    plain: bool,
}

impl<R: Rig> Matrix<R> {
    /// W x.
    fn times(&self, x: &[f64], inputs: Inputs) -> Vec<Sum> {
        let mut y = oracle::matvec(&self.values, x);
        if inputs == Inputs::Floats || !self.plain {
            let rows = self.values.chunks_exact(x.len()).zip(self.spreads.chunks_exact(x.len()));
            for ((y, (row, spread)), error) in y.iter_mut().zip(rows).zip(&self.errors) {
                let largest = oracle::sum_of_largest(row, x);
                y.slack = error * largest;
                if R::half_sums() {
                    y.slack += HALF_ERROR * largest.max(oracle::sum_of_largest(spread, x));
                }
            }
        }
        y
    }
}

/// Activations in front of a norm.
struct Normed<R: Rig> {
    x: R::Tensor,
    gain: R::Vector,
    /// What the norm makes of each row.
    rows: Vec<Vec<f64>>,
}

impl<R: Rig> Setup<R> {
    async fn new(seed: u64) -> Self {
        Setup { backend: R::make().await, random: Random::new(seed) }
    }

    /// Random rows of one or more dtypes, uploaded in two pieces.
    fn matrix(&mut self, cols: usize, segments: &[(DType, usize)], inputs: Inputs) -> Matrix<R> {
        let parts: Vec<_> =
            segments.iter().map(|&(dtype, rows)| Segment { dtype, rows: rows as u64 }).collect();
        let weight = self.backend.weight("w", cols as u64, &parts).unwrap();
        let (mut values, mut spreads, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        let (mut row, mut all_plain) = (0, true);
        for &(dtype, rows) in segments {
            let plain = if R::half_sums() && inputs == Inputs::Exact {
                weights::plain_rows(dtype, rows, cols, &mut self.random)
            } else {
                None
            };
            all_plain &= plain.is_some() || !R::half_sums();
            let bytes = plain.unwrap_or_else(|| weights::random_rows(dtype, rows, cols, &mut self.random));
            let half = rows / 2;
            let (first, rest) = bytes.split_at(bytes.len() / rows * half);
            self.backend.upload_rows(&weight, row, first).unwrap();
            self.backend.upload_rows(&weight, row + half as u64, rest).unwrap();
            values.extend(weights::dequantize(dtype, &bytes));
            spreads.extend(weights::spread(dtype, &bytes));
            errors.extend(vec![R::activation_error(dtype); rows]);
            row += rows as u64;
        }
        Matrix { weight, values, spreads, errors, plain: all_plain }
    }

    fn floats(&mut self, len: usize, inputs: Inputs) -> Vec<f32> {
        match inputs {
            Inputs::Floats => self.random.floats(len),
            Inputs::Exact if R::half_sums() => self.random.signs(len),
            Inputs::Exact => self.random.int8_blocks(len),
        }
    }

    /// A tensor of these rows; the padding is zero, as kernels may rely on.
    fn tensor(&mut self, rows: &[Vec<f32>]) -> R::Tensor {
        let cols = rows[0].len();
        let tensor = self.backend.tensor("x", rows.len() as u32, cols as u32).unwrap();
        let stride = self.backend.stride(&tensor);
        let mut raw = vec![0.0; rows.len() * stride];
        for (raw, row) in raw.chunks_exact_mut(stride).zip(rows) {
            raw[..cols].copy_from_slice(row);
        }
        self.backend.write_raw(&tensor, &raw);
        tensor
    }

    /// Random activations.
    fn input(&mut self, rows: usize, cols: usize, inputs: Inputs) -> (R::Tensor, Vec<Vec<f64>>) {
        let rows: Vec<_> = (0..rows).map(|_| self.floats(cols, inputs)).collect();
        (self.tensor(&rows), rows.iter().map(|row| as_f64(row)).collect())
    }

    /// Random activations in front of a norm. Exact ones are exact behind it: the gain is made of
    /// powers of two, and x is divided by them. The norm's common factor changes nothing, as a block's
    /// largest magnitude stays 127 steps.
    fn normed(&mut self, rows: usize, cols: usize, inputs: Inputs) -> Normed<R> {
        let gain = match inputs {
            Inputs::Floats => self.random.floats(cols),
            Inputs::Exact => (0..cols).map(|_| self.random.power_of_two(-2, 2)).collect(),
        };
        let mut rows: Vec<_> = (0..rows).map(|_| self.floats(cols, inputs)).collect();
        if inputs == Inputs::Exact {
            for (x, gain) in rows.iter_mut().flat_map(|row| row.iter_mut().zip(&gain)) {
                *x /= gain;
            }
        }
        let x = self.tensor(&rows);
        let vector = self.vector(&gain);
        let gain = as_f64(&gain);
        let rows = rows.iter().map(|row| oracle::rms_norm(&as_f64(row), &gain, f64::from(EPS))).collect();
        Normed { x, gain: vector, rows }
    }

    fn vector(&mut self, values: &[f32]) -> R::Vector {
        let vector = self.backend.vector("vector", values.len() as u32).unwrap();
        self.backend.upload_vector(&vector, 0, values);
        vector
    }

    /// A bias of random numbers and its values; without one the values are zero.
    fn bias(&mut self, rows: usize, biased: bool) -> (Option<R::Vector>, Vec<f64>) {
        if !biased {
            return (None, vec![0.0; rows]);
        }
        let values = self.random.floats(rows);
        (Some(self.vector(&values)), as_f64(&values))
    }

    /// An output with one row more than is written, all guards.
    fn output(&mut self, rows: usize, cols: usize) -> (R::Tensor, Layout) {
        let tensor = self.backend.tensor("y", rows as u32 + 1, cols as u32).unwrap();
        let stride = self.backend.stride(&tensor);
        self.backend.write_raw(&tensor, &vec![GUARD; (rows + 1) * stride]);
        (tensor, Layout { rows, cols, stride })
    }

    async fn run(&mut self, ops: &[Op<Of<'_, R>>], batch: Batch, step: Step) {
        let plan = self.backend.compile(ops, batch).unwrap();
        self.backend.compiled("test").await.unwrap();
        self.backend.run(&[&plan], step).unwrap();
        self.backend.settle("test").await.unwrap();
    }

    async fn check(&self, what: &str, tensor: &R::Tensor, layout: &Layout, want: &[Sum], terms: usize) {
        let got = self.backend.read_raw(tensor).await;
        let values: Vec<f64> = want.iter().map(|s| s.value).collect();
        let tolerances: Vec<f64> = want.iter().map(|s| tolerance(terms, s)).collect();
        assert_close(what, &got, layout, &values, &tolerances);
    }
}

fn as_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

fn step(pos: usize, count: usize, row: usize) -> Step {
    Step { pos: pos as u32, count: count as u32, row: row as u32, counter: 0 }
}

fn heads(heads: u32, kv_heads: u32, head_dim: u32, capacity: u32) -> HeadShape {
    let scale = (1.0 / f64::from(head_dim).sqrt()) as f32;
    let (cap, window, max_batch, kv) = (0.0, 0, 128, KvType::F32);
    HeadShape { heads, kv_heads, head_dim, scale, cap, window, max_batch, capacity, kv }
}

/// RMSNorm with this gain.
fn rms<B: Backend>(gain: &B::Vector) -> Norm<Of<'_, B>> {
    Norm { kind: NormKind::Rms, gain, bias: None, eps: EPS }
}

/// to = then(W · norm(x) + bias).
fn linear<'a, B: Backend>(
    x: &'a B::Tensor,
    norm: Option<&'a B::Vector>,
    weight: &'a B::Weight,
    bias: Option<&'a B::Vector>,
    then: Then<Of<'a, B>>,
    to: &'a B::Tensor,
) -> Op<Of<'a, B>> {
    Op::Linear {
        x,
        rows: Rows::Batch,
        norm: norm.map(|gain| rms::<B>(gain)),
        weight,
        bias,
        scale: 1.0,
        then,
        to,
    }
}
