//! The graph that a model writes. Each handle is written once; shapes are checked here, and nowhere else by a model.

use std::cell::RefCell;

use crate::error::{Error, Result};

use super::fuse::{Program, fuse};
use super::op::{Act, HeadNorm, Heads, Ids, Norm, NormKind, Rope};

/// Activations of the tokens of a batch, (T, cols).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct X {
    pub(super) id: u32,
    /// Columns.
    pub cols: u32,
}

/// A vector of `len` floats that a model declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct V {
    /// Its number among the vectors.
    pub id: u32,
    /// Its floats.
    pub len: u32,
}

/// The gain and the bias of a LayerNorm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerNorm {
    /// (C)
    pub gain: V,
    /// (C)
    pub bias: Option<V>,
}

/// A matrix (rows, cols) that a model declared, and its bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct W {
    /// Its number among the matrices.
    pub id: u32,
    /// Outputs.
    pub rows: u32,
    /// Inputs.
    pub cols: u32,
    /// (rows)
    pub bias: Option<V>,
}

/// What a layer remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct M {
    /// Its number among the memories.
    pub id: u32,
    /// The heads that it holds K and V of.
    pub heads: Heads,
}

/// An operation of a graph. Each makes one value.
pub(super) enum Node {
    Embed {
        table: W,
        scale: f32,
    },
    Positions {
        x: X,
        table: W,
    },
    Norm {
        x: X,
        norm: Norm<Ids>,
    },
    Linear {
        x: X,
        w: W,
    },
    HeadNorm {
        qkv: X,
        heads: Heads,
        norm: HeadNorm<Ids>,
    },
    Rope {
        qkv: X,
        heads: Heads,
        rope: Rope<Ids>,
    },
    Attend {
        qkv: X,
        memory: M,
    },
    Map {
        x: X,
        act: Act,
    },
    Gated {
        x: X,
        act: Act,
    },
    Add {
        a: X,
        b: X,
    },
    Scale {
        x: X,
        by: f32,
    },
    /// The rows whose logits are wanted: what comes behind is computed for these alone.
    Wanted {
        x: X,
    },
}

/// What a model computes.
#[derive(Default)]
pub struct Graph {
    nodes: RefCell<Vec<(Node, X)>>,
}

impl Graph {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Graph::default()
    }

    fn push(&self, node: Node, cols: u32) -> X {
        let mut nodes = self.nodes.borrow_mut();
        #[allow(clippy::cast_possible_truncation)] // a model has far fewer
        let x = X { id: nodes.len() as u32, cols };
        nodes.push((node, x));
        x
    }

    /// (T, C): the tokens' rows of the table, times a factor.
    pub fn embed(&self, table: W, scale: f32) -> X {
        self.push(Node::Embed { table, scale }, table.cols)
    }

    /// x + the rows of a table of learned positions.
    ///
    /// # Errors
    /// [`Error::Internal`] for another width; so for all that takes several operands.
    pub fn positions(&self, x: X, table: W) -> Result<X> {
        fits("positions", x.cols, table.cols)?;
        Ok(self.push(Node::Positions { x, table }, x.cols))
    }

    /// gain · x / rms(x).
    ///
    /// # Errors
    /// See [`Graph::positions`].
    pub fn rms_norm(&self, x: X, gain: V, eps: f32) -> Result<X> {
        fits("norm", x.cols, gain.len)?;
        let norm = Norm { kind: NormKind::Rms, gain: gain.id, bias: None, eps };
        Ok(self.push(Node::Norm { x, norm }, x.cols))
    }

    /// gain · (x − mean) / deviation + bias.
    ///
    /// # Errors
    /// See [`Graph::positions`].
    pub fn layer_norm(&self, x: X, LayerNorm { gain, bias }: LayerNorm, eps: f32) -> Result<X> {
        fits("norm", x.cols, gain.len)?;
        fits("norm", x.cols, bias.map_or(x.cols, |bias| bias.len))?;
        let norm = Norm { kind: NormKind::Layer, gain: gain.id, bias: bias.map(|bias| bias.id), eps };
        Ok(self.push(Node::Norm { x, norm }, x.cols))
    }

    /// W · x + bias, (T, rows).
    ///
    /// # Errors
    /// See [`Graph::positions`].
    pub fn linear(&self, x: X, w: W) -> Result<X> {
        fits("linear", x.cols, w.cols)?;
        Ok(self.push(Node::Linear { x, w }, w.rows))
    }

    /// Norms Q and K of `qkv` (T, H·D + 2·G·D); `gains` of each are a head long, or have a factor for every head.
    ///
    /// # Errors
    /// See [`Graph::positions`].
    pub fn head_norm(&self, qkv: X, heads: Heads, kind: NormKind, gains: [V; 2], eps: f32) -> Result<X> {
        self.norm_heads(qkv, heads, kind, gains, eps, false)
    }

    /// Norms all heads of Q together, and all of K.
    ///
    /// # Errors
    /// See [`Graph::positions`].
    pub fn norm_q_and_k(&self, qkv: X, heads: Heads, kind: NormKind, gains: [V; 2], eps: f32) -> Result<X> {
        self.norm_heads(qkv, heads, kind, gains, eps, true)
    }

    fn norm_heads(
        &self,
        qkv: X,
        heads: Heads,
        kind: NormKind,
        gains: [V; 2],
        eps: f32,
        together: bool,
    ) -> Result<X> {
        fits("norm of heads", qkv.cols, heads.qkv_width())?;
        let whole = gains.map(|gain| gain.len) == heads.rows();
        if !whole {
            fits("norm of heads", gains[0].len, heads.dim)?;
            fits("norm of heads", gains[1].len, heads.dim)?;
        }
        let gains = gains.map(|gain| gain.id);
        let norm = HeadNorm { kind, gains, gain_of_each_head: whole, together, eps };
        Ok(self.push(Node::HeadNorm { qkv, heads, norm }, qkv.cols))
    }

    /// Rotates Q and K by their positions.
    ///
    /// # Errors
    /// See [`Graph::positions`].
    pub fn rope(&self, qkv: X, heads: Heads, rope: &Rope<Ids>) -> Result<X> {
        fits("rope", qkv.cols, heads.qkv_width())?;
        Ok(self.push(Node::Rope { qkv, heads, rope: *rope }, qkv.cols))
    }

    /// Puts K and V into the memory; (T, H·D): attention over what it holds.
    ///
    /// # Errors
    /// See [`Graph::positions`].
    pub fn attend(&self, qkv: X, memory: M) -> Result<X> {
        fits("attend", qkv.cols, memory.heads.qkv_width())?;
        Ok(self.push(Node::Attend { qkv, memory }, memory.heads.rows()[0]))
    }

    /// act(x).
    pub fn map(&self, act: Act, x: X) -> X {
        self.push(Node::Map { x, act }, x.cols)
    }

    /// act(first half of x) ⊙ second half: the gate, then what is gated.
    ///
    /// # Errors
    /// [`Error::Internal`] for an odd width.
    pub fn gated(&self, act: Act, x: X) -> Result<X> {
        fits("gated", x.cols, x.cols / 2 * 2)?;
        Ok(self.push(Node::Gated { x, act }, x.cols / 2))
    }

    /// a + b.
    ///
    /// # Errors
    /// See [`Graph::positions`].
    pub fn add(&self, a: X, b: X) -> Result<X> {
        fits("add", a.cols, b.cols)?;
        Ok(self.push(Node::Add { a, b }, a.cols))
    }

    /// cap · tanh(x / cap); 0 is no cap.
    pub fn soft_cap(&self, x: X, cap: f32) -> X {
        if cap == 0.0 { x } else { self.map(Act::Cap(cap), x) }
    }

    /// x · factor.
    pub fn scale(&self, x: X, by: f32) -> X {
        self.push(Node::Scale { x, by }, x.cols)
    }

    /// The rows whose logits are wanted. What is made of them is computed for these alone; a graph has one such node,
    /// behind the last layer.
    pub fn wanted(&self, x: X) -> X {
        self.push(Node::Wanted { x }, x.cols)
    }

    /// The ops of the graph, whose result is `logits`.
    ///
    /// # Errors
    /// [`Error::Internal`] for a graph without [`Graph::wanted`], or with two.
    pub fn program(self, logits: X) -> Result<Program> {
        fuse(self.nodes.into_inner(), logits)
    }
}

fn fits(what: &str, found: u32, expected: u32) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Internal { what: format!("graph: {what}: {found} columns where {expected} are expected") })
}
