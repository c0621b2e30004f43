//! Each architecture against llama.cpp: tiny random models with its token ids, greedy tokens and logits, which it computed
//! with every tensor read as F32 (`tests/data/arch`, made outside this repository; the README there says how). The folder
//! `variations` has what files of these architectures may have, leave out or write in another way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

#[path = "common/model.rs"]
mod model;

use std::path::{Path, PathBuf};

use emberglass::cpu::Bits;
use emberglass::engine::LoadOptions;
use emberglass::graph::{Backend, KvType};
use emberglass::{
    ByteSource, FileSource, Finish, GenerateOptions, Prompt, Sampling, SliceSource, TextEngine, engine,
    read_directory,
};
use serde_json::Value;

/// The models of a folder in `tests/data`.
fn models(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder);
    let mut models: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    models.retain(|path| path.extension().is_some_and(|extension| extension == "gguf"));
    models.sort();
    assert!(models.len() >= 15, "{models:?}");
    models
}

/// A file with one name in place of another of the same length.
fn renamed(model: &str, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/arch").join(model);
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("{model} has no {from}"));
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    bytes
}

async fn load<B: Backend + 'static>(backend: B, model: &Path, kv: KvType) -> TextEngine<B> {
    let mut sources: Vec<Box<dyn ByteSource>> = vec![Box::new(FileSource::open(model).unwrap())];
    let directory = read_directory(&mut sources).await.unwrap();
    let context_length = engine::context_length(&directory, None).unwrap();
    let options = LoadOptions { context_length, kv, draft_tokens: 0 };
    TextEngine::load(backend, directory, &mut sources, options, &mut |_| Ok(())).await.unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// Activations of 16 bits on the CPU are off by some 1e-4 of a logit. llama.cpp looks GELU up in a table of f16, which
/// moves its logits by up to 5e-3. To leave a feature out moves one by 0.05 at least (`features_off_max_diff`).
const LOGIT: f64 = 0.02;

async fn as_llama_cpp<B: Backend + 'static>(backend: B, model: &Path) {
    let text = std::fs::read_to_string(model.with_extension("json")).unwrap();
    let case: Value = serde_json::from_str(&text).unwrap();
    let name = &case["case"];
    let mut engine = load(backend, model, KvType::F32).await;
    for prompt in case["prompts"].as_array().unwrap() {
        let tokens = ids(&prompt["token_ids"]);
        let what = format!("{name}, {} tokens", tokens.len());
        let text = Prompt::Text(prompt["text"].as_str().unwrap().to_owned());
        assert_eq!(engine.encode(&text).unwrap(), tokens, "{what}: the prompt");
        let wanted = ids(&prompt["greedy_ids"]);
        // From a step on where two tokens are nearly as likely, texts may part.
        let sure = ids(&prompt["low_margins"]).first().map_or(wanted.len(), |step| *step as usize);
        let options = GenerateOptions {
            sampling: Sampling { temperature: 0.0, ..Default::default() },
            max_tokens: Some(wanted.len()),
            ignore_end: true,
            ..Default::default()
        };
        let done = engine.generate(&Prompt::Tokens(tokens.clone()), &options, &mut |_| (), &|| false).await;
        let done = done.unwrap();
        assert_eq!(done.finish, Finish::Length);
        assert_eq!(done.tokens[..sure], wanted[..sure], "{what}");
        for batch in [1, 64] {
            let logits = engine.logits(&tokens, batch, false).await.unwrap();
            let last = logits.last().unwrap();
            for pair in prompt["logits_first"].as_array().unwrap() {
                let (id, wanted) = (pair[0].as_u64().unwrap() as usize, pair[1].as_f64().unwrap());
                let ours = f64::from(last[id]);
                assert!(
                    (ours - wanted).abs() <= LOGIT,
                    "{what} by {batch}: logit {id} is {ours}, not {wanted}"
                );
            }
        }
    }
}

#[test]
fn answers_are_llama_cpps_on_the_cpu() {
    for model in [models("arch"), models("arch/variations")].concat() {
        pollster::block_on(as_llama_cpp(model::cpu(Bits::Sixteen), &model));
    }
}

async fn on_the_gpu(folder: &str) {
    for model in models(folder) {
        as_llama_cpp(model::gpu().await, &model).await;
    }
}

#[test]
fn answers_are_llama_cpps_on_the_gpu() {
    pollster::block_on(on_the_gpu("arch"));
}

#[test]
#[ignore = "a minute on a software adapter; cargo xtask test --exhaustive and the GPU bundle run it"]
fn variations_are_llama_cpps_on_the_gpu() {
    pollster::block_on(on_the_gpu("arch/variations"));
}

#[test]
fn what_is_missing_or_unknown_is_named() {
    for (model, from, to, code) in [
        ("gpt2.gguf", "blk.0.attn_qkv.bias", "blk.0.attn_qkv.bibs", "missing-tensor"),
        ("falcon.gguf", "blk.0.attn_norm.bias", "blk.0.attn_norm.bibs", "missing-tensor"),
        ("phi2.gguf", "output.bias", "output.bibs", "missing-tensor"),
        ("starcoder2.gguf", "blk.1.ffn_down.bias", "blk.1.ffn_down.bibs", "missing-tensor"),
        ("variations/granite-longrope.gguf", "rope_factors_long.w", "rope_factors_lone.w", "missing-tensor"),
        ("variations/stablelm-no-key.gguf", "blk.0.attn_k_norm", "blk.0.attn_j_norm", "missing-tensor"),
        ("qwen2.gguf", "blk.0.attn_q.bias", "blk.0.attn_q.bibs", "unsupported-model"),
        (
            "gemma3.gguf",
            "gemma3.attention.sliding_window",
            "gemma3.attention.sliding_windoo",
            "unsupported-model",
        ),
        ("falcon-40b.gguf", "blk.0.attn_norm_2.w", "blk.0.attn_norm_3.w", "unsupported-model"),
    ] {
        let mut sources: Vec<Box<dyn ByteSource>> =
            vec![Box::new(SliceSource::new(model, renamed(model, from, to)))];
        let error = pollster::block_on(async {
            let directory = read_directory(&mut sources).await.unwrap();
            let options = LoadOptions { context_length: 256, kv: KvType::F32, draft_tokens: 0 };
            let cpu = model::cpu(Bits::Sixteen);
            TextEngine::load(cpu, directory, &mut sources, options, &mut |_| Ok(())).await.err()
        });
        let error = error.unwrap_or_else(|| panic!("{model} without {from} loads"));
        assert_eq!(error.code(), code, "{error}");
        let named = if code == "missing-tensor" { from } else { to };
        assert!(error.to_string().contains(named), "{error}: {named}");
    }
}
