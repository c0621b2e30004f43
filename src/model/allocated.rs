//! What a backend holds of a model: tensors, matrices, vectors and memories, by the ids of its program.

use crate::error::{Error, Result};
use crate::graph::{Backend, Batch, Bind, Ids, Of, Op, Rows, Segment};
use crate::weights::ByteSource;

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

impl<B: Backend> Allocated<B> {
    /// Makes what `ops` and the head of the program need, all zero. The head is left out where `ops` are not the whole
    /// body.
    pub(super) fn of(
        backend: &mut B,
        Blueprint { layout, program }: &Blueprint<'_>,
        sizes: Sizes,
        ops: &[Op<Ids>],
    ) -> Result<Self> {
        let named = std::cell::RefCell::new(Named::default());
        let whole = ops.len() == program.body.len();
        let head: &[Op<Ids>] = if whole { &program.head } else { &[] };
        for op in ops.iter().chain(head) {
            op.bind::<Ids, _>(&named)?;
        }
        let named = named.into_inner();
        let mut allocated =
            Allocated { tensors: Vec::new(), weights: Vec::new(), vectors: Vec::new(), memories: Vec::new() };
        for (id, matrix) in (0..).zip(&layout.matrices) {
            let segment = |part: &(u32, &crate::weights::TensorInfo)| {
                Ok(Segment { dtype: part.1.dtype()?, rows: part.0.into() })
            };
            allocated.weights.push(match named.weights.contains(&id) {
                true => {
                    let segments: Vec<Segment> = matrix.parts.iter().map(segment).collect::<Result<_>>()?;
                    Some(backend.weight(&matrix.label, matrix.cols.into(), &segments)?)
                }
                false => None,
            });
        }
        for (id, vector) in (0..).zip(&layout.vectors) {
            allocated.vectors.push(match named.vectors.contains(&id) {
                true => Some(backend.vector(&vector.label, vector.len)?),
                false => None,
            });
        }
        for (id, memory) in (0..).zip(&layout.memories) {
            allocated.memories.push(match named.memories.contains(&id) {
                true => Some(backend.cache(&memory.label, memory.shape)?),
                false => None,
            });
        }
        for (id, shape) in program.tensors.iter().enumerate() {
            let rows = match shape.rows {
                Rows::Batch => sizes.max_batch,
                Rows::Wanted if whole => 1 + sizes.draft_tokens,
                Rows::Wanted => 1,
            };
            // The logits of a model are wide.
            let cols = if whole || shape.rows == Rows::Batch { shape.cols } else { 1 };
            allocated.tensors.push(backend.tensor(&format!("t{id}"), rows, cols)?);
        }
        Ok(allocated)
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
