//! A whole language model of some kilobytes: metadata, tensors and weights are edited, then it loads and answers.

use arbitrary::{Arbitrary, Result, Unstructured};
use emberglass::engine::LoadOptions;
use emberglass::graph::KvType;
use emberglass::weights::StringArray;
use emberglass::weights::metadata::Value;
use emberglass::{
    ByteSource, CpuBackend, CpuOptions, GenerateOptions, Prompt, Sampling, SliceSource, TextEngine,
    read_directory,
};

use super::{Target, allowed};
use crate::gguf::{File, Tensor};
use crate::mutate::Random;

pub const TARGET: Target =
    Target { name: "model", about: "a tiny language model: load, prefill, decode", run, seeds, words: &[] };

const WIDTH: u64 = 64;
const FFN: u64 = 96;
/// `<unk>`, `<s>`, `</s>`, and the byte tokens.
const VOCAB: u64 = 3 + 256;
/// (type number, values a block, bytes a block).
const KINDS: [(u32, u64, u64); 8] =
    [(0, 1, 4), (1, 1, 2), (30, 1, 2), (2, 32, 18), (3, 32, 20), (6, 32, 22), (7, 32, 24), (8, 32, 34)];

/// A right file: one layer, all that the Llama architecture asks for.
pub fn file() -> File {
    let byte = |b| format!("<0x{b:02X}>");
    let tokens = ["<unk>", "<s>", "</s>"].into_iter().map(str::to_owned).chain((0..256).map(byte));
    let tokens: StringArray = tokens.collect();
    let types = [2, 3, 3].into_iter().chain([6; 256]).collect();
    let key = |key: &str, value: Value| (key.to_owned(), value);
    let keys = vec![
        key("general.architecture", Value::String("llama".into())),
        key("general.name", Value::String("fuzz".into())),
        key("llama.context_length", Value::Unsigned(64)),
        key("llama.embedding_length", Value::Unsigned(WIDTH)),
        key("llama.feed_forward_length", Value::Unsigned(FFN)),
        key("llama.block_count", Value::Unsigned(1)),
        key("llama.attention.head_count", Value::Unsigned(2)),
        key("llama.attention.head_count_kv", Value::Unsigned(1)),
        key("llama.attention.layer_norm_rms_epsilon", Value::Float(1e-5)),
        key("llama.rope.dimension_count", Value::Unsigned(32)),
        key("llama.rope.freq_base", Value::Float(1e4)),
        key("tokenizer.ggml.model", Value::String("llama".into())),
        key("tokenizer.ggml.tokens", Value::Strings(tokens)),
        key("tokenizer.ggml.scores", Value::Floats(vec![0.0; VOCAB as usize])),
        key("tokenizer.ggml.token_type", Value::Integers(types)),
        key("tokenizer.ggml.eos_token_id", Value::Unsigned(2)),
        key("tokenizer.chat_template", Value::String("{{ messages[0].content }}".into())),
    ];
    let tensors = [
        ("token_embd.weight", vec![WIDTH, VOCAB], 8),
        ("output_norm.weight", vec![WIDTH], 0),
        ("blk.0.attn_norm.weight", vec![WIDTH], 0),
        ("blk.0.attn_q.weight", vec![WIDTH, WIDTH], 2),
        ("blk.0.attn_k.weight", vec![WIDTH, WIDTH / 2], 6),
        ("blk.0.attn_v.weight", vec![WIDTH, WIDTH / 2], 1),
        ("blk.0.attn_output.weight", vec![WIDTH, WIDTH], 3),
        ("blk.0.ffn_norm.weight", vec![WIDTH], 0),
        ("blk.0.ffn_gate.weight", vec![WIDTH, FFN], 7),
        ("blk.0.ffn_up.weight", vec![WIDTH, FFN], 7),
        ("blk.0.ffn_down.weight", vec![FFN, WIDTH], 8),
    ];
    let tensors = tensors.into_iter().map(|(name, dims, kind)| tensor(name, dims, kind)).collect();
    File { keys, tensors }
}

/// A tensor with seeded values of a few tenths at most.
fn tensor(name: &str, dims: Vec<u64>, kind: u32) -> Tensor {
    let (_, block, bytes) = KINDS.into_iter().find(|known| known.0 == kind).unwrap_or(KINDS[0]);
    let count = dims.iter().fold(1u64, |a, &b| a.saturating_mul(b)).min(1 << 16);
    let length = (count / block).max(1) * bytes;
    let mut random = Random::new(dims.iter().sum::<u64>() ^ u64::from(kind));
    let mut data: Vec<u8> = (0..length).map(|_| random.bits() as u8).collect();
    let half = |at: &mut [u8], high: u8| at[1] = (at[1] & 0x81) | high;
    match kind {
        0 => data.chunks_exact_mut(4).for_each(|v| half(&mut v[2..], 0x3D)),
        1 => data.chunks_exact_mut(2).for_each(|v| half(v, 0x2C)),
        30 => data.chunks_exact_mut(2).for_each(|v| half(v, 0x3C)),
        // The scale, and the minimum where the format has one.
        _ => data.chunks_exact_mut(bytes as usize).for_each(|v| {
            half(&mut v[..2], 0x18);
            half(&mut v[2..4], if matches!(kind, 3 | 7) { 0x18 } else { 0 });
        }),
    }
    Tensor { name: name.to_owned(), dims, kind, data }
}

const NAMES: [&str; 12] = [
    "rope_freqs.weight",
    "output.weight",
    "output.bias",
    "blk.0.attn_q.bias",
    "blk.0.attn_k.bias",
    "blk.0.attn_v.bias",
    "blk.0.attn_output.bias",
    "blk.0.ffn_gate.bias",
    "blk.0.ffn_up.bias",
    "blk.0.ffn_down.bias",
    "blk.1.attn_norm.weight",
    "blk.0.attn_q.scale",
];
const KEYS: [&str; 21] = [
    "llama.rope.scaling.original_context_length",
    "llama.rope.scaling.attn_factor",
    "llama.rope.freq_base_swa",
    "llama.attention.sliding_window",
    "llama.attention.sliding_window_pattern",
    "llama.final_logit_softcapping",
    "llama.use_parallel_residual",
    "llama.rope.scaling.type",
    "llama.rope.scaling.factor",
    "llama.rope.scale_linear",
    "llama.vocab_size",
    "llama.attention.key_length",
    "llama.attention.value_length",
    "llama.attention.scale",
    "llama.expert_count",
    "llama.logit_scale",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.pre",
    "general.alignment",
];

fn number(u: &mut Unstructured) -> Result<u64> {
    Ok(match u.int_in_range(0..=5)? {
        0 => u.arbitrary()?,
        1 => 1 << u.int_in_range(0..=63)?,
        2 => {
            *u.choose(&[0, 1, 2, 31, 32, 33, 63, 64, 65, 96, 128, 256, 1 << 16, 1 << 31, 1 << 32, u64::MAX])?
        }
        _ => u.int_in_range(0..=300)?,
    })
}

fn value(u: &mut Unstructured) -> Result<Value> {
    Ok(match u.int_in_range(0..=9)? {
        0..=2 => Value::Unsigned(number(u)?),
        3 => Value::Signed(i64::arbitrary(u)?),
        4 => Value::Float(f64::from(f32::arbitrary(u)?)),
        5 => Value::Float(*u.choose(&[0.0, -1.0, 1.0, 1e30, f64::NAN, f64::INFINITY, -1e-30])?),
        6 => Value::Bool(u.arbitrary()?),
        7 => Value::String(
            (*u.choose(&["linear", "yarn", "longrope", "llama", "gpt2", "", "none", "default"])?).to_owned(),
        ),
        8 => Value::Integers(Vec::arbitrary(u)?),
        _ => Value::Floats(Vec::arbitrary(u)?),
    })
}

/// One edit. The keys that it adds are those of this architecture.
pub(super) fn edit(file: &mut File, u: &mut Unstructured, architecture: &str) -> Result<()> {
    match u.int_in_range(0..=9)? {
        0 | 1 => {
            let (_, old) = u.choose_iter(file.keys.iter_mut())?;
            *old = value(u)?;
        }
        2 => {
            let at = u.choose_index(file.keys.len())?;
            file.keys.remove(at);
        }
        3 => file.keys.push((u.choose(&KEYS)?.replacen("llama", architecture, 1), value(u)?)),
        4 => {
            let dims = Vec::from_iter((0..u.int_in_range(0..=4)?).map_while(|_| number(u).ok()));
            u.choose_iter(file.tensors.iter_mut())?.dims = dims;
        }
        5 => u.choose_iter(file.tensors.iter_mut())?.kind = u.int_in_range(0..=45)?,
        6 => {
            // Another type with the bytes that belong to it.
            let kind = u.choose(&KINDS)?.0;
            let old = u.choose_iter(file.tensors.iter_mut())?;
            *old = tensor(&old.name, old.dims.clone(), kind);
        }
        7 => {
            let at = u.choose_index(file.tensors.len())?;
            file.tensors.remove(at);
        }
        8 => {
            let dims = *u.choose(&[32, 64, 96, 16, 1, 1 << 40])?;
            file.tensors.push(tensor(u.choose(&NAMES)?, vec![dims], 0));
        }
        _ => {
            let data = &mut u.choose_iter(file.tensors.iter_mut())?.data;
            let at = u.choose_index(data.len())? & !1;
            let bits = *u.choose(&[0x7FFFu16, 0x7C00, 0xFC00, 0x7F80, 0xFFFF, 0])?;
            for (byte, new) in data.iter_mut().skip(at).zip(bits.to_le_bytes()) {
                *byte = new;
            }
        }
    }
    Ok(())
}

fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let mut file = file();
    for _ in 0..u.int_in_range(0..=3).unwrap_or(0) {
        if edit(&mut file, &mut u, "llama").is_err() {
            break;
        }
    }
    if let Err(error) = pollster::block_on(answer(file.bytes())) {
        allowed(&error);
    }
}

/// Loads the file and answers. Logits must be numbers.
pub(super) async fn answer(bytes: Vec<u8>) -> emberglass::Result<()> {
    let mut sources: Vec<Box<dyn ByteSource>> = vec![Box::new(SliceSource::new("fuzz.gguf", bytes))];
    let directory = read_directory(&mut sources).await?;
    let context_length = emberglass::engine::context_length(&directory, None)?.min(48);
    let options = LoadOptions { context_length, kv: KvType::F32, draft_tokens: 0 };
    let backend = CpuBackend::new(CpuOptions::default());
    let mut engine = TextEngine::load(backend, directory, &mut sources, options, &mut |_| Ok(())).await?;
    let options = GenerateOptions {
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        max_tokens: Some(4),
        ..GenerateOptions::default()
    };
    let prompt = Prompt::Text("Hi, é".into());
    engine.generate(&prompt, &options, &mut |_| {}, &|| false).await?;
    for row in engine.logits(&[1, 5, 7], 2, false).await? {
        assert!(
            row.iter().all(|logit| logit.is_finite()),
            "the model loaded and gives logits that are no numbers"
        );
    }
    Ok(())
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    (0..32u8).map(|i| (0..48u8).map(|j| i.wrapping_mul(37) ^ j.wrapping_mul(101)).collect()).collect()
}
