//! What a backend holds of a model: tensors, matrices, vectors and memories, by the ids of its program.

use crate::error::{Error, Result};
use crate::graph::{Backend, Batch, Bind, HeadShape, Ids, MatrixNeed, Needs, Of, Op, Rows, Segment};
use crate::weights::{ByteSource, TensorInfo};

use super::layout::{Content, Layout};
use super::loader::{Loader, Progress, read_vector};
use super::{Blueprint, Sizes};

/// Buffers by id. Those that no op asked for are not there.
pub(super) struct Allocated<B: Backend> {
    tensors: Vec<B::Tensor>,
    weights: Vec<Option<B::Weight>>,
    vectors: Vec<Option<B::Vector>>,
    memories: Vec<Option<B::Cache>>,
}

/// Which ids ops name.
#[derive(Default)]
struct Named {
    weights: Vec<u32>,
    vectors: Vec<u32>,
    memories: Vec<u32>,
}

impl Bind<Ids, Ids> for std::cell::RefCell<Named> {
    type Error = Error;
    fn tensor(&self, of: &u32) -> Result<u32> {
        Ok(*of)
    }
    fn weight(&self, of: &u32) -> Result<u32> {
        self.borrow_mut().weights.push(*of);
        Ok(*of)
    }
    fn vector(&self, of: &u32) -> Result<u32> {
        self.borrow_mut().vectors.push(*of);
        Ok(*of)
    }
    fn memory(&self, of: &u32) -> Result<u32> {
        self.borrow_mut().memories.push(*of);
        Ok(*of)
    }
}

fn absent(what: &str, id: u32) -> Error {
    Error::Internal { what: format!("{what} {id} of a model is not there") }
}

impl<'a, B: Backend> Bind<Ids, Of<'a, B>> for &'a Allocated<B> {
    type Error = Error;
    fn tensor(&self, of: &u32) -> Result<&'a B::Tensor> {
        self.tensor_of(*of)
    }
    fn weight(&self, of: &u32) -> Result<&'a B::Weight> {
        let weight = self.weights.get(*of as usize).and_then(Option::as_ref);
        weight.ok_or_else(|| absent("matrix", *of))
    }
    fn vector(&self, of: &u32) -> Result<&'a B::Vector> {
        let vector = self.vectors.get(*of as usize).and_then(Option::as_ref);
        vector.ok_or_else(|| absent("vector", *of))
    }
    fn memory(&self, of: &u32) -> Result<&'a B::Cache> {
        let memory = self.memories.get(*of as usize).and_then(Option::as_ref);
        memory.ok_or_else(|| absent("memory", *of))
    }
}

/// How much of the head a probe takes: all of it, none, or so many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadRows {
    /// All.
    All,
    /// The head's first rows, at most so many; 0 leaves the head out.
    Most(u32),
}

/// What lists of ops of the body, and the head, need.
pub(super) fn needs(
    Blueprint { layout, program }: &Blueprint<'_>,
    sizes: Sizes,
    lists: &[&[Op<Ids>]],
    head_rows: HeadRows,
) -> Result<Needs> {
    let vocabulary = layout.matrices.first().map_or(0, |embeddings| embeddings.rows());
    let head_rows = match head_rows {
        HeadRows::All => vocabulary,
        HeadRows::Most(most) => vocabulary.min(most.into()),
    };
    // What the head has for each token of the vocabulary, it has for fewer.
    let cut = |count: u64| if count == vocabulary { head_rows } else { count };
    let names = |lists: &[&[Op<Ids>]]| {
        let named = std::cell::RefCell::new(Named::default());
        lists.iter().copied().flatten().try_for_each(|op| op.bind::<Ids, _>(&named).map(drop))?;
        Ok::<_, Error>(named.into_inner())
    };
    let body = names(lists)?;
    let head: &[Op<Ids>] = if head_rows > 0 { &program.head } else { &[] };
    let head = names(&[head])?;
    // Of a table of embeddings rows are read, and the head is multiplied by a row for each token that is wanted.
    let by_batch = |op: &Op<Ids>, id: u32| matches!(op, Op::Linear { weight, .. } if *weight == id);
    let multiplied = |id: u32| lists.iter().copied().flatten().any(|op| by_batch(op, id));
    let mut needs = Needs::default();
    for (id, matrix) in (0..).zip(&layout.matrices) {
        let whole = body.weights.contains(&id);
        needs.weights.push(match whole || head.weights.contains(&id) {
            true => {
                let rows = |rows: u32| if whole { rows.into() } else { cut(rows.into()) };
                let segment =
                    |part: &(u32, &TensorInfo)| Ok(Segment { dtype: part.1.dtype()?, rows: rows(part.0) });
                Some(MatrixNeed {
                    label: matrix.label.clone(),
                    cols: matrix.cols.into(),
                    segments: matrix.parts.iter().map(segment).collect::<Result<_>>()?,
                    batch: if multiplied(id) { sizes.max_batch } else { 1 + sizes.draft_tokens },
                })
            }
            false => None,
        });
    }
    for (id, vector) in (0..).zip(&layout.vectors) {
        let len = match body.vectors.contains(&id) {
            true => Some(vector.len.into()),
            false => head.vectors.contains(&id).then(|| cut(vector.len.into())),
        };
        needs.vectors.push(len.map(|len| (vector.label.clone(), narrow(len))));
    }
    for (id, memory) in (0..).zip(&layout.memories) {
        let asked = body.memories.contains(&id);
        needs.memories.push(asked.then(|| (memory.label.clone(), memory.shape)));
    }
    for shape in &program.tensors {
        needs.tensors.push(match shape.rows {
            Rows::Batch => (sizes.max_batch, shape.cols),
            // The logits of a model are wide.
            Rows::Wanted if head_rows == 0 => (1, 1),
            Rows::Wanted => (1 + sizes.draft_tokens, narrow(cut(shape.cols.into()))),
        });
    }
    Ok(needs)
}

/// A count that came of 32 bits.
fn narrow(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl<B: Backend> Allocated<B> {
    /// Makes what is needed, all zero.
    pub(super) fn of(backend: &mut B, needs: &Needs) -> Result<Self> {
        let weights = needs.weights.iter().map(|need| {
            let weight = |need: &MatrixNeed| backend.weight(&need.label, need.cols, &need.segments);
            need.as_ref().map(weight).transpose()
        });
        let weights = weights.collect::<Result<_>>()?;
        let vector = |need: &Option<(String, u32)>| {
            need.as_ref().map(|(label, len)| backend.vector(label, *len)).transpose()
        };
        let vectors = needs.vectors.iter().map(vector).collect::<Result<_>>()?;
        let memory = |need: &Option<(String, HeadShape)>| {
            need.as_ref().map(|(label, shape)| backend.cache(label, *shape)).transpose()
        };
        let memories = needs.memories.iter().map(memory).collect::<Result<_>>()?;
        let tensor =
            |(id, (rows, cols)): (usize, &(u32, u32))| backend.tensor(&format!("t{id}"), *rows, *cols);
        let tensors = needs.tensors.iter().enumerate().map(tensor).collect::<Result<_>>()?;
        Ok(Allocated { tensors, weights, vectors, memories })
    }

    /// The matrices by id.
    pub(super) fn weights(&self) -> &[Option<B::Weight>] {
        &self.weights
    }

    pub(super) fn tensor_of(&self, id: u32) -> Result<&B::Tensor> {
        self.tensors.get(id as usize).ok_or_else(|| absent("tensor", id))
    }

    /// A plan of lists of ops, one after the other.
    pub(super) fn compile(&self, backend: &mut B, lists: &[&[Op<Ids>]], batch: Batch) -> Result<B::Plan> {
        let ops: Vec<Op<Of<'_, B>>> =
            lists.iter().flat_map(|ops| ops.iter()).map(|op| op.bind(&self)).collect::<Result<_>>()?;
        backend.compile(&ops, batch)
    }

    /// Reads everything that the file has.
    pub(super) async fn fill(
        &self,
        backend: &mut B,
        layout: &Layout<'_>,
        sources: &mut [Box<dyn ByteSource>],
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<()> {
        let mut loader = Loader::new();
        for (declared, weight) in layout.matrices.iter().zip(&self.weights) {
            let Some(weight) = weight else { continue };
            let mut row = 0;
            for (rows, tensor) in &declared.parts {
                loader.rows(tensor, weight, row);
                row += u64::from(*rows);
            }
        }
        for (declared, vector) in layout.vectors.iter().zip(&self.vectors) {
            let Some(vector) = vector else { continue };
            match &declared.content {
                Content::Tensors(tensors) => {
                    tensors.iter().for_each(|(at, tensor)| loader.vector(tensor, vector, *at));
                }
                Content::Rope(table, divisors) => {
                    let divisors = match divisors {
                        Some(tensor) => Some((tensor.name.as_str(), read_vector(sources, tensor).await?)),
                        None => None,
                    };
                    for (at, turns) in table.pieces(declared.len / table.dim, divisors)? {
                        backend.upload_vector(vector, at, &turns);
                    }
                }
            }
        }
        loader.run(backend, sources, progress).await
    }
}
