//! The Llama architecture: RMSNorm, RoPE, grouped-query attention, SwiGLU, tied or separate head.
//! Touvron et al., "LLaMA", 2023; grouped queries: Ainslie et al., 2023. Tensor names are GGUF's.

use crate::clock::now_ms;
use crate::error::{Error, Result};
use crate::ops::{Backend, Batch, HeadShape, KvType, Norm, RopePairs, Segment, Step};
use crate::weights::{ByteSource, Directory, Metadata, TensorInfo};

use super::loader::{Loader, Progress, read_vector};
use super::{LanguageModel, Matrix, Sizes, facts, rope};

/// Upper bounds for what a file may ask for; far above any model that fits a browser.
const MAX_LAYERS: u32 = 512;
const MAX_WIDTH: u32 = 1 << 16;

/// The blueprint.
struct Config {
    layers: u32,
    width: u32, // C
    ffn: u32,   // F
    vocab: u32, // V
    eps: f32,
    heads: HeadShape,
    rope_base: f32,
    rope_scale: f32,
}

/// One layer's tensors and cache. Shapes as (rows, columns).
struct Layer<B: Backend> {
    attn_norm: B::Vector,   // (C), then the QKV bias if there is one
    attn_qkv: B::Weight,    // (H·D + 2·G·D, C)
    attn_output: B::Weight, // (C, H·D)
    ffn_norm: B::Vector,    // (C)
    ffn_gate_up: B::Weight, // (2·F, C)
    ffn_down: B::Weight,    // (C, F)
    bias_at: Option<u32>,
    cache: B::Cache, // (G, capacity, D) twice, of `KvType`
}

struct Weights<B: Backend> {
    token_embd: B::Weight,     // (V, C)
    output: Option<B::Weight>, // (V, C); none when tied to token_embd
    output_norm: B::Vector,    // (C)
    rope: B::Vector,           // (capacity, D/2) of (cos, sin)
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
    backend.embed(&weights.token_embd, &state.x, batch)?;
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
        let norm = Norm { gain: &layer.attn_norm, eps: config.eps, bias_at: layer.bias_at };
        backend.qkv(x, &norm, &layer.attn_qkv, rope, qkv, config.heads, batch)?;
        backend.attend(qkv, &layer.cache, &layer.attn_output, x, batch)?;
        let norm = Norm { gain: &layer.ffn_norm, eps: config.eps, bias_at: None };
        backend.gate_up(x, &norm, &layer.ffn_gate_up, h, batch)?;
        backend.project_add(h, &layer.ffn_down, x, batch)?;
    }
    Ok(())
}

pub(super) async fn load<B: Backend + 'static>(
    backend: &mut B,
    directory: &Directory,
    sources: &mut [Box<dyn ByteSource>],
    sizes: Sizes,
    progress: &mut dyn FnMut(Progress) -> Result<()>,
) -> Result<LanguageModel<B>> {
    let config = Config::read(directory, sizes)?;
    let weights = allocate(backend, directory, &config)?;
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
    let norm = Norm { gain: &weights.output_norm, eps: config.eps, bias_at: None };
    let output = weights.output.as_ref().unwrap_or(&weights.token_embd);
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

    let divisors = match directory.find("rope_freqs.weight") {
        Some(tensor) => match sources.get_mut(tensor.shard) {
            Some(source) => Some(read_vector(source.as_mut(), tensor).await?),
            None => None,
        },
        None => None,
    };
    let heads = config.heads;
    let table =
        rope::table(heads.capacity, heads.rope_dim, config.rope_base, config.rope_scale, divisors.as_deref());
    backend.upload_vector(&weights.rope, 0, &table);
    drop(table);
    places(directory, &config, &weights)?.run(backend, sources, progress).await?;

    let kv_bytes = u64::from(config.layers) * config.heads.kv_bytes();
    let facts = facts(directory, sizes, config.layers, config.vocab, kv_bytes)?;
    let owned = Box::new((weights, state));
    Ok(LanguageModel { decode, prefill, head, sample, sample_adjusted, verify, logits, facts, _owned: owned })
}

/// See [`super::matrices`]. Tensors of different types are different matrices, as on the GPU.
pub(super) fn matrices(directory: &Directory) -> Result<Vec<Matrix>> {
    let config = Config::read(
        directory,
        Sizes { context_length: 1, kv: KvType::default(), max_batch: 1, draft_tokens: 0 },
    )?;
    let c = u64::from(config.width);
    let (q, kv, f) = (config.q_rows(), config.kv_rows(), u64::from(config.ffn));
    let mut matrices: Vec<Matrix> = Vec::new();
    let mut add = |tensors: &[String], cols, rows| -> Result<()> {
        let mut dtypes = Vec::new();
        for tensor in tensors {
            let dtype = directory.tensor(tensor)?.dtype()?;
            if !dtypes.contains(&dtype) {
                dtypes.push(dtype);
            }
        }
        for dtype in dtypes {
            let same = |m: &&mut Matrix| (m.cols, m.rows, m.dtype) == (cols, rows, dtype);
            match matrices.iter_mut().find(same) {
                Some(matrix) => matrix.count += 1,
                None => matrices.push(Matrix { cols, rows, dtype, count: 1 }),
            }
        }
        Ok(())
    };
    for i in 0..config.layers {
        let qkv = ["attn_q.weight", "attn_k.weight", "attn_v.weight"];
        add(&qkv.map(|tensor| name(i, tensor)), c, q + 2 * kv)?;
        add(&[name(i, "attn_output.weight")], q, c)?;
        add(&[name(i, "ffn_gate.weight")], c, 2 * f)?;
        add(&[name(i, "ffn_down.weight")], f, c)?;
    }
    let head = if directory.find("output.weight").is_some() { "output.weight" } else { "token_embd.weight" };
    add(&[head.to_owned()], c, u64::from(config.vocab))?;
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
pub(super) async fn probe<B: Backend>(mut backend: B, directory: &Directory) -> Result<f64> {
    let sizes = Sizes { context_length: 64, max_batch: 1, draft_tokens: 0, kv: KvType::default() };
    let mut config = Config::read(directory, sizes)?;
    let layers = config.layers;
    config.layers = layers.min(PROBE_LAYERS);
    let head_bytes = directory.tensor("token_embd.weight")?.bytes;
    let layer_bytes: u64 = (0..config.layers)
        .flat_map(|i| {
            let prefix = name(i, "");
            directory.tensors().iter().filter(move |t| t.name.starts_with(&prefix)).map(|t| t.bytes)
        })
        .sum();
    let weights = allocate_layers(&mut backend, directory, &config)?;
    let rope = backend.vector("rope", config.heads.capacity * config.heads.rope_dim)?;
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
    let whole = f64::from(layers) / f64::from(config.layers) + head_bytes as f64 / layer_bytes.max(1) as f64;
    Ok(best * whole)
}

impl Config {
    fn read(directory: &Directory, sizes: Sizes) -> Result<Self> {
        let meta = &directory.metadata;
        let heads = bounded(meta, "llama.attention.head_count", 1, 1024)?;
        let kv_heads = meta.u32_or("llama.attention.head_count_kv", heads)?;
        let width = bounded(meta, "llama.embedding_length", 32, MAX_WIDTH)?;
        let head_dim = meta.u32_or("llama.attention.key_length", width / heads)?;
        let rope_dim = meta.u32_or("llama.rope.dimension_count", head_dim)?;
        if kv_heads == 0 || heads % kv_heads != 0 || head_dim == 0 || head_dim > 256 {
            return Err(Error::UnsupportedModel {
                what: format!("{heads} query heads, {kv_heads} KV heads of size {head_dim}"),
            });
        }
        if rope_dim > head_dim || rope_dim % 2 != 0 {
            return Err(Error::Malformed { what: format!("llama.rope.dimension_count {rope_dim}") });
        }
        if meta.u32_or("llama.attention.value_length", head_dim)? != head_dim {
            return Err(Error::UnsupportedModel { what: "V heads of another size than K heads".to_owned() });
        }
        if meta.u32_or("llama.expert_count", 0)? != 0 {
            return Err(Error::UnsupportedModel { what: "a mixture of experts".to_owned() });
        }
        let scaling = meta.str_or("llama.rope.scaling.type", "none")?;
        let rope_scale = match scaling {
            "none" | "llama3" => 1.0,
            "linear" => meta.f32("llama.rope.scaling.factor")?,
            other => return Err(Error::UnsupportedModel { what: format!("RoPE scaling {other}") }),
        };
        let embedding = directory.tensor("token_embd.weight")?;
        let vocab = embedding.dims.get(1).copied().unwrap_or(0);
        let vocab = u32::try_from(vocab)
            .ok()
            .filter(|v| (1..=1 << 22).contains(v))
            .ok_or_else(|| Error::Malformed { what: format!("token_embd.weight has {vocab} rows") })?;
        Ok(Config {
            layers: bounded(meta, "llama.block_count", 1, MAX_LAYERS)?,
            width,
            ffn: bounded(meta, "llama.feed_forward_length", 1, MAX_WIDTH * 4)?,
            vocab,
            eps: meta.f32("llama.attention.layer_norm_rms_epsilon")?,
            heads: HeadShape {
                heads,
                kv_heads,
                head_dim,
                rope_dim,
                pairs: RopePairs::Adjacent,
                capacity: sizes.context_length,
                kv: sizes.kv,
            },
            rope_base: meta.f32_or("llama.rope.freq_base", 10_000.0)?,
            rope_scale,
        })
    }

    fn q_rows(&self) -> u64 {
        u64::from(self.heads.heads * self.heads.head_dim)
    }

    fn kv_rows(&self) -> u64 {
        u64::from(self.heads.kv_heads * self.heads.head_dim)
    }
}

fn bounded(meta: &Metadata, key: &str, least: u32, most: u32) -> Result<u32> {
    let value = meta.u32(key)?;
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(Error::Malformed { what: format!("{key} is {value}, expected {least} to {most}") })
}

/// A tensor of layer `i`.
fn name(i: u32, tensor: &str) -> String {
    format!("blk.{i}.{tensor}")
}

/// The tensor, if it has exactly these dimensions (GGUF order: columns first).
fn tensor<'a>(directory: &'a Directory, name: &str, dims: &[u64]) -> Result<&'a TensorInfo> {
    let tensor = directory.tensor(name)?;
    if tensor.dims != dims {
        return Err(Error::ShapeMismatch {
            what: name.to_owned(),
            found: tensor.dims.clone(),
            expected: dims.to_vec(),
        });
    }
    Ok(tensor)
}

fn has_qkv_bias(directory: &Directory, layer: u32) -> bool {
    directory.find(&name(layer, "attn_q.bias")).is_some()
}

fn segment(directory: &Directory, name: &str, cols: u64, rows: u64) -> Result<Segment> {
    Ok(Segment { dtype: tensor(directory, name, &[cols, rows])?.dtype()?, rows })
}

/// Makes the layers' buffers, empty.
fn allocate_layers<B: Backend>(
    backend: &mut B,
    directory: &Directory,
    config: &Config,
) -> Result<Vec<Layer<B>>> {
    let c = u64::from(config.width);
    let segment = |name: &str, cols, rows| segment(directory, name, cols, rows);
    let (q, kv, f) = (config.q_rows(), config.kv_rows(), u64::from(config.ffn));
    let mut layers = Vec::new();
    for i in 0..config.layers {
        let bias = has_qkv_bias(directory, i);
        let label = |tensor: &str| name(i, tensor);
        let qkv = [
            segment(&label("attn_q.weight"), c, q)?,
            segment(&label("attn_k.weight"), c, kv)?,
            segment(&label("attn_v.weight"), c, kv)?,
        ];
        let gate_up = [segment(&label("ffn_gate.weight"), c, f)?, segment(&label("ffn_up.weight"), c, f)?];
        if gate_up[0].dtype != gate_up[1].dtype {
            return Err(Error::UnsupportedModel {
                what: format!("{} of another type than ffn_up.weight", label("ffn_gate.weight")),
            });
        }
        let output = segment(&label("attn_output.weight"), q, c)?;
        let down = segment(&label("ffn_down.weight"), f, c)?;
        let bias_len = if bias { (q + 2 * kv) as u32 } else { 0 };
        layers.push(Layer {
            attn_norm: backend.vector(&label("attn_norm.weight"), config.width + bias_len)?,
            attn_qkv: backend.weight(&label("attn_qkv"), c, &qkv, 1)?,
            attn_output: backend.weight(&label("attn_output.weight"), q, &[output], 1)?,
            ffn_norm: backend.vector(&label("ffn_norm.weight"), config.width)?,
            ffn_gate_up: backend.weight(&label("ffn_gate_up"), c, &gate_up, config.ffn)?,
            ffn_down: backend.weight(&label("ffn_down.weight"), f, &[down], 1)?,
            bias_at: bias.then_some(config.width),
            cache: backend.cache(&label("cache"), config.heads)?,
        });
    }
    Ok(layers)
}

/// Makes every buffer, empty.
fn allocate<B: Backend>(backend: &mut B, directory: &Directory, config: &Config) -> Result<Weights<B>> {
    let c = u64::from(config.width);
    let layers = allocate_layers(backend, directory, config)?;
    let embedding = segment(directory, "token_embd.weight", c, u64::from(config.vocab))?;
    let output = match directory.find("output.weight") {
        Some(_) => {
            let segment = segment(directory, "output.weight", c, u64::from(config.vocab))?;
            Some(backend.weight("output.weight", c, &[segment], 1)?)
        }
        None => None,
    };
    Ok(Weights {
        token_embd: backend.weight("token_embd.weight", c, &[embedding], 1)?,
        output,
        output_norm: backend.vector("output_norm.weight", config.width)?,
        rope: backend.vector("rope", config.heads.capacity * config.heads.rope_dim)?,
        layers,
    })
}

/// Says which tensor goes where.
fn places<'a, B: Backend>(
    directory: &'a Directory,
    config: &Config,
    weights: &'a Weights<B>,
) -> Result<Loader<'a, B>> {
    let c = u64::from(config.width);
    let (q, kv, f) = (config.q_rows(), config.kv_rows(), u64::from(config.ffn));
    let mut loader = Loader::new();
    loader.rows(directory.tensor("token_embd.weight")?, &weights.token_embd, 0);
    if let Some(output) = &weights.output {
        loader.rows(directory.tensor("output.weight")?, output, 0);
    }
    loader.vector(tensor(directory, "output_norm.weight", &[c])?, &weights.output_norm, 0);
    for (i, layer) in (0..).zip(&weights.layers) {
        let get = |tensor: &str| directory.tensor(&name(i, tensor));
        loader.vector(tensor(directory, &name(i, "attn_norm.weight"), &[c])?, &layer.attn_norm, 0);
        loader.rows(get("attn_q.weight")?, &layer.attn_qkv, 0);
        loader.rows(get("attn_k.weight")?, &layer.attn_qkv, q);
        loader.rows(get("attn_v.weight")?, &layer.attn_qkv, q + kv);
        if let Some(at) = layer.bias_at {
            let biases = [("attn_q.bias", q, 0), ("attn_k.bias", kv, q), ("attn_v.bias", kv, q + kv)];
            for (bias, len, row) in biases {
                let info = tensor(directory, &name(i, bias), &[len])?;
                loader.vector(info, &layer.attn_norm, at + row as u32);
            }
        }
        loader.rows(get("attn_output.weight")?, &layer.attn_output, 0);
        loader.vector(tensor(directory, &name(i, "ffn_norm.weight"), &[c])?, &layer.ffn_norm, 0);
        loader.rows(get("ffn_gate.weight")?, &layer.ffn_gate_up, 0);
        loader.rows(get("ffn_up.weight")?, &layer.ffn_gate_up, f);
        loader.rows(get("ffn_down.weight")?, &layer.ffn_down, 0);
    }
    Ok(loader)
}
