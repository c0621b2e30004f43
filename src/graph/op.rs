//! Ops: what a plan is made of, and what both backends carry out. `fuse.rs` makes them of a graph's nodes.
//!
//! Letters in shapes: `T` tokens of a batch, `C` model width, `H` query heads, `G` KV heads, `D` head size, `F`
//! feed-forward width, `V` vocabulary.

use super::backend::Backend;

/// What the operands of an op are: ids in a [`Program`](super::Program), or what a backend made for them.
pub trait Operands {
    /// Activations, (rows, columns) f32.
    type Tensor;
    /// A matrix.
    type Weight;
    /// A vector of f32.
    type Vector;
    /// What a layer remembers of earlier tokens.
    type Memory;
}

/// Ids: indices into what a model declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {}

impl Operands for Ids {
    type Tensor = u32;
    type Weight = u32;
    type Vector = u32;
    type Memory = u32;
}

/// A backend's own, borrowed.
pub struct Of<'a, B>(std::marker::PhantomData<&'a B>);

impl<'a, B: Backend> Operands for Of<'a, B> {
    type Tensor = &'a B::Tensor;
    type Weight = &'a B::Weight;
    type Vector = &'a B::Vector;
    type Memory = &'a B::Cache;
}

/// A function of single values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Act {
    /// x / (1 + e^-x)
    Silu,
    /// The Gaussian error linear unit by tanh: x / (1 + e^-2u), u = √(2/π) (x + 0.044715 x³). Hendrycks and Gimpel, 2016.
    Gelu,
    /// c tanh(x / c): Gemma 2's soft cap.
    Cap(f32),
}

/// What a norm divides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// The root of the mean square. Zhang and Sennrich, 2019.
    Rms,
    /// The standard deviation, with the mean subtracted. Ba et al., 2016.
    Layer,
}

/// A norm of rows: gain · (x / size) + bias.
pub struct Norm<O: Operands> {
    /// What is divided by.
    pub kind: NormKind,
    /// (C)
    pub gain: O::Vector,
    /// (C)
    pub bias: Option<O::Vector>,
    /// Added to the mean square or the variance.
    pub eps: f32,
}

/// The heads of an attention layer. Its Q, K and V are one tensor (T, H·D + 2·G·D).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads `H`.
    pub heads: u32,
    /// KV heads `G`; divides `H`.
    pub kv_heads: u32,
    /// Head size `D`.
    pub dim: u32,
}

impl Heads {
    /// Elements of a token's Q, and of its K.
    #[must_use]
    pub fn rows(self) -> [u32; 2] {
        [self.heads * self.dim, self.kv_heads * self.dim]
    }

    /// Elements of a token's Q, K and V.
    #[must_use]
    pub fn qkv_width(self) -> u32 {
        (self.heads + 2 * self.kv_heads) * self.dim
    }
}

/// Norms of a token's Q and K.
pub struct HeadNorm<O: Operands> {
    /// What is divided by.
    pub kind: NormKind,
    /// Of Q and of K: (D), the same for every head, or (H·D) and (G·D).
    pub gains: [O::Vector; 2],
    /// Whether a gain has a factor for every head.
    pub gain_of_each_head: bool,
    /// Whether all heads of Q, and all of K, are normed together, instead of each head by itself.
    pub together: bool,
    /// Added to the mean square or the variance.
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

/// The rotation of Q and K by their position. Su et al., "RoFormer", 2021.
pub struct Rope<O: Operands> {
    /// (positions, R/2) of (cos, sin).
    pub table: O::Vector,
    /// `R`, elements of a head that are rotated.
    pub dim: u32,
    /// How they pair up.
    pub pairs: RopePairs,
}

/// Which rows of its input an op reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Those of the batch.
    Batch,
    /// Those whose logits are wanted: of one token row `step.row`, of a few all.
    Wanted,
}

/// What a linear op does with y = scale · (W · x + bias).
pub enum Then<O: Operands> {
    /// to = y
    Store,
    /// to += y
    Add,
    /// to = act(y)
    Map(Act),
    /// to = act(first half of y) ⊙ second half
    Gated(Act),
    /// to = y, whose Q and K are rotated
    Rotate(Heads, Rope<O>),
}

/// A function of whole tensors, element by element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Each {
    /// a + b
    Add,
    /// act(a)
    Map(Act),
    /// act(first half of a) ⊙ second half
    Gated(Act),
    /// a · factor
    Scale(f32),
}

/// One operation.
pub enum Op<O: Operands> {
    /// to (T, C) = scale · the tokens' rows of the table.
    Embed {
        /// (V, C)
        table: O::Weight,
        /// A factor.
        scale: f32,
        /// (T, C)
        to: O::Tensor,
    },
    /// to (T, C) += rows of a table of learned positions.
    Positions {
        /// (positions, C)
        table: O::Weight,
        /// (T, C)
        to: O::Tensor,
    },
    /// A product with what comes before and behind it.
    Linear {
        /// (T, C)
        x: O::Tensor,
        /// Which rows of x.
        rows: Rows,
        /// Of kind [`NormKind::Rms`] and without bias: applied to x first.
        norm: Option<Norm<O>>,
        /// (rows, C)
        weight: O::Weight,
        /// (rows)
        bias: Option<O::Vector>,
        /// A factor.
        scale: f32,
        /// What is done with the result.
        then: Then<O>,
        /// (T, rows), or with [`Then::Gated`] (T, rows / 2)
        to: O::Tensor,
    },
    /// to = norm(x), or to += norm(x).
    Norm {
        /// (T, C)
        x: O::Tensor,
        /// Which rows of x.
        rows: Rows,
        /// How.
        norm: Norm<O>,
        /// Whether it is added.
        add: bool,
        /// (T, C)
        to: O::Tensor,
    },
    /// Norms Q and K, then rotates them, in place.
    Heads {
        /// (T, H·D + 2·G·D)
        qkv: O::Tensor,
        /// Its heads.
        heads: Heads,
        /// How they are normed.
        norm: Option<HeadNorm<O>>,
        /// How they are rotated.
        rope: Option<Rope<O>>,
    },
    /// Puts K and V into the memory; to = attention over what it holds.
    Attend {
        /// (T, H·D + 2·G·D)
        qkv: O::Tensor,
        /// K and V of earlier tokens.
        memory: O::Memory,
        /// (T, H·D)
        to: O::Tensor,
    },
    /// to = what(a, b).
    Each {
        /// The function.
        what: Each,
        /// (T, C)
        a: O::Tensor,
        /// (T, C), where the function has two arguments.
        b: Option<O::Tensor>,
        /// (T, C), or half as wide.
        to: O::Tensor,
    },
    /// Draws a token from the logits as [`Backend::set_sampling`] said. With `adjust`, logit bias and penalties are
    /// applied to the logits first, in place. With [`Batch::Verify`](super::Batch::Verify), which cannot adjust (a penalty
    /// waits for the token before), row `t` draws token `step.counter + t`.
    Sample {
        /// (T, V)
        logits: O::Tensor,
        /// Whether they are adjusted.
        adjust: bool,
    },
}

/// Turns the operands of one kind into those of another.
pub trait Bind<O: Operands, P: Operands> {
    /// What goes wrong.
    type Error;
    /// Activations.
    fn tensor(&self, of: &O::Tensor) -> Result<P::Tensor, Self::Error>;
    /// A matrix.
    fn weight(&self, of: &O::Weight) -> Result<P::Weight, Self::Error>;
    /// A vector.
    fn vector(&self, of: &O::Vector) -> Result<P::Vector, Self::Error>;
    /// A memory.
    fn memory(&self, of: &O::Memory) -> Result<P::Memory, Self::Error>;
}

impl<O: Operands> Norm<O> {
    fn bind<P: Operands, T: Bind<O, P>>(&self, to: &T) -> Result<Norm<P>, T::Error> {
        let bias = self.bias.as_ref().map(|bias| to.vector(bias)).transpose()?;
        Ok(Norm { kind: self.kind, gain: to.vector(&self.gain)?, bias, eps: self.eps })
    }
}

impl Clone for Rope<Ids> {
    fn clone(&self) -> Self {
        *self
    }
}

impl Copy for Rope<Ids> {}

impl<O: Operands> Rope<O> {
    fn bind<P: Operands, T: Bind<O, P>>(&self, to: &T) -> Result<Rope<P>, T::Error> {
        Ok(Rope { table: to.vector(&self.table)?, dim: self.dim, pairs: self.pairs })
    }
}

impl<O: Operands> Op<O> {
    /// The same op with other operands.
    ///
    /// # Errors
    /// Those of `by`.
    pub fn bind<P: Operands, T: Bind<O, P>>(&self, by: &T) -> Result<Op<P>, T::Error> {
        Ok(match self {
            Op::Embed { table, scale, to } => {
                Op::Embed { table: by.weight(table)?, scale: *scale, to: by.tensor(to)? }
            }
            Op::Positions { table, to } => Op::Positions { table: by.weight(table)?, to: by.tensor(to)? },
            Op::Linear { x, rows, norm, weight, bias, scale, then, to } => Op::Linear {
                x: by.tensor(x)?,
                rows: *rows,
                norm: norm.as_ref().map(|norm| norm.bind(by)).transpose()?,
                weight: by.weight(weight)?,
                bias: bias.as_ref().map(|bias| by.vector(bias)).transpose()?,
                scale: *scale,
                then: match then {
                    Then::Store => Then::Store,
                    Then::Add => Then::Add,
                    Then::Map(act) => Then::Map(*act),
                    Then::Gated(act) => Then::Gated(*act),
                    Then::Rotate(heads, rope) => Then::Rotate(*heads, rope.bind(by)?),
                },
                to: by.tensor(to)?,
            },
            Op::Norm { x, rows, norm, add, to } => Op::Norm {
                x: by.tensor(x)?,
                rows: *rows,
                norm: norm.bind(by)?,
                add: *add,
                to: by.tensor(to)?,
            },
            Op::Heads { qkv, heads, norm, rope } => {
                let norm = match norm {
                    Some(HeadNorm { kind, gains: [q, k], gain_of_each_head, together, eps }) => {
                        Some(HeadNorm {
                            kind: *kind,
                            gains: [by.vector(q)?, by.vector(k)?],
                            gain_of_each_head: *gain_of_each_head,
                            together: *together,
                            eps: *eps,
                        })
                    }
                    None => None,
                };
                let rope = rope.as_ref().map(|rope| rope.bind(by)).transpose()?;
                Op::Heads { qkv: by.tensor(qkv)?, heads: *heads, norm, rope }
            }
            Op::Attend { qkv, memory, to } => {
                Op::Attend { qkv: by.tensor(qkv)?, memory: by.memory(memory)?, to: by.tensor(to)? }
            }
            Op::Each { what, a, b, to } => {
                let b = b.as_ref().map(|b| by.tensor(b)).transpose()?;
                Op::Each { what: *what, a: by.tensor(a)?, b, to: by.tensor(to)? }
            }
            Op::Sample { logits, adjust } => Op::Sample { logits: by.tensor(logits)?, adjust: *adjust },
        })
    }
}
