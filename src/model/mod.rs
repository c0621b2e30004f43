//! Architectures, one file each: Config + Weights + State, and a forward pass that reads like the
//! paper. Everything is recorded into plans once; [`LanguageModel`] is what the engine runs.

// A number of a file may have 64 bits, and `usize` has 32 in a browser. Tests run natively.
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

mod arch;
mod arch_meta;
pub mod image;
mod layout;
mod loader;
mod rope;

use crate::error::{Error, Result};
use crate::formats::DType;
use crate::graph::{Backend, KvType};
use crate::weights::{ByteSource, Directory, TensorInfo};

use arch::llama;
use arch_meta::ArchMeta;

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
    /// Of these, the layers': each is multiplied once for every token of a prompt.
    pub layer_parameters: u64,
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
    match architecture(directory)? {
        Architecture::Llama => llama::load(backend, directory, sources, sizes, progress).await,
    }
}

/// Those of [`ARCHITECTURES`].
enum Architecture {
    Llama,
}

/// The architecture of a file that is a whole model.
fn architecture(directory: &Directory) -> Result<Architecture> {
    let metadata = &directory.metadata;
    // An adapter or a projector names the architecture of the model that it belongs to.
    let kind = metadata.str_or("general.type", "model")?;
    if kind != "model" {
        let what =
            format!("general.type = {kind} (the file is a part or an addition: give the model's file)");
        return Err(Error::UnsupportedModel { what });
    }
    // Formats with blocks had other scales before version 2.
    let version = metadata.u32_or("general.quantization_version", 2)?;
    let has_blocks = |tensor: &TensorInfo| tensor.dtype().is_ok_and(|dtype| dtype.block_len() > 1);
    if version != 2 && directory.tensors().iter().any(has_blocks) {
        let what = format!("general.quantization_version = {version} (2 is supported)");
        return Err(Error::UnsupportedModel { what });
    }
    match metadata.str("general.architecture")? {
        "llama" => Ok(Architecture::Llama),
        other => Err(Error::UnsupportedArchitecture {
            found: other.to_owned(),
            supported: ARCHITECTURES.join(", "),
        }),
    }
}

/// Whether there is a file for the model's architecture.
///
/// # Errors
/// [`Error::UnsupportedArchitecture`]; [`Error::UnsupportedModel`] for a file that is no whole model.
pub fn check(directory: &Directory) -> Result<()> {
    architecture(directory).map(|_| ())
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
    let mut matrices = match architecture(directory)? {
        Architecture::Llama => llama::matrices(directory)?,
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
    match architecture(directory)? {
        Architecture::Llama => llama::probe(backend, directory).await,
    }
}

/// The context length a file asks for, in tokens.
///
/// # Errors
/// As for [`check`]; [`Error::MissingMetadata`]; [`Error::Malformed`] for 0.
pub fn trained_context_length(directory: &Directory) -> Result<u32> {
    check(directory)?;
    let name = directory.metadata.str("general.architecture")?;
    ArchMeta::new(&directory.metadata, name).count("context_length", 1..=u32::MAX)
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
        *by_type.entry(tensor.dtype()?.name().to_owned()).or_default() += tensor.bytes;
    }
    let layer_tensors = directory.tensors().iter().filter(|t| t.name.starts_with("blk."));
    let mut weight_types: Vec<_> = by_type.into_iter().collect();
    weight_types.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    Ok(Facts {
        architecture: directory.metadata.str("general.architecture")?.to_owned(),
        name: directory.metadata.str_or("general.name", "unnamed model")?.to_owned(),
        parameters: directory.tensors().iter().map(|t| t.elements()).sum(),
        layer_parameters: layer_tensors.map(|t| t.elements()).sum(),
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
