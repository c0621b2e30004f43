//! The tensors of a file as an architecture declares them: each by name and shape, once. Allocation, loading, the list
//! of matrices and the facts are read off the declaration. Nothing is ignored silently: a tensor that was not declared
//! is an error that names it.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::formats::DType;
use crate::graph::{HeadShape, Heads, Ids, LayerNorm, M, Rope, V, W};
use crate::weights::{Directory, TensorInfo};

use super::Sizes;
use super::rope::RopeTable;

/// Most tokens of a vocabulary, far above any model that fits a browser.
const MAX_VOCAB: u32 = 1 << 22;

/// What an architecture declares.
pub(super) struct Layout<'a> {
    directory: &'a Directory,
    sizes: Sizes,
    declared: HashSet<&'a str>,
    /// In front of every name: that of the layer.
    prefix: String,
    /// Tables of angles so far.
    ropes: u32,
    /// By the ids of [`W`].
    pub matrices: Vec<Matrix<'a>>,
    /// By the ids of [`V`].
    pub vectors: Vec<Vector<'a>>,
    /// By the ids of [`M`].
    pub memories: Vec<Memory>,
}

/// One or more tensors whose rows lie one after the other.
pub(super) struct Matrix<'a> {
    pub label: String,
    pub cols: u32,
    /// Rows, and the tensor that has them.
    pub parts: Vec<(u32, &'a TensorInfo)>,
}

/// A vector of floats.
pub(super) struct Vector<'a> {
    pub label: String,
    pub len: u32,
    pub content: Content<'a>,
}

/// What a vector holds.
pub(super) enum Content<'a> {
    /// Tensors, and at which float they begin; zeros elsewhere.
    Tensors(Vec<(u32, &'a TensorInfo)>),
    /// Angles, and divisors of their frequencies.
    Rope(RopeTable, Option<&'a TensorInfo>),
}

/// What a layer remembers.
pub(super) struct Memory {
    pub label: String,
    pub shape: HeadShape,
}

/// How an attention layer scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scores {
    /// Factor of the scores.
    pub scale: f32,
    /// Soft cap of the scores; 0 is none.
    pub cap: f32,
    /// Positions that a token sees, itself among them; 0 is all.
    pub window: u32,
}

impl Scores {
    /// 1 / √D, without cap and window.
    pub(super) fn of(heads: Heads) -> Self {
        #[allow(clippy::cast_possible_truncation)] // rounded
        let scale = (1.0 / f64::from(heads.dim).sqrt()) as f32;
        Scores { scale, cap: 0.0, window: 0 }
    }
}

fn index<T>(of: &[T]) -> u32 {
    #[allow(clippy::cast_possible_truncation)] // a model declares far fewer
    let id = of.len() as u32;
    id
}

impl<'a> Layout<'a> {
    pub(super) fn new(directory: &'a Directory, sizes: Sizes) -> Self {
        Layout {
            directory,
            sizes,
            declared: HashSet::new(),
            prefix: String::new(),
            ropes: 0,
            matrices: Vec::new(),
            vectors: Vec::new(),
            memories: Vec::new(),
        }
    }

    /// The tensor, if the file has it and it has exactly these dimensions (GGUF order: columns first).
    fn find(&mut self, name: &str, dims: &[u32]) -> Result<Option<&'a TensorInfo>> {
        let name = format!("{}{name}", self.prefix);
        let Some(tensor) = self.directory.find(&name) else { return Ok(None) };
        let expected: Vec<u64> = dims.iter().map(|dim| u64::from(*dim)).collect();
        if tensor.dims != expected {
            return Err(Error::ShapeMismatch { what: name, found: tensor.dims.clone(), expected });
        }
        tensor.dtype()?;
        self.declared.insert(&tensor.name);
        Ok(Some(tensor))
    }

    fn get(&mut self, name: &str, dims: &[u32]) -> Result<&'a TensorInfo> {
        let tensor = self.find(name, dims)?;
        tensor.ok_or_else(|| Error::MissingTensor { tensor: format!("{}{name}", self.prefix) })
    }

    /// Whether the file has a tensor of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.directory.find(&format!("{}{name}", self.prefix)).is_some()
    }

    /// A vector of floats.
    pub(super) fn vector(&mut self, name: &str, len: u32) -> Result<V> {
        let tensor = self.get(name, &[len])?;
        Ok(self.keep(tensor.name.clone(), len, Content::Tensors(vec![(0, tensor)])))
    }

    /// A vector that a file may leave out.
    pub(super) fn vector_if_any(&mut self, name: &str, len: u32) -> Result<Option<V>> {
        if self.has(name) { self.vector(name, len).map(Some) } else { Ok(None) }
    }

    fn keep(&mut self, label: String, len: u32, content: Content<'a>) -> V {
        let id = index(&self.vectors);
        self.vectors.push(Vector { label, len, content });
        V { id, len }
    }

    /// The matrix `NAME`, without bias.
    pub(super) fn matrix(&mut self, name: &str, rows: u32, cols: u32) -> Result<W> {
        let tensor = self.get(name, &[cols, rows])?;
        let id = index(&self.matrices);
        self.matrices.push(Matrix { label: tensor.name.clone(), cols, parts: vec![(rows, tensor)] });
        Ok(W { id, rows, cols, bias: None })
    }

    /// The matrix `NAME.weight`, and `NAME.bias` if the file has one.
    pub(super) fn linear(&mut self, name: &str, rows: u32, cols: u32) -> Result<W> {
        self.stack(name, &[(name, rows)], cols)
    }

    /// The matrix `NAME.weight` and its `NAME.bias`.
    pub(super) fn biased(&mut self, name: &str, rows: u32, cols: u32) -> Result<W> {
        self.get(&format!("{name}.bias"), &[rows])?;
        self.linear(name, rows, cols)
    }

    /// Matrices that are multiplied at once, by name and rows, each as [`Layout::linear`].
    pub(super) fn stack(&mut self, label: &str, names: &[(&str, u32)], cols: u32) -> Result<W> {
        let (mut parts, mut biases, mut rows) = (Vec::new(), Vec::new(), 0);
        for (name, count) in names {
            parts.push((*count, self.get(&format!("{name}.weight"), &[cols, *count])?));
            if let Some(bias) = self.find(&format!("{name}.bias"), &[*count])? {
                biases.push((rows, bias));
            }
            rows += count;
        }
        let label = format!("{}{label}", self.prefix);
        let bias = match biases.is_empty() {
            true => None,
            false => Some(self.keep(label.clone(), rows, Content::Tensors(biases))),
        };
        let id = index(&self.matrices);
        self.matrices.push(Matrix { label, cols, parts });
        Ok(W { id, rows, cols, bias })
    }

    /// Q, K and V of a layer: one tensor, or three where a file has them apart.
    pub(super) fn qkv(&mut self, heads: Heads, width: u32) -> Result<W> {
        if self.has("attn_qkv.weight") {
            return self.linear("attn_qkv", heads.qkv_width(), width);
        }
        let [q, kv] = heads.rows();
        self.stack("attn_qkv", &[("attn_q", q), ("attn_k", kv), ("attn_v", kv)], width)
    }

    /// The LayerNorm `NAME.weight` and `NAME.bias`.
    pub(super) fn layer_norm(&mut self, name: &str, width: u32) -> Result<LayerNorm> {
        let gain = self.vector(&format!("{name}.weight"), width)?;
        Ok(LayerNorm { gain, bias: Some(self.vector(&format!("{name}.bias"), width)?) })
    }

    /// A vector of (heads, D), which a file has as a matrix.
    pub(super) fn vector_of_heads(&mut self, name: &str, heads: u32, dim: u32) -> Result<V> {
        let tensor = self.get(name, &[dim, heads])?;
        Ok(self.keep(tensor.name.clone(), heads * dim, Content::Tensors(vec![(0, tensor)])))
    }

    /// Gate and up of a layer: two tensors.
    pub(super) fn gate_up(&mut self, ffn: u32, width: u32) -> Result<W> {
        self.stack("ffn_gate_up", &[("ffn_gate", ffn), ("ffn_up", ffn)], width)
    }

    /// The matrix that makes logits, and its bias if the file has one. A file without the matrix uses the table of
    /// embeddings for it.
    pub(super) fn head(&mut self, embeddings: W) -> Result<W> {
        match self.has("output.weight") {
            true => self.linear("output", embeddings.rows, embeddings.cols),
            false => Ok(W { bias: self.vector_if_any("output.bias", embeddings.rows)?, ..embeddings }),
        }
    }

    /// The table of embeddings, (V, C). Its rows say how many tokens there are.
    pub(super) fn embeddings(&mut self, width: u32) -> Result<W> {
        let name = "token_embd.weight";
        let rows = self.directory.tensor(name)?.dims.get(1).copied().unwrap_or(0);
        let vocab = u32::try_from(rows).ok().filter(|v| (1..=MAX_VOCAB).contains(v));
        let vocab = vocab.ok_or_else(|| Error::Malformed { what: format!("{name} has {rows} rows") })?;
        self.matrix(name, vocab, width)
    }

    /// A rotation. The file may have a tensor with a divisor for each pair; LongRoPE has one for contexts up to the
    /// original one and another for longer ones, of which the context that is asked for takes one.
    pub(super) fn rope(&mut self, table: &RopeTable) -> Result<Rope<Ids>> {
        let [short, long] = ["rope_factors_short.weight", "rope_factors_long.weight"];
        let pairs = [table.dim / 2];
        let divisors = match self.has(short) || self.has(long) {
            true => {
                let [used, other] = if table.long { [long, short] } else { [short, long] };
                self.find(other, &pairs)?;
                Some(self.get(used, &pairs)?)
            }
            false => self.find("rope_freqs.weight", &pairs)?,
        };
        let divisors = divisors.filter(|_| table.scaled);
        if let (None, Some(kind)) = (divisors, table.needs_divisors) {
            let architecture = self.directory.metadata.str("general.architecture")?;
            let what = format!("{architecture}.rope.scaling.type = {kind} (without a tensor of divisors)");
            return Err(Error::UnsupportedModel { what });
        }
        let positions = self.sizes.context_length;
        let len = positions.checked_mul(table.dim).ok_or_else(|| Error::OutOfMemory {
            what: "the table of RoPE angles".to_owned(),
            bytes: u64::from(positions) * u64::from(table.dim) * 4,
        })?;
        let label = format!("rope {}", self.ropes);
        self.ropes += 1;
        let V { id, .. } = self.keep(label, len, Content::Rope(*table, divisors));
        Ok(Rope { table: id, dim: table.dim, pairs: table.pairs })
    }

    /// K and V of a layer.
    pub(super) fn kv(&mut self, heads: Heads, scores: Scores) -> M {
        let id = index(&self.memories);
        let Sizes { context_length, kv, max_batch, .. } = self.sizes;
        let shape = HeadShape {
            heads: heads.heads,
            kv_heads: heads.kv_heads,
            head_dim: heads.dim,
            scale: scores.scale,
            cap: scores.cap,
            // A window as long as the context hides nothing.
            window: if scores.window < context_length { scores.window } else { 0 },
            max_batch,
            capacity: context_length,
            kv,
        };
        self.memories.push(Memory { label: format!("{}cache", self.prefix), shape });
        M { id, heads }
    }

    /// Declares layers `blk.0.`, `blk.1.`, …; names are those behind that.
    pub(super) fn layers<L>(
        &mut self,
        count: u32,
        mut layer: impl FnMut(&mut Self, u32) -> Result<L>,
    ) -> Result<Vec<L>> {
        let mut layers = Vec::new();
        for i in 0..count {
            self.prefix = format!("blk.{i}.");
            layers.push(layer(self, i)?);
        }
        self.prefix.clear();
        Ok(layers)
    }

    /// Every tensor of the file must have been declared.
    ///
    /// # Errors
    /// [`Error::UnsupportedModel`], which names the first that was not.
    pub(super) fn finish(&self) -> Result<()> {
        match self.directory.tensors().iter().find(|tensor| !self.declared.contains(tensor.name.as_str())) {
            None => Ok(()),
            Some(tensor) => Err(Error::UnsupportedModel { what: format!("the tensor {}", tensor.name) }),
        }
    }
}

impl Matrix<'_> {
    /// Rows of all parts.
    pub(super) fn rows(&self) -> u64 {
        self.parts.iter().map(|(rows, _)| u64::from(*rows)).sum()
    }

    /// Bytes in the file.
    pub(super) fn bytes(&self) -> u64 {
        self.parts.iter().map(|(_, tensor)| tensor.bytes).sum()
    }

    /// The types of its tensors, each once.
    pub(super) fn dtypes(&self) -> Result<Vec<DType>> {
        let mut dtypes = Vec::new();
        for (_, tensor) in &self.parts {
            let dtype = tensor.dtype()?;
            if !dtypes.contains(&dtype) {
                dtypes.push(dtype);
            }
        }
        Ok(dtypes)
    }
}
