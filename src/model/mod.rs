//! Language models: an architecture is one file in `arch/` that reads metadata, declares its tensors and writes a graph.
//! Loading, plans, facts and the list of matrices are made of these here, for all.

// A number of a file may have 64 bits, and `usize` has 32 in a browser. Tests run natively.
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

mod allocated;
mod arch;
mod arch_meta;
mod blocks;
pub mod image;
mod layout;
mod loader;
mod probe;
mod rope;

use crate::error::{Error, Result};
use crate::formats::DType;
use crate::graph::{Backend, Batch, Graph, HeadShape, Ids, KvType, Needs, Op, Program, X};
use crate::sort::sort_by_key;
use crate::weights::{ByteSource, Directory, TensorInfo};

use allocated::{Allocated, HeadRows};
use arch_meta::ArchMeta;
use layout::Layout;

pub use loader::Progress;
pub use probe::{PROBE_DEPTH, Part, Rehearsal, probe, rehearse};

/// An architecture: what it reads of a file's metadata, which tensors it has, and what it computes.
trait Arch: Sized {
    /// `general.architecture`.
    const NAME: &'static str;
    /// Handles of what [`Arch::weights`] declares.
    type Weights;

    /// Reads the metadata. A key that is not read is an error, unless it is known to be harmless.
    fn config(meta: &ArchMeta<'_>) -> Result<Self>;
    /// Declares every tensor by name and shape. A tensor that is not declared is an error.
    fn weights(&self, file: &mut Layout<'_>) -> Result<Self::Weights>;
    /// Writes the graph, from tokens to logits.
    fn forward(&self, weights: &Self::Weights, graph: &Graph) -> Result<X>;
}

/// What a file's model is made of: tensors and ops.
struct Blueprint<'a> {
    layout: Layout<'a>,
    program: Program,
}

fn blueprint<'a, A: Arch>(directory: &'a Directory, sizes: Sizes) -> Result<Blueprint<'a>> {
    let meta = ArchMeta::new(&directory.metadata, A::NAME, sizes.context_length);
    let arch = A::config(&meta)?;
    let mut layout = Layout::new(directory, sizes);
    let weights = arch.weights(&mut layout)?;
    meta.finish()?;
    layout.finish()?;
    let graph = Graph::new();
    let logits = arch.forward(&weights, &graph)?;
    Ok(Blueprint { layout, program: graph.program(logits)? })
}

/// Makes the blueprint of a file of one architecture.
type Draw = for<'a> fn(&'a Directory, Sizes) -> Result<Blueprint<'a>>;

const fn entry<A: Arch>() -> (&'static str, Draw) {
    (A::NAME, blueprint::<A>)
}

/// Architectures there is a file for.
const ARCHITECTURES: &[(&str, Draw)] = &[
    entry::<arch::Llama>(),
    entry::<arch::Qwen2>(),
    entry::<arch::Qwen3>(),
    entry::<arch::Gemma>(),
    entry::<arch::Gemma2>(),
    entry::<arch::Gemma3>(),
    entry::<arch::Phi3>(),
    entry::<arch::SmolLm3>(),
    entry::<arch::Granite>(),
    entry::<arch::Olmo2>(),
    entry::<arch::StableLm>(),
    entry::<arch::Gpt2>(),
    entry::<arch::GptNeoX>(),
    entry::<arch::Phi2>(),
    entry::<arch::StarCoder2>(),
    entry::<arch::Falcon>(),
];

/// Their names.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    ARCHITECTURES.iter().map(|(name, _)| *name)
}

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
    /// What its layers remember.
    pub memories: Vec<HeadShape>,
    /// Keeps weights, cache and activations alive as long as the plans.
    _owned: Allocated<B>,
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
    /// Bytes of it, all layers together.
    pub kv_bytes: u64,
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

/// Reads tensors into the backend and compiles the plans.
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
    let blueprint = draw(directory, sizes)?;
    let Blueprint { layout, program } = &blueprint;
    let needs = allocated::needs(&blueprint, sizes, &[&program.body], HeadRows::All)?;
    let operands = Allocated::of(backend, &needs)?;
    // Memory that is not there shows here, before the download.
    backend.settle("weights and KV cache").await?;

    // Compiling begins with the kernels, all at once; the GPU process does that while the weights arrive.
    let logits = program.logits;
    let draw = |adjust| [Op::<Ids>::Sample { logits, adjust }];
    let decode = operands.compile(backend, &[&program.body], Batch::Decode)?;
    let prefill = operands.compile(backend, &[&program.body], Batch::Prefill)?;
    let head = operands.compile(backend, &[&program.head], Batch::Decode)?;
    let sample = operands.compile(backend, &[&draw(false)], Batch::Decode)?;
    let sample_adjusted = operands.compile(backend, &[&draw(true)], Batch::Decode)?;
    let verify = match sizes.draft_tokens > 0 {
        true => {
            Some(operands.compile(backend, &[&program.body, &program.head, &draw(false)], Batch::Verify)?)
        }
        false => None,
    };
    operands.fill(backend, layout, sources, progress).await?;

    let facts = facts(directory, sizes, layout)?;
    let memories = layout.memories.iter().map(|memory| memory.shape).collect();
    let logits = operands.tensor_of(logits)?.clone();
    Ok(LanguageModel {
        decode,
        prefill,
        head,
        sample,
        sample_adjusted,
        verify,
        logits,
        facts,
        memories,
        _owned: operands,
    })
}

/// The architecture of a file that is a whole model.
fn architecture(directory: &Directory) -> Result<Draw> {
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
    let found = metadata.str("general.architecture")?;
    match ARCHITECTURES.iter().find(|(name, _)| *name == found) {
        Some((_, draw)) => Ok(*draw),
        None => {
            let supported = architectures().collect::<Vec<_>>().join(", ");
            Err(Error::UnsupportedArchitecture { found: found.to_owned(), supported })
        }
    }
}

fn draw(directory: &Directory, sizes: Sizes) -> Result<Blueprint<'_>> {
    architecture(directory)?(directory, sizes)
}

/// Whether there is a file for the model's architecture.
///
/// # Errors
/// [`Error::UnsupportedArchitecture`]; [`Error::UnsupportedModel`] for a file that is no whole model.
pub fn check(directory: &Directory) -> Result<()> {
    architecture(directory).map(|_| ())
}

/// What the model of a file is, by its header alone. Every key and every tensor is checked as a load checks it.
///
/// # Errors
/// What is wrong with the file's header, or not supported.
pub fn inspect(directory: &Directory, sizes: Sizes) -> Result<Facts> {
    facts(directory, sizes, &draw(directory, sizes)?.layout)
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
        self.dtype.bytes_of(self.cols * self.rows)
    }
}

/// The matrices of a model by shape and type, most bytes first.
///
/// # Errors
/// What is wrong with the file's header.
pub fn matrices(directory: &Directory) -> Result<Vec<Matrix>> {
    let Blueprint { layout, program } = draw(directory, SMALLEST)?;
    let mut matrices: Vec<Matrix> = Vec::new();
    for op in program.body.iter().chain(&program.head) {
        let Op::Linear { weight, .. } = op else { continue };
        let Some(declared) = layout.matrices.get(*weight as usize) else { continue };
        let (cols, rows) = (u64::from(declared.cols), declared.rows());
        // Tensors of different types are different matrices, as on the GPU.
        for dtype in declared.dtypes()? {
            let same = |m: &&mut Matrix| (m.cols, m.rows, m.dtype) == (cols, rows, dtype);
            match matrices.iter_mut().find(same) {
                Some(matrix) => matrix.count += 1,
                None => matrices.push(Matrix { cols, rows, dtype, count: 1 }),
            }
        }
    }
    sort_by_key(&mut matrices, |matrix| std::cmp::Reverse(matrix.bytes() * matrix.count));
    Ok(matrices)
}

/// The ops of a model as text, a line each: what its graph became. For tests and for people.
///
/// # Errors
/// What is wrong with the file's header.
pub fn ops_as_text(directory: &Directory) -> Result<String> {
    let Blueprint { layout, program } = draw(directory, SMALLEST)?;
    let weights: Vec<String> = layout.matrices.iter().map(|matrix| matrix.label.clone()).collect();
    let vectors: Vec<String> = layout.vectors.iter().map(|vector| vector.label.clone()).collect();
    let memories: Vec<String> = layout.memories.iter().map(|memory| memory.label.clone()).collect();
    Ok(program.text(&weights, &vectors, &memories))
}

/// Sizes for what is asked of a header alone.
const SMALLEST: Sizes = Sizes { context_length: 1, kv: KvType::F32, max_batch: 1, draft_tokens: 0 };

/// What a load takes of a backend's memory.
///
/// # Errors
/// What is wrong with the file's header.
pub fn needs(directory: &Directory, sizes: Sizes) -> Result<Needs> {
    let blueprint = draw(directory, sizes)?;
    allocated::needs(&blueprint, sizes, &[&blueprint.program.body], HeadRows::All)
}

/// The context length a file asks for, in tokens.
///
/// # Errors
/// As for [`check`]; [`Error::MissingMetadata`]; [`Error::Malformed`] for 0.
pub fn trained_context_length(directory: &Directory) -> Result<u32> {
    check(directory)?;
    let name = directory.metadata.str("general.architecture")?;
    ArchMeta::new(&directory.metadata, name, 1).count("context_length", 1..=u32::MAX)
}

fn facts(directory: &Directory, sizes: Sizes, layout: &Layout<'_>) -> Result<Facts> {
    let mut by_type: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    for tensor in directory.tensors() {
        *by_type.entry(tensor.dtype()?.name().to_owned()).or_default() += tensor.bytes;
    }
    let vocabulary = layout.matrices.first().map_or(0, |embeddings| embeddings.rows());
    let layer_tensors = directory.tensors().iter().filter(|t| t.name.starts_with("blk."));
    let mut weight_types: Vec<_> = by_type.into_iter().collect();
    sort_by_key(&mut weight_types, |(_, bytes)| std::cmp::Reverse(*bytes));
    Ok(Facts {
        architecture: directory.metadata.str("general.architecture")?.to_owned(),
        name: directory.metadata.str_or("general.name", "unnamed model")?.to_owned(),
        parameters: directory.tensors().iter().map(|t| t.elements()).sum(),
        layer_parameters: layer_tensors.map(|t| t.elements()).sum(),
        weight_bytes: directory.tensors().iter().map(|t| t.bytes).sum(),
        weight_types: weight_types.into_iter().map(|(name, _)| name).collect(),
        layers: u32::try_from(layout.memories.len()).unwrap_or(u32::MAX),
        vocab_size: u32::try_from(vocabulary).unwrap_or(u32::MAX),
        context_length: sizes.context_length,
        trained_context_length: trained_context_length(directory)?,
        kv: sizes.kv,
        kv_bytes: layout.memories.iter().map(|memory| memory.shape.bytes()).sum(),
    })
}
