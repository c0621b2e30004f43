//! Architectures, one file each: Config + Weights + State, and a forward pass that reads like the
//! paper. Everything is recorded into plans once; [`LanguageModel`] is what the engine runs.

pub mod image;
mod llama;
mod loader;
mod rope;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ops::{Backend, KvType};
use crate::weights::{ByteSource, Directory};

pub use loader::Progress;

/// Architectures there is a file for.
pub const ARCHITECTURES: [&str; 1] = ["llama"];

/// A loaded model: plans to run, and the tensors in which they meet the engine.
pub struct LanguageModel<B: Backend> {
    /// Embedding and all layers, for one token.
    pub decode: B::Plan,
    /// Embedding and all layers, for up to `max_batch` tokens.
    pub prefill: B::Plan,
    /// Logits of row `step.row`.
    pub head: B::Plan,
    /// Draw from the logits as they are.
    pub sample: B::Plan,
    /// Apply bias and penalties, then draw.
    pub sample_adjusted: B::Plan,
    /// Embedding, all layers, head and draw for each of a token and its drafts.
    pub verify: Option<B::Plan>,
    /// (1, V); with drafts a row for each, too.
    pub logits: B::Tensor,
    /// Facts for the user.
    pub facts: Facts,
    /// Keeps weights, cache and activations alive as long as the plans.
    _owned: Box<dyn std::any::Any>,
}

/// What a model is, for the user and the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`, or the file's name.
    pub name: String,
    /// Parameters.
    pub parameters: u64,
    /// Bytes of all tensors in the file.
    pub weight_bytes: u64,
    /// Tensor types in the file, most bytes first.
    pub weight_types: Vec<String>,
    /// Layers.
    pub layers: u32,
    /// `V`.
    pub vocab_size: u32,
    /// Tokens the KV cache holds.
    pub context_length: u32,
    /// Tokens the model was trained on.
    pub trained_context_length: u32,
    /// What the KV cache holds.
    pub kv: KvType,
    /// Bytes of it that a token takes, all layers together.
    pub kv_bytes_per_token: u64,
}

/// Sizes chosen by the engine before loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Positions in the KV cache.
    pub context_length: u32,
    /// What the KV cache holds.
    pub kv: KvType,
    /// Most tokens of a prefill batch.
    pub max_batch: u32,
    /// Most drafts that are verified at once; 0 is without speculation.
    pub draft_tokens: u32,
}

/// Reads tensors into the backend and records the plans.
///
/// # Errors
/// [`Error::UnsupportedArchitecture`], and whatever is wrong with the file, the source or the device.
/// [`Error::Aborted`] if `progress` says so.
pub async fn load<B: Backend + 'static>(
    backend: &mut B,
    directory: &Directory,
    sources: &mut [Box<dyn ByteSource>],
    sizes: Sizes,
    progress: &mut dyn FnMut(Progress) -> Result<()>,
) -> Result<LanguageModel<B>> {
    let architecture = directory.metadata.str("general.architecture")?;
    match architecture {
        "llama" => llama::load(backend, directory, sources, sizes, progress).await,
        _ => Err(Error::UnsupportedArchitecture {
            found: architecture.to_owned(),
            supported: ARCHITECTURES.join(", "),
        }),
    }
}

/// A shape and type of weight matrices that a backend multiplies by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matrix {
    /// Columns.
    pub cols: u64,
    /// Rows, of all tensors together that are multiplied at once.
    pub rows: u64,
    /// Type of the tensors.
    pub dtype: DType,
    /// How many the model has.
    pub count: u64,
}

impl Matrix {
    /// Bytes of one, as stored.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.cols * self.rows / self.dtype.block_len() * self.dtype.block_bytes()
    }
}

/// The matrices of a model by shape and type, most bytes first.
///
/// # Errors
/// What is wrong with the file's header.
pub fn matrices(directory: &Directory) -> Result<Vec<Matrix>> {
    let mut matrices = match directory.metadata.str("general.architecture")? {
        "llama" => llama::matrices(directory)?,
        other => {
            return Err(Error::UnsupportedArchitecture {
                found: other.to_owned(),
                supported: ARCHITECTURES.join(", "),
            });
        }
    };
    matrices.sort_by_key(|matrix| std::cmp::Reverse(matrix.bytes() * matrix.count));
    Ok(matrices)
}

/// Milliseconds that one decode step takes on a backend, extrapolated from a few layers of this
/// model's shapes with zeros for weights.
///
/// # Errors
/// What is wrong with the file's header or the device.
pub async fn probe<B: Backend>(backend: B, directory: &Directory) -> Result<f64> {
    match directory.metadata.str("general.architecture")? {
        "llama" => llama::probe(backend, directory).await,
        other => Err(Error::UnsupportedArchitecture {
            found: other.to_owned(),
            supported: ARCHITECTURES.join(", "),
        }),
    }
}

/// The context length a file asks for, in tokens.
///
/// # Errors
/// Missing metadata; [`Error::UnsupportedArchitecture`].
pub fn trained_context_length(directory: &Directory) -> Result<u32> {
    let architecture = directory.metadata.str("general.architecture")?;
    if !ARCHITECTURES.contains(&architecture) {
        return Err(Error::UnsupportedArchitecture {
            found: architecture.to_owned(),
            supported: ARCHITECTURES.join(", "),
        });
    }
    directory.metadata.u32(&format!("{architecture}.context_length"))
}

fn facts(
    directory: &Directory,
    sizes: Sizes,
    layers: u32,
    vocab_size: u32,
    kv_bytes_per_token: u64,
) -> Result<Facts> {
    let mut by_type: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    for tensor in directory.tensors() {
        // A tensor that no layer uses may have any type.
        if let Ok(dtype) = tensor.dtype() {
            *by_type.entry(dtype.name().to_owned()).or_default() += tensor.bytes;
        }
    }
    let mut weight_types: Vec<_> = by_type.into_iter().collect();
    weight_types.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    Ok(Facts {
        architecture: directory.metadata.str("general.architecture")?.to_owned(),
        name: directory.metadata.str_or("general.name", "unnamed model")?.to_owned(),
        parameters: directory.tensors().iter().map(|t| t.elements()).sum(),
        weight_bytes: directory.tensors().iter().map(|t| t.bytes).sum(),
        weight_types: weight_types.into_iter().map(|(name, _)| name).collect(),
        layers,
        vocab_size,
        context_length: sizes.context_length,
        trained_context_length: trained_context_length(directory)?,
        kv: sizes.kv,
        kv_bytes_per_token,
    })
}
