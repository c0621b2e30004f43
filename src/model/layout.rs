//! The tensors of a file as an architecture declares them: each by name and shape, once. Allocating and loading read them
//! off the declaration. Nothing is ignored silently: a tensor that was not declared is an error that names it.

use std::cell::RefCell;
use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::formats::DType;
use crate::graph::{Backend, Segment};
use crate::weights::{Directory, TensorInfo};

use super::loader::Loader;

/// Finds tensors, checks their shapes and remembers which were declared.
pub(super) struct Layout<'a> {
    directory: &'a Directory,
    declared: RefCell<HashSet<&'a str>>,
}

impl<'a> Layout<'a> {
    pub(super) fn new(directory: &'a Directory) -> Self {
        Layout { directory, declared: RefCell::default() }
    }

    /// The tensor, if the file has it and it has exactly these dimensions (GGUF order: columns first).
    fn find(&self, name: &str, dims: &[u32]) -> Result<Option<&'a TensorInfo>> {
        let Some(tensor) = self.directory.find(name) else { return Ok(None) };
        let expected: Vec<u64> = dims.iter().map(|dim| u64::from(*dim)).collect();
        if tensor.dims != expected {
            return Err(Error::ShapeMismatch { what: name.to_owned(), found: tensor.dims.clone(), expected });
        }
        tensor.dtype()?;
        self.declared.borrow_mut().insert(&tensor.name);
        Ok(Some(tensor))
    }

    fn get(&self, name: &str, dims: &[u32]) -> Result<&'a TensorInfo> {
        let tensor = self.find(name, dims)?;
        tensor.ok_or_else(|| Error::MissingTensor { tensor: name.to_owned() })
    }

    /// A vector of floats.
    pub(super) fn vector(&self, name: &str, len: u32) -> Result<&'a TensorInfo> {
        self.get(name, &[len])
    }

    /// A vector that a file may leave out.
    pub(super) fn vector_if_any(&self, name: &str, len: u32) -> Result<Option<&'a TensorInfo>> {
        self.find(name, &[len])
    }

    /// A matrix without bias.
    pub(super) fn matrix(&self, name: &str, rows: u32, cols: u32) -> Result<Stack<'a>> {
        let part = Part { rows, weight: self.get(name, &[cols, rows])?, bias: None };
        Ok(Stack { label: name.to_owned(), cols, parts: vec![part] })
    }

    /// A matrix that a file may leave out.
    pub(super) fn matrix_if_any(&self, name: &str, rows: u32, cols: u32) -> Result<Option<Stack<'a>>> {
        if self.directory.find(name).is_none() {
            return Ok(None);
        }
        self.matrix(name, rows, cols).map(Some)
    }

    /// Matrices `NAME.weight` that are multiplied at once, by name and rows, each with its `NAME.bias` if the file has one.
    pub(super) fn stack(&self, label: String, names: &[(String, u32)], cols: u32) -> Result<Stack<'a>> {
        let part = |(name, rows): &(String, u32)| {
            let weight = self.get(&format!("{name}.weight"), &[cols, *rows])?;
            let bias = self.find(&format!("{name}.bias"), &[*rows])?;
            Ok(Part { rows: *rows, weight, bias })
        };
        Ok(Stack { label, cols, parts: names.iter().map(part).collect::<Result<_>>()? })
    }

    /// Every tensor of the file must have been declared.
    ///
    /// # Errors
    /// [`Error::UnsupportedModel`], which names the first that was not.
    pub(super) fn finish(&self) -> Result<()> {
        let declared = self.declared.borrow();
        match self.directory.tensors().iter().find(|tensor| !declared.contains(tensor.name.as_str())) {
            None => Ok(()),
            Some(tensor) => Err(Error::UnsupportedModel { what: format!("the tensor {}", tensor.name) }),
        }
    }
}

/// Matrices whose rows lie one after the other in one weight, and their biases.
pub(super) struct Stack<'a> {
    label: String,
    cols: u32,
    parts: Vec<Part<'a>>,
}

struct Part<'a> {
    rows: u32,
    weight: &'a TensorInfo,
    bias: Option<&'a TensorInfo>,
}

/// A [`Stack`] in a backend.
pub(super) struct Linear<B: Backend> {
    /// (rows, columns)
    pub weight: B::Weight,
    /// (rows), zero where a matrix has no bias; none if none has.
    pub bias: Option<B::Vector>,
}

impl<'a> Stack<'a> {
    /// (columns, rows)
    pub(super) fn size(&self) -> (u64, u64) {
        (u64::from(self.cols), self.parts.iter().map(|part| u64::from(part.rows)).sum())
    }

    /// The types of its matrices, each once.
    pub(super) fn dtypes(&self) -> Result<Vec<DType>> {
        let mut dtypes = Vec::new();
        for part in &self.parts {
            let dtype = part.weight.dtype()?;
            if !dtypes.contains(&dtype) {
                dtypes.push(dtype);
            }
        }
        Ok(dtypes)
    }

    /// Makes the weight and the bias, all zero. See [`Backend::weight`] for `pair_stride`.
    pub(super) fn allocate<B: Backend>(&self, backend: &mut B, pair_stride: u32) -> Result<Linear<B>> {
        let segment = |part: &Part<'_>| Ok(Segment { dtype: part.weight.dtype()?, rows: part.rows.into() });
        let segments: Vec<Segment> = self.parts.iter().map(segment).collect::<Result<_>>()?;
        let weight = backend.weight(&self.label, self.cols.into(), &segments, pair_stride)?;
        let bias = match self.parts.iter().any(|part| part.bias.is_some()) {
            true => Some(backend.vector(&self.label, self.parts.iter().map(|part| part.rows).sum())?),
            false => None,
        };
        Ok(Linear { weight, bias })
    }

    /// Says where its tensors go.
    pub(super) fn place<'b, B: Backend>(&self, loader: &mut Loader<'b, B>, linear: &'b Linear<B>)
    where
        'a: 'b,
    {
        let mut row = 0;
        for part in &self.parts {
            loader.rows(part.weight, &linear.weight, row.into());
            if let (Some(tensor), Some(bias)) = (part.bias, &linear.bias) {
                loader.vector(tensor, bias, row);
            }
            row += part.rows;
        }
    }
}
