//! Nodes → ops. What follows a product is done with it: an RMSNorm in front; behind it a factor, an activation, a gate,
//! the rotation of Q and K, or the addition to the residual stream. What cannot be folded stays an op of its own:
//! folding makes a model faster and is never a condition of it.

use std::fmt::Write as _;

use crate::error::{Error, Result};

use super::graph::{Node, X};
use super::op::{Each, Ids, Norm, NormKind, Op, Rows, Then};

/// The shape of a tensor of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorShape {
    /// Columns.
    pub cols: u32,
    /// Which rows it has: those of a batch, or those whose logits are wanted.
    pub rows: Rows,
}

/// What a graph became.
pub struct Program {
    /// The tensors that ops name.
    pub tensors: Vec<TensorShape>,
    /// From the tokens to the last layer, for all tokens of a batch.
    pub body: Vec<Op<Ids>>,
    /// From there to the logits, for the rows whose logits are wanted.
    pub head: Vec<Op<Ids>>,
    /// The tensor of the logits.
    pub logits: u32,
}

/// A buffer during fusing: whose value it holds, and whether it may be taken for another.
struct Buffers {
    shapes: Vec<TensorShape>,
    free: Vec<u32>,
}

impl Buffers {
    fn take(&mut self, cols: u32, rows: Rows) -> u32 {
        let wanted = TensorShape { cols, rows };
        let same = |id: &u32| self.shapes.get(*id as usize) == Some(&wanted);
        if let Some(at) = self.free.iter().position(same) {
            return self.free.swap_remove(at);
        }
        self.shapes.push(wanted);
        #[allow(clippy::cast_possible_truncation)] // a model has far fewer
        let id = self.shapes.len() as u32 - 1;
        id
    }
}

/// The pass over the nodes.
struct Fusing {
    nodes: Vec<Option<Node>>,
    columns: Vec<u32>,
    /// Nodes that read each node's value.
    readers: Vec<Vec<usize>>,
    /// Whether the op that carries a node out has been made.
    done: Vec<bool>,
    /// Where each node's value is.
    buffer: Vec<Option<u32>>,
    buffers: Buffers,
    ops: Vec<Op<Ids>>,
    /// Which rows the values of ops have from here on.
    rows: Rows,
    /// The node [`Node::Wanted`], and what it reads.
    wanted: Option<(usize, usize)>,
}

fn inputs(node: &Node) -> Vec<X> {
    match node {
        Node::Embed { .. } => vec![],
        Node::Positions { x, .. }
        | Node::Norm { x, .. }
        | Node::Linear { x, .. }
        | Node::HeadNorm { qkv: x, .. }
        | Node::Rope { qkv: x, .. }
        | Node::Attend { qkv: x, .. }
        | Node::Map { x, .. }
        | Node::Gated { x, .. }
        | Node::Scale { x, .. }
        | Node::Wanted { x } => vec![*x],
        Node::Add { a, b } => vec![*a, *b],
    }
}

fn wrong(what: &str) -> Error {
    Error::Internal { what: format!("graph: {what}") }
}

pub(super) fn fuse(nodes: Vec<(Node, X)>, logits: X) -> Result<Program> {
    let mut readers = vec![Vec::new(); nodes.len()];
    for (at, (node, _)) in nodes.iter().enumerate() {
        for x in inputs(node) {
            readers[x.id as usize].push(at);
        }
    }
    let columns = nodes.iter().map(|(_, x)| x.cols).collect();
    let count = nodes.len();
    let mut fusing = Fusing {
        nodes: nodes.into_iter().map(|(node, _)| Some(node)).collect(),
        columns,
        readers,
        done: vec![false; count],
        buffer: vec![None; count],
        buffers: Buffers { shapes: Vec::new(), free: Vec::new() },
        ops: Vec::new(),
        rows: Rows::Batch,
        wanted: None,
    };
    let mut body = Vec::new();
    for at in 0..count {
        if fusing.done[at] {
            continue;
        }
        if let Some(Node::Wanted { x }) = fusing.nodes[at] {
            if fusing.wanted.is_some() {
                return Err(wrong("two nodes of wanted rows"));
            }
            fusing.wanted = Some((at, x.id as usize));
            fusing.buffer[at] = fusing.buffer[x.id as usize];
            fusing.done[at] = true;
            fusing.rows = Rows::Wanted;
            body = std::mem::take(&mut fusing.ops);
            continue;
        }
        fusing.node(at)?;
    }
    if fusing.wanted.is_none() {
        return Err(wrong("no node of wanted rows"));
    }
    let logits = fusing.at(logits.id as usize)?;
    Ok(Program { tensors: fusing.buffers.shapes, body, head: fusing.ops, logits })
}

impl Fusing {
    /// Where a value is.
    fn at(&self, node: usize) -> Result<u32> {
        self.buffer[node].ok_or_else(|| wrong("a value is read before it is made"))
    }

    /// Which rows of its buffer a value has, as seen from here.
    fn rows_of(&self, node: usize) -> Rows {
        if self.wanted.is_some_and(|(wanted, _)| wanted == node) { Rows::Wanted } else { Rows::Batch }
    }

    /// Where a new value goes.
    fn make(&mut self, node: usize) -> u32 {
        let id = self.buffers.take(self.columns[node], self.rows);
        self.buffer[node] = Some(id);
        id
    }

    /// Marks a node as carried out, and frees the buffers that nothing reads any more.
    fn finish(&mut self, node: usize, read: &[usize]) {
        self.done[node] = true;
        let kept = self.buffer[node];
        for &value in read {
            let over = self.readers[value].iter().all(|reader| self.done[*reader]);
            let Some(id) = self.buffer[value] else { continue };
            // The rows that the head reads are read by every plan of it; and an op may work in place.
            let held = self.wanted.is_some_and(|(_, of)| self.buffer[of] == Some(id)) || kept == Some(id);
            if over && !held && !self.buffers.free.contains(&id) {
                self.buffers.free.push(id);
            }
        }
    }

    /// The only reader of a value, if it has one that is not carried out yet.
    fn only_reader(&self, node: usize) -> Option<usize> {
        match self.readers[node].as_slice() {
            [reader] if !self.done[*reader] => Some(*reader),
            _ => None,
        }
    }

    /// Whether an RMSNorm is folded into the product that reads it.
    fn folds(&self, norm: &Norm<Ids>, node: usize) -> bool {
        let reader = self.only_reader(node).and_then(|reader| self.nodes[reader].as_ref());
        norm.kind == NormKind::Rms && norm.bias.is_none() && matches!(reader, Some(Node::Linear { .. }))
    }

    /// If the only reader of `node` adds it to a value that nothing else reads from here on: that addition, and the
    /// value.
    fn added_to(&self, node: usize) -> Option<(usize, usize)> {
        let reader = self.only_reader(node)?;
        let Some(Node::Add { a, b }) = &self.nodes[reader] else { return None };
        let (a, b) = (a.id as usize, b.id as usize);
        let other = if a == node { b } else { a };
        let last = self.readers[other].iter().all(|r| *r == reader || self.done[*r]);
        let there = self.buffer[other].is_some() && self.done[other] && self.rows_of(other) == Rows::Batch;
        (a != b && last && there).then_some((reader, other))
    }

    fn node(&mut self, at: usize) -> Result<()> {
        let node = self.nodes[at].take().ok_or_else(|| wrong("a node twice"))?;
        match node {
            Node::Embed { table, scale } => {
                let to = self.make(at);
                self.ops.push(Op::Embed { table: table.id, scale, to });
                self.finish(at, &[]);
            }
            Node::Positions { x, table } => {
                let from = x.id as usize;
                if self.readers[from].len() > 1 {
                    return Err(wrong("positions are added in place"));
                }
                let to = self.at(from)?;
                self.buffer[at] = Some(to);
                self.ops.push(Op::Positions { table: table.id, to });
                self.finish(at, &[from]);
            }
            Node::Norm { x, norm } => {
                if self.folds(&norm, at) {
                    // The product takes it.
                    self.nodes[at] = Some(Node::Norm { x, norm });
                    return Ok(());
                }
                let from = x.id as usize;
                let (value, add, to) = match self.added_to(at) {
                    Some((sum, other)) => (sum, true, self.at(other)?),
                    None => (at, false, self.make(at)),
                };
                self.buffer[value] = Some(to);
                self.ops.push(Op::Norm { x: self.at(from)?, rows: self.rows_of(from), norm, add, to });
                self.done[at] = true;
                self.finish(value, &[from]);
            }
            Node::Linear { x, w } => self.linear(at, x.id as usize, w)?,
            Node::HeadNorm { qkv, heads, norm } => {
                let from = qkv.id as usize;
                let to = self.at(from)?;
                let rope = match self.only_reader(at).map(|reader| (reader, self.nodes[reader].take())) {
                    Some((reader, Some(Node::Rope { rope, .. }))) => Some((reader, rope)),
                    Some((reader, node)) => {
                        self.nodes[reader] = node;
                        None
                    }
                    None => None,
                };
                let value = rope.as_ref().map_or(at, |(reader, _)| *reader);
                let rope = rope.map(|(_, rope)| rope);
                self.ops.push(Op::Heads { qkv: to, heads, norm: Some(norm), rope });
                self.in_place(at, value, from, to)?;
            }
            Node::Rope { qkv, heads, rope } => {
                let from = qkv.id as usize;
                let to = self.at(from)?;
                self.ops.push(Op::Heads { qkv: to, heads, norm: None, rope: Some(rope) });
                self.in_place(at, at, from, to)?;
            }
            Node::Attend { qkv, memory } => {
                let from = qkv.id as usize;
                let to = self.make(at);
                self.ops.push(Op::Attend { qkv: self.at(from)?, memory: memory.id, to });
                self.finish(at, &[from]);
            }
            Node::Map { x, act } => self.each(at, Each::Map(act), &[x])?,
            Node::Gated { x, act } => self.each(at, Each::Gated(act), &[x])?,
            Node::Scale { x, by } => self.each(at, Each::Scale(by), &[x])?,
            Node::Add { a, b } => self.each(at, Each::Add, &[a, b])?,
            Node::Wanted { .. } => return Err(wrong("wanted rows twice")),
        }
        Ok(())
    }

    /// An op that changed `from` where it is: nothing else may read what was there.
    fn in_place(&mut self, at: usize, value: usize, from: usize, to: u32) -> Result<()> {
        if self.readers[from].len() > 1 {
            return Err(wrong("Q and K are changed in place, but read elsewhere too"));
        }
        self.done[at] = true;
        self.buffer[at] = Some(to);
        self.buffer[value] = Some(to);
        self.finish(value, &[from]);
        Ok(())
    }

    fn each(&mut self, at: usize, what: Each, read: &[X]) -> Result<()> {
        let read: Vec<usize> = read.iter().map(|x| x.id as usize).collect();
        if read.iter().any(|node| self.rows_of(*node) == Rows::Wanted) {
            return Err(wrong("wanted rows go through a norm or a product first"));
        }
        let to = self.make(at);
        let mut operands = Vec::new();
        for &node in &read {
            operands.push(self.at(node)?);
        }
        let b = operands.get(1).copied();
        self.ops.push(Op::Each { what, a: operands[0], b, to });
        self.finish(at, &read);
        Ok(())
    }

    fn linear(&mut self, at: usize, x: usize, w: super::W) -> Result<()> {
        let mut from = x;
        let mut norm = None;
        let mut read = vec![x];
        if !self.done[x] {
            // An RMSNorm that waited for this product.
            if let Some(Node::Norm { x: before, norm: folded }) = self.nodes[x].take() {
                from = before.id as usize;
                norm = Some(folded);
                self.done[x] = true;
                read = vec![from];
            }
        }
        self.done[at] = true;
        let (mut value, mut scale, mut then) = (at, 1.0, Then::Store);
        let mut sum = None;
        while let Some(reader) = self.only_reader(value) {
            let folds = match &self.nodes[reader] {
                Some(Node::Scale { .. }) => true,
                Some(Node::Map { .. } | Node::Gated { .. } | Node::Rope { .. }) => scale == 1.0,
                _ => false,
            };
            if !folds {
                sum = self.added_to(value);
                break;
            }
            match self.nodes[reader].take() {
                Some(Node::Scale { by, .. }) => scale *= by,
                Some(Node::Map { act, .. }) => then = Then::Map(act),
                Some(Node::Gated { act, .. }) => then = Then::Gated(act),
                Some(Node::Rope { heads, rope, .. }) => then = Then::Rotate(heads, rope),
                _ => return Err(wrong("a fold that is none")),
            }
            value = reader;
            self.done[value] = true;
            if !matches!(then, Then::Store) {
                break;
            }
        }
        let to = match sum {
            Some((reader, other)) => {
                value = reader;
                then = Then::Add;
                self.at(other)?
            }
            None => self.make(value),
        };
        self.buffer[value] = Some(to);
        let (x, rows) = (self.at(from)?, self.rows_of(from));
        let (weight, bias) = (w.id, w.bias.map(|bias| bias.id));
        self.ops.push(Op::Linear { x, rows, norm, weight, bias, scale, then, to });
        self.finish(value, &read);
        Ok(())
    }
}

impl Program {
    /// The ops as text, a line each, by the names of matrices, vectors and memories. For tests and for people.
    pub fn text(&self, weights: &[String], vectors: &[String], memories: &[String]) -> String {
        let name = |names: &[String], id: u32| names.get(id as usize).cloned().unwrap_or_default();
        let (w, v) = (|id: &u32| name(weights, *id), |id: &u32| name(vectors, *id));
        let mut text = String::new();
        for (title, ops) in [("body", &self.body), ("head", &self.head)] {
            let _ = writeln!(text, "{title}:");
            for op in ops {
                text.push_str("  ");
                let _ = match op {
                    Op::Embed { table, scale, to } => writeln!(text, "t{to} = embed {} · {scale}", w(table)),
                    Op::Positions { table, to } => writeln!(text, "t{to} += positions {}", w(table)),
                    Op::Linear { x, rows, norm, weight, bias, scale, then, to } => {
                        let wanted = if *rows == Rows::Wanted { "[wanted]" } else { "" };
                        let x = match norm {
                            Some(norm) => format!("rms(t{x}{wanted}, {})", v(&norm.gain)),
                            None => format!("t{x}{wanted}"),
                        };
                        let bias = bias.as_ref().map_or(String::new(), |b| format!(" + {} bias", v(b)));
                        let scale = if *scale == 1.0 { String::new() } else { format!(" · {scale}") };
                        let y = format!("{} {x}{bias}{scale}", w(weight));
                        match then {
                            Then::Store => writeln!(text, "t{to} = {y}"),
                            Then::Add => writeln!(text, "t{to} += {y}"),
                            Then::Map(act) => writeln!(text, "t{to} = {act:?} {y}"),
                            Then::Gated(act) => writeln!(text, "t{to} = gated {act:?} {y}"),
                            Then::Rotate(_, rope) => {
                                writeln!(
                                    text,
                                    "t{to} = rope {:?} {} {} {y}",
                                    rope.pairs,
                                    rope.dim,
                                    v(&rope.table)
                                )
                            }
                        }
                    }
                    Op::Norm { x, rows, norm, add, to } => {
                        let wanted = if *rows == Rows::Wanted { "[wanted]" } else { "" };
                        let is = if *add { "+=" } else { "=" };
                        writeln!(text, "t{to} {is} {:?} norm(t{x}{wanted}, {})", norm.kind, v(&norm.gain))
                    }
                    Op::Heads { qkv, norm, rope, .. } => {
                        let norm = norm.as_ref().map_or(String::new(), |norm| {
                            let all = if norm.together { " together" } else { "" };
                            format!(" {:?} norm{all} {} {}", norm.kind, v(&norm.gains[0]), v(&norm.gains[1]))
                        });
                        let rope = rope.as_ref().map_or(String::new(), |rope| {
                            format!(" rope {:?} {} {}", rope.pairs, rope.dim, v(&rope.table))
                        });
                        writeln!(text, "t{qkv} = heads{norm}{rope}")
                    }
                    Op::Attend { qkv, memory, to } => {
                        writeln!(text, "t{to} = attend t{qkv} {}", name(memories, *memory))
                    }
                    Op::Each { what, a, b, to } => match b {
                        Some(b) => writeln!(text, "t{to} = {what:?} t{a} t{b}"),
                        None => writeln!(text, "t{to} = {what:?} t{a}"),
                    },
                    Op::Sample { logits, .. } => writeln!(text, "sample t{logits}"),
                };
            }
        }
        text
    }
}
