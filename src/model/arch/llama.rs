//! The Llama architecture: RMSNorm, RoPE, grouped-query attention, SwiGLU, tied or separate head.
//! Touvron et al., "LLaMA", 2023; grouped queries: Ainslie et al., 2023. Tensor names are GGUF's.

use crate::clock::now_ms;
use crate::error::{Error, Result};
use crate::graph::{Backend, Batch, HeadShape, KvType, Norm, RopePairs, Step};
use crate::weights::{ByteSource, Directory, TensorInfo};

use crate::model::arch_meta::{ArchMeta, Harmless, Values};
use crate::model::layout::{Layout, Linear, Stack};
use crate::model::loader::{Loader, Progress, read_vector};
use crate::model::rope::Rope;
use crate::model::{LanguageModel, Matrix, Sizes, facts};

/// Upper bounds for what a file may ask for; far above any model that fits a browser.
const MAX_LAYERS: u32 = 512;
const MAX_WIDTH: u32 = 1 << 16;
const MAX_VOCAB: u32 = 1 << 22;

/// Keys under `llama.` that change nothing here, and why. Those with numbers or words name a feature that this
/// architecture does not have here; with these values it is off.
const HARMLESS: [Harmless; 31] = {
    const fn any(key: &'static str) -> Harmless {
        Harmless { key, values: Values::Any }
    }
    const fn off(key: &'static str, values: &'static [f64]) -> Harmless {
        Harmless { key, values: Values::Numbers(values) }
    }
    [
        // The rows of token_embd.weight say it.
        any("vocab_size"),
        // Of LayerNorm; all norms here are RMSNorm.
        any("attention.layer_norm_epsilon"),
        // How a sentence becomes one vector: for embeddings.
        any("pooling_type"),
        // Whether the model was trained further for the scaling: says nothing of how to scale.
        any("rope.scaling.finetuned"),
        // Of YaRN and LongRoPE, which are refused by rope.scaling.type.
        any("rope.scaling.original_context_length"),
        any("rope.scaling.yarn_log_multiplier"),
        any("rope.scaling.yarn_ext_factor"),
        any("rope.scaling.yarn_attn_factor"),
        any("rope.scaling.yarn_beta_fast"),
        any("rope.scaling.yarn_beta_slow"),
        // Which layers have the window of attention.sliding_window; `Config::read` allows none that is shorter than the
        // context.
        any("attention.sliding_window_pattern"),
        // Both have the rows of Q and K as this architecture expects them.
        Harmless { key: "tensor_data_layout", values: Values::Words(&["reference", "Meta AI original pth"]) },
        Harmless { key: "attention.causal", values: Values::Flag(true) },
        Harmless { key: "use_parallel_residual", values: Values::Flag(false) },
        Harmless { key: "hidden_activation", values: Values::Words(&["silu"]) },
        // A mixture of experts is refused by expert_count.
        off("expert_used_count", &[0.0]),
        off("expert_shared_count", &[0.0]),
        off("expert_feed_forward_length", &[0.0]),
        off("expert_shared_feed_forward_length", &[0.0]),
        off("expert_weights_scale", &[0.0, 1.0]),
        off("interleave_moe_layer_step", &[0.0]),
        off("nextn_predict_layers", &[0.0]),
        // llama.cpp takes 0 for a scale that is not there.
        off("logit_scale", &[0.0, 1.0]),
        off("embedding_scale", &[0.0, 1.0]),
        off("residual_scale", &[0.0, 1.0]),
        off("attention.clamp_kqv", &[0.0]),
        off("attention.max_alibi_bias", &[0.0]),
        off("attention.temperature_scale", &[0.0]),
        off("attn_logit_softcapping", &[0.0]),
        off("final_logit_softcapping", &[0.0]),
        off("rope.dimension_sections", &[0.0]),
    ]
};

/// The blueprint.
struct Config {
    layers: u32,
    width: u32, // C
    ffn: u32,   // F
    vocab: u32, // V
    eps: f32,
    heads: HeadShape,
    rope: Rope,
    /// Floats of the table of angles.
    rope_len: u32,
}

/// The file's tensors.
struct Tensors<'a> {
    token_embd: Stack<'a>,
    output: Option<Stack<'a>>,
    output_norm: &'a TensorInfo,
    rope_freqs: Option<&'a TensorInfo>,
    layers: Vec<LayerTensors<'a>>,
}

struct LayerTensors<'a> {
    attn_norm: &'a TensorInfo,
    attn_qkv: Stack<'a>,
    attn_output: Stack<'a>,
    ffn_norm: &'a TensorInfo,
    ffn_gate_up: Stack<'a>,
    ffn_down: Stack<'a>,
}

/// One layer's tensors and cache. Shapes as (rows, columns).
struct Layer<B: Backend> {
    attn_norm: B::Vector,   // (C)
    attn_qkv: Linear<B>,    // (H·D + 2·G·D, C)
    attn_output: Linear<B>, // (C, H·D)
    ffn_norm: B::Vector,    // (C)
    ffn_gate_up: Linear<B>, // (2·F, C)
    ffn_down: Linear<B>,    // (C, F)
    cache: B::Cache,        // (G, capacity, D) twice, of `KvType`
}

struct Weights<B: Backend> {
    token_embd: Linear<B>,     // (V, C)
    output: Option<Linear<B>>, // (V, C); none when tied to token_embd
    output_norm: B::Vector,    // (C)
    rope: B::Vector,           // (capacity, R/2) of (cos, sin)
    layers: Vec<Layer<B>>,
}

/// Activations of the current batch of T tokens.
struct State<B: Backend> {
    x: B::Tensor,   // (T, C) residual stream
    qkv: B::Tensor, // (T, H·D + 2·G·D)
    h: B::Tensor,   // (T, F)
}

/// The forward pass, top to bottom.
fn forward<B: Backend>(
    backend: &mut B,
    config: &Config,
    weights: &Weights<B>,
    state: &State<B>,
    batch: Batch,
) -> Result<()> {
    backend.embed(&weights.token_embd.weight, &state.x, batch)?;
    layers_forward(backend, config, &weights.layers, &weights.rope, state, batch)
}

fn layers_forward<B: Backend>(
    backend: &mut B,
    config: &Config,
    layers: &[Layer<B>],
    rope: &B::Vector,
    state: &State<B>,
    batch: Batch,
) -> Result<()> {
    let State { x, qkv, h } = state;
    for layer in layers {
        let norm = Norm { gain: &layer.attn_norm, eps: config.eps };
        let Linear { weight, bias } = &layer.attn_qkv;
        backend.qkv(x, &norm, weight, bias.as_ref(), rope, qkv, config.heads, batch)?;
        let Linear { weight, bias } = &layer.attn_output;
        backend.attend(qkv, &layer.cache, weight, bias.as_ref(), x, batch)?;
        let norm = Norm { gain: &layer.ffn_norm, eps: config.eps };
        let Linear { weight, bias } = &layer.ffn_gate_up;
        backend.gate_up(x, &norm, weight, bias.as_ref(), h, batch)?;
        let Linear { weight, bias } = &layer.ffn_down;
        backend.project_add(h, weight, bias.as_ref(), x, batch)?;
    }
    Ok(())
}

pub(in crate::model) async fn load<B: Backend + 'static>(
    backend: &mut B,
    directory: &Directory,
    sources: &mut [Box<dyn ByteSource>],
    sizes: Sizes,
    progress: &mut dyn FnMut(Progress) -> Result<()>,
) -> Result<LanguageModel<B>> {
    let config = Config::read(directory, sizes)?;
    let tensors = declare(directory, &config)?;
    let weights = allocate(backend, &tensors, &config)?;
    let state = State {
        x: backend.tensor("x", sizes.max_batch, config.width)?,
        qkv: backend.tensor("qkv", sizes.max_batch, config.heads.qkv_width())?,
        h: backend.tensor("h", sizes.max_batch, config.ffn)?,
    };
    let logits = backend.tensor("logits", 1 + sizes.draft_tokens, config.vocab)?;
    // Memory that is not there shows here, before the download.
    backend.settle("weights and KV cache").await?;

    // Recording begins to compile the kernels, all at once; the GPU process does that while the weights arrive.
    forward(backend, &config, &weights, &state, Batch::One)?;
    let decode = backend.finish();
    forward(backend, &config, &weights, &state, Batch::Many)?;
    let prefill = backend.finish();
    let norm = Norm { gain: &weights.output_norm, eps: config.eps };
    let output = &weights.output.as_ref().unwrap_or(&weights.token_embd).weight;
    backend.head(&state.x, &norm, output, &logits, Batch::One)?;
    let head = backend.finish();
    backend.sample(&logits, false, Batch::One)?;
    let sample = backend.finish();
    backend.sample(&logits, true, Batch::One)?;
    let sample_adjusted = backend.finish();
    let verify = if sizes.draft_tokens > 0 {
        forward(backend, &config, &weights, &state, Batch::Few)?;
        backend.head(&state.x, &norm, output, &logits, Batch::Few)?;
        backend.sample(&logits, false, Batch::Few)?;
        Some(backend.finish())
    } else {
        None
    };

    let divisors = match tensors.rope_freqs {
        Some(tensor) => Some(read_vector(sources, tensor).await?),
        None => None,
    };
    let pieces = config.rope.table(config.heads.capacity, config.heads.rope_dim, divisors.as_deref())?;
    for (at, turns) in pieces {
        backend.upload_vector(&weights.rope, at, &turns);
    }
    places(&tensors, &weights).run(backend, sources, progress).await?;

    let kv_bytes = u64::from(config.layers) * config.heads.kv_bytes();
    let facts = facts(directory, sizes, config.layers, config.vocab, kv_bytes)?;
    let owned = Box::new((weights, state));
    Ok(LanguageModel { decode, prefill, head, sample, sample_adjusted, verify, logits, facts, _owned: owned })
}

/// See [`super::matrices`]. Tensors of different types are different matrices, as on the GPU.
pub(in crate::model) fn matrices(directory: &Directory) -> Result<Vec<Matrix>> {
    let sizes = Sizes { context_length: 1, kv: KvType::default(), max_batch: 1, draft_tokens: 0 };
    let tensors = declare(directory, &Config::read(directory, sizes)?)?;
    let in_layers = tensors
        .layers
        .iter()
        .flat_map(|layer| [&layer.attn_qkv, &layer.attn_output, &layer.ffn_gate_up, &layer.ffn_down]);
    let mut matrices: Vec<Matrix> = Vec::new();
    for stack in in_layers.chain([tensors.output.as_ref().unwrap_or(&tensors.token_embd)]) {
        let (cols, rows) = stack.size();
        for dtype in stack.dtypes()? {
            let same = |m: &&mut Matrix| (m.cols, m.rows, m.dtype) == (cols, rows, dtype);
            match matrices.iter_mut().find(same) {
                Some(matrix) => matrix.count += 1,
                None => matrices.push(Matrix { cols, rows, dtype, count: 1 }),
            }
        }
    }
    Ok(matrices)
}

/// Layers that [`probe`] runs.
const PROBE_LAYERS: u32 = 2;
/// Steps that [`probe`] times; the best counts, since others may be disturbed.
const PROBE_STEPS: u32 = 6;
/// Time after which [`probe`] is content with [`PROBE_LEAST`] steps.
const PROBE_MS: f64 = 50.0;
/// One may be disturbed, three seldom are.
const PROBE_LEAST: u32 = 3;

/// See [`super::probe`]. The head is a product of the same kind: its time goes by its bytes.
pub(in crate::model) async fn probe<B: Backend>(mut backend: B, directory: &Directory) -> Result<f64> {
    let sizes = Sizes { context_length: 64, max_batch: 1, draft_tokens: 0, kv: KvType::default() };
    let config = Config::read(directory, sizes)?;
    let tensors = declare(directory, &config)?;
    let probed = config.layers.min(PROBE_LAYERS);
    let head_bytes = directory.tensor("token_embd.weight")?.bytes;
    let layer_bytes: u64 = (0..probed)
        .flat_map(|i| {
            let prefix = format!("blk.{i}.");
            directory.tensors().iter().filter(move |t| t.name.starts_with(&prefix)).map(|t| t.bytes)
        })
        .sum();
    let layers = tensors.layers.iter().take(PROBE_LAYERS as usize).enumerate();
    let weights: Vec<_> =
        layers.map(|(i, layer)| allocate_layer(&mut backend, i, layer, &config)).collect::<Result<_>>()?;
    let rope = backend.vector("rope", config.rope_len)?;
    let state = State {
        x: backend.tensor("x", 1, config.width)?,
        qkv: backend.tensor("qkv", 1, config.heads.qkv_width())?,
        h: backend.tensor("h", 1, config.ffn)?,
    };
    layers_forward(&mut backend, &config, &weights, &rope, &state, Batch::One)?;
    let plan = backend.finish();
    let step = Step { pos: 0, count: 1, row: 0, counter: 0 };
    backend.compiled("probe").await?;
    // The first run may still be slower than others.
    backend.run(&[&plan], step)?;
    backend.settle("probe").await?;
    let begun = now_ms();
    let mut best = f64::INFINITY;
    for done in 1..=PROBE_STEPS {
        let before = now_ms();
        backend.run(&[&plan], step)?;
        backend.settle("probe").await?;
        best = best.min(now_ms() - before);
        if done >= PROBE_LEAST && now_ms() - begun > PROBE_MS {
            break;
        }
    }
    let whole = f64::from(config.layers) / f64::from(probed) + head_bytes as f64 / layer_bytes.max(1) as f64;
    Ok(best * whole)
}

impl Config {
    fn read(directory: &Directory, sizes: Sizes) -> Result<Self> {
        let meta = ArchMeta::new(&directory.metadata, "llama");
        meta.count("context_length", 1..=u32::MAX)?;
        let layers = meta.count("block_count", 1..=MAX_LAYERS)?;
        let width = meta.count("embedding_length", 32..=MAX_WIDTH)?;
        let heads = meta.count_of_layers("attention.head_count", layers, 1..=1024)?;
        let kv_heads = match meta.has("attention.head_count_kv") {
            true => meta.count_of_layers("attention.head_count_kv", layers, 1..=1024)?,
            false => heads,
        };
        let head_dim = meta.count_or("attention.key_length", width / heads, 1..=u32::MAX)?;
        if heads % kv_heads != 0 || head_dim == 0 || head_dim > 256 {
            return Err(Error::UnsupportedModel {
                what: format!("{heads} query heads, {kv_heads} KV heads of size {head_dim}"),
            });
        }
        let rope_dim = meta.count_or("rope.dimension_count", head_dim, 2..=head_dim)?;
        if rope_dim % 2 != 0 {
            let what = format!("llama.rope.dimension_count is {rope_dim}, expected an even number");
            return Err(Error::Malformed { what });
        }
        if meta.count_or("attention.value_length", head_dim, 1..=u32::MAX)? != head_dim {
            return Err(meta.unsupported("attention.value_length", "V heads of another size than K heads"));
        }
        if meta.count_or("expert_count", 0, 0..=u32::MAX)? != 0 {
            return Err(meta.unsupported("expert_count", "a mixture of experts"));
        }
        let capacity = sizes.context_length;
        let window = meta.count_or("attention.sliding_window", 0, 0..=u32::MAX)?;
        if window != 0 && window < capacity {
            return Err(meta.unsupported(
                "attention.sliding_window",
                "load with a contextLength that is no longer than the window",
            ));
        }
        // 0 stands for what the size of the heads says.
        let scale = meta.number_if_any("attention.scale", 0.0..=f32::MAX)?.unwrap_or(0.0);
        if scale != 0.0 && (scale * (head_dim as f32).sqrt() - 1.0).abs() > 1e-5 {
            return Err(meta.unsupported("attention.scale", "another than 1 / √(head size)"));
        }
        let embedding = directory.tensor("token_embd.weight")?;
        let rows = embedding.dims.get(1).copied().unwrap_or(0);
        let vocab = u32::try_from(rows).ok().filter(|v| (1..=MAX_VOCAB).contains(v));
        let vocab =
            vocab.ok_or_else(|| Error::Malformed { what: format!("token_embd.weight has {rows} rows") })?;
        let rope_len = capacity.checked_mul(rope_dim).ok_or_else(|| Error::OutOfMemory {
            what: "the table of RoPE angles".to_owned(),
            bytes: u64::from(capacity) * u64::from(rope_dim) * 4,
        })?;
        let config = Config {
            layers,
            width,
            ffn: meta.count_of_layers("feed_forward_length", layers, 1..=MAX_WIDTH * 4)?,
            vocab,
            eps: meta.number("attention.layer_norm_rms_epsilon", 0.0..=1.0)?,
            heads: HeadShape {
                heads,
                kv_heads,
                head_dim,
                rope_dim,
                pairs: RopePairs::Adjacent,
                scale: 1.0 / (head_dim as f32).sqrt(),
                cap: 0.0,
                window: 0,
                max_batch: sizes.max_batch,
                capacity,
                kv: sizes.kv,
            },
            rope: Rope::read(&meta, directory.find("rope_freqs.weight").is_some())?,
            rope_len,
        };
        meta.finish(&HARMLESS)?;
        Ok(config)
    }
}

/// Names every tensor of the architecture, with its shape.
fn declare<'a>(directory: &'a Directory, config: &Config) -> Result<Tensors<'a>> {
    let layout = Layout::new(directory);
    let &Config { layers, width, ffn, vocab, .. } = config;
    let HeadShape { heads, kv_heads, head_dim, rope_dim, .. } = config.heads;
    let (q, kv) = (heads * head_dim, kv_heads * head_dim);
    let layer = |i: u32| {
        let name = |tensor: &str| format!("blk.{i}.{tensor}");
        let qkv = [(name("attn_q"), q), (name("attn_k"), kv), (name("attn_v"), kv)];
        let gate_up = [(name("ffn_gate"), ffn), (name("ffn_up"), ffn)];
        Ok(LayerTensors {
            attn_norm: layout.vector(&name("attn_norm.weight"), width)?,
            attn_qkv: layout.stack(name("attn_qkv"), &qkv, width)?,
            attn_output: layout.stack(name("attn_output"), &[(name("attn_output"), width)], q)?,
            ffn_norm: layout.vector(&name("ffn_norm.weight"), width)?,
            ffn_gate_up: layout.stack(name("ffn_gate_up"), &gate_up, width)?,
            ffn_down: layout.stack(name("ffn_down"), &[(name("ffn_down"), width)], ffn)?,
        })
    };
    let tensors = Tensors {
        token_embd: layout.matrix("token_embd.weight", vocab, width)?,
        output: layout.matrix_if_any("output.weight", vocab, width)?,
        output_norm: layout.vector("output_norm.weight", width)?,
        rope_freqs: layout.vector_if_any("rope_freqs.weight", rope_dim / 2)?,
        layers: (0..layers).map(layer).collect::<Result<_>>()?,
    };
    layout.finish()?;
    Ok(tensors)
}

/// Makes a layer's buffers, empty.
fn allocate_layer<B: Backend>(
    backend: &mut B,
    i: usize,
    tensors: &LayerTensors<'_>,
    config: &Config,
) -> Result<Layer<B>> {
    Ok(Layer {
        attn_norm: backend.vector(&tensors.attn_norm.name, config.width)?,
        attn_qkv: tensors.attn_qkv.allocate(backend, 1)?,
        attn_output: tensors.attn_output.allocate(backend, 1)?,
        ffn_norm: backend.vector(&tensors.ffn_norm.name, config.width)?,
        ffn_gate_up: tensors.ffn_gate_up.allocate(backend, config.ffn)?,
        ffn_down: tensors.ffn_down.allocate(backend, 1)?,
        cache: backend.cache(&format!("blk.{i}.cache"), config.heads)?,
    })
}

/// Makes every buffer, empty.
fn allocate<B: Backend>(backend: &mut B, tensors: &Tensors<'_>, config: &Config) -> Result<Weights<B>> {
    let layers = tensors.layers.iter().enumerate();
    let layers = layers.map(|(i, layer)| allocate_layer(backend, i, layer, config)).collect::<Result<_>>()?;
    let output = match &tensors.output {
        Some(output) => Some(output.allocate(backend, 1)?),
        None => None,
    };
    Ok(Weights {
        token_embd: tensors.token_embd.allocate(backend, 1)?,
        output,
        output_norm: backend.vector("output_norm.weight", config.width)?,
        rope: backend.vector("rope", config.rope_len)?,
        layers,
    })
}

/// Says which tensor goes where.
fn places<'a, B: Backend>(tensors: &Tensors<'a>, weights: &'a Weights<B>) -> Loader<'a, B> {
    let mut loader = Loader::new();
    tensors.token_embd.place(&mut loader, &weights.token_embd);
    if let (Some(tensor), Some(output)) = (&tensors.output, &weights.output) {
        tensor.place(&mut loader, output);
    }
    loader.vector(tensors.output_norm, &weights.output_norm, 0);
    for (tensors, layer) in tensors.layers.iter().zip(&weights.layers) {
        loader.vector(tensors.attn_norm, &layer.attn_norm, 0);
        tensors.attn_qkv.place(&mut loader, &layer.attn_qkv);
        tensors.attn_output.place(&mut loader, &layer.attn_output);
        loader.vector(tensors.ffn_norm, &layer.ffn_norm, 0);
        tensors.ffn_gate_up.place(&mut loader, &layer.ffn_gate_up);
        tensors.ffn_down.place(&mut loader, &layer.ffn_down);
    }
    loader
}
