//! Llama files that are small enough to be changed: what llama.cpp answers to them, and what a file may hold. Every tensor
//! and every key changes what is computed, or is known to be harmless, or is an error that names it.
//!
//! `tests/data/llama` has random models and llama.cpp's answers, computed with every tensor read as F32.

use crate::gguf_file;
use crate::model;

use emberglass::cpu::Bits;
use emberglass::engine::{LoadOptions, Origin, SamplingDefaults};
use emberglass::graph::{Backend, KvType};
use emberglass::weights::Directory;
use emberglass::{
    ByteSource, CpuBackend, DType, Error, Finish, GenerateOptions, Prompt, Sampling, SamplingOverrides,
    SliceSource, TextEngine, engine, read_directory,
};
use gguf_file::{GgufFile, Set};
use serde_json::Value;

const CONTEXT: u32 = 200;

async fn load_shards<B: Backend + 'static>(
    backend: B,
    mut sources: Vec<Box<dyn ByteSource>>,
) -> Result<TextEngine<B>, Error> {
    let directory = read_directory(&mut sources).await?;
    load_kept_as(backend, directory, sources, KvType::F32).await
}

async fn load_kept_as<B: Backend + 'static>(
    backend: B,
    directory: Directory,
    mut sources: Vec<Box<dyn ByteSource>>,
    kv: KvType,
) -> Result<TextEngine<B>, Error> {
    let context_length = engine::context_length(&directory, None)?.min(CONTEXT);
    let options = LoadOptions { context_length, kv, draft_tokens: 0 };
    TextEngine::load(backend, directory, &mut sources, options, &mut |_| Ok(())).await
}

async fn load<B: Backend + 'static>(backend: B, file: &GgufFile) -> Result<TextEngine<B>, Error> {
    load_shards(backend, vec![Box::new(SliceSource::new("tiny.gguf", file.write()))]).await
}

fn cpu() -> CpuBackend {
    model::cpu(Bits::Sixteen)
}

/// The error of a load on the CPU: what is wrong with a file does not depend on the backend.
#[track_caller]
fn error_of(file: &GgufFile) -> Error {
    pollster::block_on(load(cpu(), file)).err().expect("the file must be refused")
}

#[track_caller]
fn refused(file: &GgufFile, code: &str, message: &str) {
    let error = error_of(file);
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(message), "{error}: {message}");
}

async fn greedy<B: Backend + 'static>(
    engine: &mut TextEngine<B>,
    prompt: &[u32],
    count: usize,
) -> Result<Vec<u32>, Error> {
    let options = GenerateOptions {
        sampling: Sampling { temperature: 0.0, ..Default::default() },
        max_tokens: Some(count),
        ignore_end: true,
        ..Default::default()
    };
    let done = engine.generate(&Prompt::Tokens(prompt.to_vec()), &options, &mut |_| (), &|| false).await?;
    assert_eq!(done.finish, Finish::Length);
    Ok(done.tokens)
}

struct Answer {
    prompt: Vec<u32>,
    tokens: Vec<u32>,
    /// Steps with two tokens that are nearly as likely, from the first of which texts may part.
    sure: usize,
    /// The largest logits after the prompt.
    logits: Vec<(usize, f64)>,
}

fn answers(name: &str) -> Vec<Answer> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/llama/answers.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let ids = |value: &Value| -> Vec<u32> {
        value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let answer = |answer: &Value| {
        let tokens = ids(&answer["greedy_ids"]);
        let logits = answer["logits_first"].as_array().unwrap().iter();
        Answer {
            prompt: ids(&answer["token_ids"]),
            sure: ids(&answer["low_margins"]).first().map_or(tokens.len(), |step| *step as usize),
            tokens,
            logits: logits
                .map(|pair| (pair[0].as_u64().unwrap() as usize, pair[1].as_f64().unwrap()))
                .collect(),
        }
    };
    all[name].as_array().unwrap().iter().map(answer).collect()
}

async fn as_llama_cpp<B: Backend + 'static>(engine: &mut TextEngine<B>, name: &str) {
    for answer in answers(name) {
        let tokens = greedy(engine, &answer.prompt, answer.tokens.len()).await.unwrap();
        assert_eq!(
            tokens[..answer.sure],
            answer.tokens[..answer.sure],
            "{name}, {} tokens",
            answer.prompt.len()
        );
        let logits = engine.logits(&answer.prompt, 64, false).await.unwrap();
        let last = logits.last().unwrap();
        // Activations of 16 bits are off by some 1e-4 of a logit; to leave out a bias or a factor moves one by 0.1 at
        // least.
        for (id, logit) in &answer.logits {
            let ours = f64::from(last[*id]);
            assert!((ours - logit).abs() <= 5e-3, "{name}: logit {id} is {ours}, llama.cpp has {logit}");
        }
    }
}

/// Biases of all seven matrices; a factor without a type, with an attention factor; divisors; heads of no whole blocks.
const MODELS: [&str; 4] = ["llama-bias-all", "llama-linear-untyped", "llama-rope-freqs", "llama-head-80"];

#[test]
fn answers_are_llama_cpps_on_the_cpu() {
    pollster::block_on(async {
        for name in MODELS {
            as_llama_cpp(&mut load(cpu(), &GgufFile::open(name)).await.unwrap(), name).await;
        }
    });
}

#[test]
fn answers_are_llama_cpps_on_the_gpu() {
    pollster::block_on(async {
        for name in MODELS {
            as_llama_cpp(&mut load(model::gpu().await, &GgufFile::open(name)).await.unwrap(), name).await;
        }
    });
}

fn plain() -> GgufFile {
    GgufFile::open("llama-plain")
}

#[test]
fn a_rope_factor_has_three_spellings() {
    let factor = |file: GgufFile| file.with("llama.rope.scaling.factor", Set::F32(4.0));
    let kind = |file: GgufFile, kind| file.with("llama.rope.scaling.type", Set::Text(kind));
    let four = "llama-plain, factor 4";
    pollster::block_on(async {
        for (file, wanted) in [
            (plain(), "llama-plain"),
            (factor(plain()), four),
            (plain().with("llama.rope.scale_linear", Set::F32(4.0)), four),
            (kind(factor(plain()), "linear"), four),
            (factor(plain()).with("llama.rope.scale_linear", Set::F32(4.0)), four),
            // As llama.cpp: this type never scales.
            (kind(factor(plain()), "none"), "llama-plain"),
            (kind(plain(), "linear"), "llama-plain"),
        ] {
            let mut engine = load(cpu(), &file).await.unwrap();
            for answer in answers(wanted) {
                let tokens = greedy(&mut engine, &answer.prompt, answer.tokens.len()).await.unwrap();
                assert_eq!(tokens, answer.tokens);
            }
        }
    });
    for other in ["longrope", "llama3", "", "linear "] {
        refused(
            &kind(factor(plain()), other),
            "unsupported-model",
            &format!("llama.rope.scaling.type = {other}"),
        );
    }
    let two = factor(plain()).with("llama.rope.scale_linear", Set::F32(2.0));
    refused(&two, "unsupported-model", "llama.rope.scale_linear");
}

async fn logits<B: Backend + 'static>(backend: B, file: &GgufFile) -> Vec<f32> {
    let mut engine = load(backend, file).await.unwrap();
    engine.logits(&[104, 101, 257, 32, 48], 8, false).await.unwrap().concat()
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// A bias of one of Q, K and V alone; the others count as zero.
#[test]
fn each_bias_counts_by_itself() {
    let all = GgufFile::open("llama-bias-all");
    pollster::block_on(async {
        let mut none = all.clone();
        none.tensors.retain(|tensor| !tensor.name.ends_with(".bias"));
        let base = logits(cpu(), &none).await;
        let names: Vec<String> =
            all.tensors.iter().map(|t| t.name.clone()).filter(|n| n.starts_with("blk.1.")).collect();
        let biases: Vec<&String> = names.iter().filter(|name| name.ends_with(".bias")).collect();
        assert_eq!(biases.len(), 7);
        for bias in biases {
            let mut one = all.clone();
            one.tensors.retain(|tensor| !tensor.name.ends_with(".bias") || tensor.name == *bias);
            assert!(apart(&logits(cpu(), &one).await, &base) > 0.05, "{bias}");
            // Zeros are as good as none.
            one.tensor(bias).bytes.fill(0);
            assert_eq!(apart(&logits(cpu(), &one).await, &base), 0.0, "{bias}");
        }
    });
}

/// Mixes of types have gate and up of different ones. The values stay the same, so the logits do.
#[test]
fn gate_and_up_may_be_of_different_types() {
    let same = plain();
    pollster::block_on(async {
        for name in ["blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"] {
            let mut mixed = same.clone();
            let tensor = mixed.tensor(name);
            let values = tensor.dtype.floats(&tensor.bytes).unwrap();
            assert_eq!(tensor.dtype, DType::F16);
            tensor.dtype = DType::F32;
            tensor.bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            assert_eq!(apart(&logits(cpu(), &mixed).await, &logits(cpu(), &same).await), 0.0, "{name}");
            let (gpu, other) = (model::gpu().await, model::gpu().await);
            // The same products in the same order; silu(gate) · up may be fused otherwise.
            let noise = apart(&logits(gpu, &mixed).await, &logits(other, &same).await);
            assert!(noise <= 1e-4, "{name}: {noise}");
        }
    });
}

#[test]
fn a_tensor_that_is_not_computed_with_is_named() {
    for name in [
        "blk.0.attn_norm.bias",
        "blk.0.ffn_norm.bias",
        "output_norm.bias",
        "blk.0.attn_q_norm.weight",
        "blk.0.attn_output.scale",
        "blk.0.ffn_gate_inp.weight",
        // A layer beyond block_count, and names that come close.
        "blk.1.attn_q.weight",
        "blk.00.attn_q.bias",
        "token_embd_norm.weight",
        "anything",
    ] {
        let file = plain().with_floats(name, &[32], &[0.0; 32]);
        refused(&file, "unsupported-model", name);
    }
    // A tensor of another shape is not the one that is meant.
    for name in ["output.bias", "blk.0.attn_output.bias", "blk.0.attn_qkv.weight", "rope_factors_long.weight"]
    {
        refused(&plain().with_floats(name, &[48], &[0.0; 48]), "shape-mismatch", name);
    }
}

#[test]
fn a_key_that_is_not_computed_with_is_named() {
    let window = "llama.attention.sliding_window";
    for (key, value) in [
        ("llama.attention.clamp_kqv", Set::F32(8.0)),
        ("llama.attention.max_alibi_bias", Set::F32(8.0)),
        ("llama.attention.causal", Set::Bool(false)),
        ("llama.attention.value_length", Set::U32(16)),
        ("llama.attention.layer_norm_rms_epsilons", Set::F32(1.0)),
        (window, Set::U32(16)),
        ("llama.logit_scale", Set::F32(0.5)),
        ("llama.embedding_scale", Set::F32(12.0)),
        ("llama.residual_scale", Set::F32(0.25)),
        ("llama.attn_logit_softcapping", Set::F32(50.0)),
        ("llama.final_logit_softcapping", Set::F32(30.0)),
        ("llama.expert_count", Set::U32(8)),
        ("llama.expert_used_count", Set::U32(2)),
        ("llama.rope.dimension_sections", Set::I32s(&[8, 8, 0, 0])),
        ("llama.rope.freq_base_swa", Set::F32(1e4)),
        ("llama.use_parallel_residual", Set::Bool(true)),
        ("llama.tensor_data_layout", Set::Text("transposed")),
        ("llama.hidden_activation", Set::Text("gelu")),
        ("llama.something.new", Set::Text("x")),
    ] {
        refused(&plain().with(key, value), "unsupported-model", key);
    }
    // YaRN's magnitude is that of its factor.
    let yarn = || {
        plain()
            .with("llama.rope.scaling.type", Set::Text("yarn"))
            .with("llama.rope.scaling.factor", Set::F32(4.0))
    };
    for (key, value) in [("yarn_attn_factor", 1.3), ("yarn_log_multiplier", 0.5)] {
        let key = format!("llama.rope.scaling.{key}");
        refused(&yarn().with(&key, Set::F32(value)), "unsupported-model", &key);
    }
    let shorter = error_of(&plain().with(window, Set::U32(16))).to_string();
    assert!(shorter.contains("contextLength"), "{shorter}");
    for (key, value) in [("general.type", "adapter"), ("general.type", "mmproj")] {
        refused(&plain().with(key, Set::Text(value)), "unsupported-model", &format!("{key} = {value}"));
    }
    let mut blocks = GgufFile::open("llama-bias-all");
    blocks = blocks.with("general.quantization_version", Set::U32(1));
    refused(&blocks, "unsupported-model", "general.quantization_version = 1");
}

/// Keys of real files.
#[test]
fn a_key_that_changes_nothing_is_no_obstacle() {
    let file = plain()
        .with("llama.vocab_size", Set::U32(262))
        .with("llama.expert_count", Set::U32(0))
        .with("llama.expert_used_count", Set::U32(0))
        .with("llama.attention.key_length", Set::U32(32))
        .with("llama.attention.value_length", Set::U32(32))
        .with("llama.attention.layer_norm_epsilon", Set::F32(1e-5))
        .with("llama.attention.causal", Set::Bool(true))
        .with("llama.attention.clamp_kqv", Set::F32(0.0))
        .with("llama.attention.scale", Set::F32((1.0 / 32f64.sqrt()) as f32))
        .with("llama.attention.sliding_window", Set::U32(4096))
        .with("llama.attention.head_count", Set::I32s(&[1]))
        .with("llama.attention.head_count_kv", Set::I32s(&[1]))
        .with("llama.feed_forward_length", Set::I32s(&[32]))
        .with("llama.logit_scale", Set::F32(1.0))
        .with("llama.embedding_scale", Set::F32(1.0))
        .with("llama.residual_scale", Set::F32(0.0))
        .with("llama.pooling_type", Set::U32(1))
        .with("llama.rope.dimension_sections", Set::I32s(&[0, 0, 0, 0]))
        .with("llama.rope.scaling.type", Set::Text("none"))
        .with("llama.rope.scaling.factor", Set::F32(0.0))
        .with("llama.rope.scaling.original_context_length", Set::U32(64))
        .with("llama.rope.scaling.finetuned", Set::Bool(true))
        .with("llama.rope.scaling.yarn_log_multiplier", Set::F32(0.1))
        .with("llama.tensor_data_layout", Set::Text("Meta AI original pth"))
        .with("general.type", Set::Text("model"))
        .with("general.quantization_version", Set::U32(2))
        .with("other.key", Set::F32s(&[1.0]))
        .without("llama.rope.dimension_count");
    pollster::block_on(async {
        assert_eq!(apart(&logits(cpu(), &file).await, &logits(cpu(), &plain()).await), 0.0);
    });
}

#[test]
fn numbers_that_make_no_sense_are_malformed() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    for (key, values) in [
        ("llama.attention.layer_norm_rms_epsilon", &[nan, inf, -inf, -1.0, 2.0][..]),
        ("llama.rope.freq_base", &[nan, inf, 0.0, -1.0, 1e-20, 1e30]),
        ("llama.rope.scaling.factor", &[nan, inf, -1.0, 1e-30]),
        ("llama.rope.scale_linear", &[nan, inf, -1.0]),
        ("llama.rope.scaling.attn_factor", &[nan, inf, 0.0, -1.0]),
        ("llama.attention.scale", &[nan, inf, -1.0, 1e30]),
    ] {
        for value in values {
            refused(&plain().with(key, Set::F32(*value)), "malformed", &format!("{key} is {value}"));
        }
    }
    for (key, values) in [
        ("llama.context_length", &[0][..]),
        ("llama.block_count", &[0, 1 << 20]),
        ("llama.embedding_length", &[0, 1 << 30]),
        ("llama.feed_forward_length", &[0, u32::MAX]),
        ("llama.attention.head_count", &[0, u32::MAX]),
        ("llama.attention.head_count_kv", &[0, u32::MAX]),
        ("llama.attention.key_length", &[0]),
        ("llama.rope.dimension_count", &[0, 1, 7, 64]),
    ] {
        for value in values {
            refused(&plain().with(key, Set::U32(*value)), "malformed", &format!("{key} is {value}"));
        }
    }
    // No number at all.
    let word = plain().with("llama.rope.freq_base", Set::Text("10000"));
    refused(&word, "missing-metadata", "llama.rope.freq_base");
}

/// Loads a file with a context of so many tokens: the error, which comes before any weight.
fn too_long(context: u32) -> Option<Error> {
    let file = plain().with("llama.context_length", Set::U32(u32::MAX)).write();
    pollster::block_on(async {
        let mut sources: Vec<Box<dyn ByteSource>> = vec![Box::new(SliceSource::new("x", file))];
        let directory = read_directory(&mut sources).await.unwrap();
        let context_length = engine::context_length(&directory, Some(f64::from(context))).unwrap();
        let options = LoadOptions { context_length, kv: KvType::F32, draft_tokens: 0 };
        if let Ok(rooms) = engine::rooms(&directory, options, 1)
            && emberglass::cpu::most_bytes().is_none_or(|most| rooms.cpu.bytes() < most)
        {
            return None;
        }
        let mut progress = |_| panic!("weights were read");
        TextEngine::load(cpu(), directory, &mut sources, options, &mut progress).await.err()
    })
}

/// A context so long that a table of it has no 32-bit size: refused before anything is allocated.
#[test]
fn a_context_beyond_all_memory_is_refused() {
    assert_eq!(too_long(u32::MAX).unwrap().code(), "out-of-memory");
}

#[test]
fn a_context_beyond_the_memory_of_this_machine_is_refused_with_what_helps() {
    // Where the memory is known, and less than such a cache.
    let Some(error) = too_long(1 << 26) else {
        return eprintln!("not tried: this machine's memory has room for it");
    };
    let said = error.to_string();
    assert_eq!(error.code(), "out-of-memory");
    let told = [
        "Of it the cache for a context of 67108864 tokens takes ",
        "(f32)",
        "What helps: ",
        "a context of at most ",
    ];
    assert!(told.iter().all(|part| said.contains(part)), "{said}");
}

#[test]
fn rope_freqs_are_a_tensor_like_any_other() {
    let with = |dims: &[u64], values: &[f32]| plain().with_floats("rope_freqs.weight", dims, values);
    refused(&with(&[3], &[1.0; 3]), "shape-mismatch", "rope_freqs.weight");
    refused(&with(&[4, 4], &[1.0; 16]), "shape-mismatch", "rope_freqs.weight");
    refused(&with(&[4000], &[1.0; 4000]), "shape-mismatch", "rope_freqs.weight");
    refused(&with(&[16], &[0.0; 16]), "malformed", "rope_freqs.weight holds 0");
    refused(&with(&[16], &[-1.0; 16]), "malformed", "rope_freqs.weight holds -1");
    refused(&with(&[16], &[f32::NAN; 16]), "not-finite", "tensor rope_freqs.weight");
    // What a file claims is not allocated, whether its size is known or not.
    for elements in [1u64 << 28, 1 << 34, 1 << 60] {
        let mut claimed = with(&[16], &[1.0; 16]);
        claimed.tensor("rope_freqs.weight").dims = vec![elements];
        let bytes = claimed.write();
        for (source, code) in [
            (SliceSource::new("x", bytes.clone()), "truncated"),
            (SliceSource::new("x", bytes.clone()).without_size(), "shape-mismatch"),
        ] {
            let error = pollster::block_on(load_shards(cpu(), vec![Box::new(source)])).err().unwrap();
            assert_eq!(error.code(), code, "{elements}: {error}");
        }
    }
    // Divisors are what the type llama3 is.
    let typed = |file: GgufFile| file.with("llama.rope.scaling.type", Set::Text("llama3"));
    pollster::block_on(async {
        let divisors: Vec<f32> = (0..16).map(|i| 1.0 + i as f32).collect();
        let divided = logits(cpu(), &with(&[16], &divisors)).await;
        assert_eq!(apart(&divided, &logits(cpu(), &typed(with(&[16], &divisors))).await), 0.0);
        assert!(apart(&divided, &logits(cpu(), &plain()).await) > 1e-3);
    });
}

#[test]
fn a_file_that_is_not_given_is_an_error() {
    let whole = GgufFile::open("llama-rope-freqs");
    let split = |file: &GgufFile, no: u32| {
        let count = whole.tensors.len() as u32;
        let file = file.clone().with("split.no", Set::U32(no)).with("split.count", Set::U32(2));
        file.with("split.tensors.count", Set::U32(count))
    };
    let (mut first, mut second) = (split(&whole, 0), split(&whole, 1));
    first.tensors.retain(|tensor| tensor.name != "rope_freqs.weight");
    second.tensors.retain(|tensor| tensor.name == "rope_freqs.weight");
    second.keys.retain(|(key, ..)| key.starts_with("split."));
    let source =
        |file: &GgufFile| -> Box<dyn ByteSource> { Box::new(SliceSource::new("shard", file.write())) };
    pollster::block_on(async {
        let mut engine = load_shards(cpu(), vec![source(&first), source(&second)]).await.unwrap();
        as_llama_cpp(&mut engine, "llama-rope-freqs").await;

        let mut sources = vec![source(&first), source(&second)];
        let directory = read_directory(&mut sources).await.unwrap();
        sources.truncate(1);
        let options = LoadOptions { context_length: 64, kv: KvType::F32, draft_tokens: 0 };
        let loading = TextEngine::load(cpu(), directory, &mut sources, options, &mut |_| Ok(())).await;
        let error = loading.err().unwrap();
        assert_eq!(error.code(), "split-mismatch");
        assert!(error.to_string().contains("rope_freqs.weight is in file 2"), "{error}");

        // A later shard cannot say more of the model than the first.
        let louder = second.clone().with("llama.attention.clamp_kqv", Set::F32(8.0));
        let error = load_shards(cpu(), vec![source(&first), source(&louder)]).await.err().unwrap();
        assert_eq!(error.code(), "split-mismatch");
        assert!(error.to_string().contains("llama.attention.clamp_kqv"), "{error}");
    });
}

#[test]
fn recommended_sampling_never_keeps_a_file_from_loading() {
    let file = plain()
        .with("general.sampling.temp", Set::F32(0.25))
        .with("general.sampling.top_k", Set::I32(20))
        .with("general.sampling.penalty_last_n", Set::I32(-1))
        .with("general.sampling.top_p", Set::F32(7.0))
        .with("general.sampling.min_p", Set::Text("little"))
        .with("general.sampling.mirostat", Set::I32(2))
        .with("general.sampling.typ_p", Set::F32s(&[0.5]));
    let bytes = file.write();
    pollster::block_on(async {
        let mut sources: Vec<Box<dyn ByteSource>> = vec![Box::new(SliceSource::new("tiny.gguf", bytes))];
        let directory = read_directory(&mut sources).await.unwrap();
        let given = SamplingOverrides { top_k: Some(7), ..Default::default() };
        let defaults = SamplingDefaults::new(&directory.metadata, CONTEXT, &given).unwrap();
        let expected =
            Sampling { temperature: 0.25, top_k: 7, penalty_window: CONTEXT, ..Default::default() };
        assert_eq!(defaults.sampling(), expected);
        assert_eq!((defaults.temperature.from, defaults.top_k.from), (Origin::File, Origin::Option));
        let named: Vec<_> = defaults.not_applied.iter().map(|n| (n.key.as_str(), n.value.as_str())).collect();
        assert_eq!(
            named,
            [
                ("general.sampling.min_p", "little"),
                ("general.sampling.mirostat", "2"),
                ("general.sampling.top_p", "7"),
                ("general.sampling.typ_p", "an array"),
            ]
        );
        load_kept_as(cpu(), directory, sources, KvType::F32).await.unwrap();
    });
}

#[test]
fn weights_that_are_no_numbers_are_found() {
    for (name, at) in [
        ("blk.0.attn_q.weight", 0),
        ("blk.0.attn_q.weight", 1023),
        ("blk.0.ffn_down.weight", 500),
        ("token_embd.weight", 8000),
    ] {
        for bad in [half::f16::NAN, half::f16::INFINITY] {
            let mut file = plain();
            file.tensor(name).bytes[2 * at..2 * at + 2].copy_from_slice(&bad.to_le_bytes());
            refused(&file, "not-finite", &format!("tensor {name}"));
        }
    }
    for name in ["output_norm.weight", "blk.0.attn_norm.weight"] {
        let mut file = plain();
        file.tensor(name).bytes[4..8].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
        refused(&file, "not-finite", &format!("tensor {name}"));
    }
    let mut blocks = GgufFile::open("llama-bias-all");
    blocks.tensor("blk.1.attn_k.weight").bytes[34..36].copy_from_slice(&half::f16::NAN.to_le_bytes());
    refused(&blocks, "not-finite", "tensor blk.1.attn_k.weight");
    let mut bias = GgufFile::open("llama-bias-all");
    bias.tensor("blk.1.ffn_up.bias").bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    refused(&bias, "not-finite", "tensor blk.1.ffn_up.bias");
}

/// Numbers, but of a size that no sum can hold.
fn too_large() -> GgufFile {
    let mut file = plain();
    for name in ["blk.0.ffn_up.weight", "blk.0.ffn_gate.weight"] {
        // Rows of either sign, so that some gates are open.
        for (row, bytes) in file.tensor(name).bytes.chunks_exact_mut(64).enumerate() {
            let large = half::f16::from_f32(if row % 2 == 0 { 6e4 } else { -6e4 });
            bytes.as_chunks_mut::<2>().0.fill(large.to_le_bytes());
        }
    }
    let norm = file.tensor("blk.0.ffn_norm.weight");
    norm.bytes.as_chunks_mut::<4>().0.fill(1e30f32.to_le_bytes());
    file
}

async fn sums_that_are_no_numbers_are_found<B: Backend + 'static>(backend: B) {
    let mut engine = load(backend, &too_large()).await.unwrap();
    for _ in 0..2 {
        let error = greedy(&mut engine, &[104, 101], 4).await.unwrap_err();
        assert_eq!(error.code(), "not-finite");
        assert!(error.to_string().contains("the first logits"), "{error}");
    }
}

#[test]
fn sums_that_are_no_numbers_are_found_on_the_cpu() {
    pollster::block_on(sums_that_are_no_numbers_are_found(cpu()));
}

#[test]
fn sums_that_are_no_numbers_are_found_on_the_gpu() {
    pollster::block_on(async { sums_that_are_no_numbers_are_found(model::gpu().await).await });
}

/// A bias that K or V takes beyond the range of f16: told by every request, in its first tokens or later ones, and by no
/// other type of the cache. A model that cannot be warmed up with its first token can be loaded.
async fn what_a_cache_cannot_hold_is_told<B: Backend + 'static>(make: impl AsyncFn() -> B) {
    for name in ["blk.0.attn_k.bias", "blk.1.attn_v.bias"] {
        let mut file = GgufFile::open("llama-bias-all");
        file.tensor(name).bytes[8..12].copy_from_slice(&1e5f32.to_le_bytes());
        for kv in KvType::ALL {
            let mut sources: Vec<Box<dyn ByteSource>> = vec![Box::new(SliceSource::new("x", file.write()))];
            let directory = read_directory(&mut sources).await.unwrap();
            let mut engine = load_kept_as(make().await, directory, sources, kv).await.unwrap();
            engine.warm_up().await.unwrap();
            for _ in 0..2 {
                let answer = greedy(&mut engine, &[104, 101, 108], 4).await;
                let logits = engine.logits(&[104, 101], 1, false).await;
                if kv == KvType::F16 {
                    for error in [answer.unwrap_err(), logits.unwrap_err()] {
                        assert_eq!(error, Error::KvOverflow { kv: "f16" });
                        assert!(error.to_string().contains("load with the KV cache \"f32\""), "{error}");
                    }
                } else {
                    assert_eq!(answer.unwrap().len(), 4, "{name} {kv:?}");
                    assert!(logits.unwrap().iter().flatten().all(|logit| logit.is_finite()));
                }
            }
        }
    }
}

#[test]
fn what_a_cache_cannot_hold_is_told_on_the_cpu() {
    pollster::block_on(what_a_cache_cannot_hold_is_told(async || cpu()));
}

#[test]
fn what_a_cache_cannot_hold_is_told_on_the_gpu() {
    pollster::block_on(what_a_cache_cannot_hold_is_told(model::gpu));
}
