//! Each architecture and each weight format against llama.cpp: tiny random models with its token ids, greedy tokens and
//! logits, which it computed with every tensor read as F32 (`tests/data/arch`, made outside this repository; the README
//! there says how). The folder `variations` has what files of these architectures may have, leave out or write in another
//! way.

use std::path::{Path, PathBuf};

use emberglass::cpu::Bits;
use emberglass::engine::LoadOptions;
use emberglass::graph::{Backend, KvType};
use emberglass::{ByteSource, FileSource, SliceSource, TextEngine, engine, read_directory};

use crate::{answers, model};

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

/// Whether a model is there for its weight formats alone.
fn is_of_a_format(model: &Path) -> bool {
    let name = model.file_stem().unwrap().to_str().unwrap();
    name.starts_with("type-") || name.starts_with("mix-")
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
    // The header alone says the same of every model as loading it does.
    let header = engine::inspect(&directory, context_length, kv).unwrap();
    let options = LoadOptions { context_length, kv, draft_tokens: 0 };
    let engine = TextEngine::load(backend, directory, &mut sources, options, &mut |_| Ok(())).await.unwrap();
    assert_eq!(&header.facts, engine.facts());
    assert_eq!(header.has_chat_template, engine.template().is_present());
    engine
}

async fn as_llama_cpp<B: Backend + 'static>(backend: B, model: &Path) {
    let text = std::fs::read_to_string(model.with_extension("json")).unwrap();
    let mut engine = load(backend, model, KvType::F32).await;
    let name = model.file_stem().unwrap().to_str().unwrap();
    answers::check(&mut engine, name, &serde_json::from_str(&text).unwrap(), &[1, 64]).await;
}

#[test]
fn answers_are_llama_cpps_on_the_cpu() {
    for model in [models("arch"), models("arch/variations")].concat() {
        pollster::block_on(as_llama_cpp(model::cpu(Bits::Sixteen), &model));
    }
}

async fn on_the_gpu(models: Vec<PathBuf>) {
    for model in models {
        as_llama_cpp(model::gpu().await, &model).await;
    }
}

#[test]
fn answers_are_llama_cpps_on_the_gpu() {
    let mut models = models("arch");
    // `tests/ops.rs` has every format's kernels.
    models.retain(|model| !is_of_a_format(model));
    pollster::block_on(on_the_gpu(models));
}

#[test]
#[ignore = "a minute on a software adapter; cargo xtask test --exhaustive and the GPU bundle run it"]
fn formats_and_variations_are_llama_cpps_on_the_gpu() {
    let mut formats = models("arch");
    formats.retain(|model| is_of_a_format(model));
    pollster::block_on(on_the_gpu([formats, models("arch/variations")].concat()));
}

/// What each architecture's graph becomes: a fold that is lost costs a dispatch a layer, and nothing else would show it.
/// `EMBERGLASS_BLESS=1` writes the files anew.
#[test]
fn ops_are_as_they_were() {
    let mut different = Vec::new();
    for model in models("arch").into_iter().filter(|model| !is_of_a_format(model)) {
        let mut sources: Vec<Box<dyn ByteSource>> = vec![Box::new(FileSource::open(&model).unwrap())];
        let directory = pollster::block_on(read_directory(&mut sources)).unwrap();
        let text = emberglass::model::ops_as_text(&directory).unwrap();
        let kept = model.with_extension("ops.txt");
        if std::env::var_os("EMBERGLASS_BLESS").is_some() {
            std::fs::write(&kept, &text).unwrap();
        }
        if std::fs::read_to_string(&kept).unwrap_or_default() != text {
            println!("--- {}\n{text}", model.display());
            different.push(model);
        }
    }
    assert!(different.is_empty(), "{different:?}");
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
