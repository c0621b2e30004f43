//! Each architecture and each weight format against llama.cpp: tiny random models with its token ids, greedy tokens and logits, which it computed
//! with every tensor read as F32 (`tests/data/arch`, made outside this repository; the README there says how).
use std::path::{Path, PathBuf};

use emberglass::cpu::Bits;
use emberglass::engine::LoadOptions;
use emberglass::graph::{Backend, KvType};
use emberglass::{ByteSource, FileSource, TextEngine, engine, read_directory};

use crate::{answers, model};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/arch")
}

/// The cases, by name.
fn cases() -> Vec<String> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let models = files.filter(|path| path.extension().is_some_and(|extension| extension == "gguf"));
    let mut names: Vec<String> =
        models.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    assert!(names.len() >= 20, "{names:?}");
    names
}

async fn load<B: Backend + 'static>(backend: B, name: &str, kv: KvType) -> TextEngine<B> {
    let mut sources: Vec<Box<dyn ByteSource>> =
        vec![Box::new(FileSource::open(folder().join(format!("{name}.gguf"))).unwrap())];
    let directory = read_directory(&mut sources).await.unwrap();
    let context_length = engine::context_length(&directory, None).unwrap();
    let options = LoadOptions { context_length, kv, draft_tokens: 0 };
    TextEngine::load(backend, directory, &mut sources, options, &mut |_| Ok(())).await.unwrap()
}

async fn as_llama_cpp<B: Backend + 'static>(backend: B, name: &str) {
    let text = std::fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
    let mut engine = load(backend, name, KvType::F32).await;
    answers::check(&mut engine, name, &serde_json::from_str(&text).unwrap(), &[1, 64]).await;
}

#[test]
fn answers_are_llama_cpps_on_the_cpu() {
    for name in cases() {
        pollster::block_on(as_llama_cpp(model::cpu(Bits::Sixteen), &name));
    }
}

#[test]
fn answers_are_llama_cpps_on_the_gpu() {
    // Of the weight formats a mix or two: `tests/ops.rs` has every format's kernels.
    let all = std::env::var_os("EMBERGLASS_EXHAUSTIVE").is_some();
    for name in cases().into_iter().filter(|name| all || !name.starts_with("type-")) {
        pollster::block_on(async { as_llama_cpp(model::gpu().await, &name).await });
    }
}

/// What each architecture's graph becomes, of the first layers: a fold that is lost costs a dispatch a layer, and nothing
/// else would show it. `EMBERGLASS_BLESS=1` writes the files anew.
#[test]
fn ops_are_as_they_were() {
    let mut different = Vec::new();
    for name in cases() {
        let path = folder().join(format!("{name}.gguf"));
        let mut sources: Vec<Box<dyn ByteSource>> = vec![Box::new(FileSource::open(&path).unwrap())];
        let directory = pollster::block_on(read_directory(&mut sources)).unwrap();
        let text = emberglass::model::ops_as_text(&directory).unwrap();
        let kept = folder().join(format!("{name}.ops.txt"));
        if std::env::var_os("EMBERGLASS_BLESS").is_some() {
            std::fs::write(&kept, &text).unwrap();
        }
        if std::fs::read_to_string(&kept).unwrap_or_default() != text {
            println!("--- {name}\n{text}");
            different.push(name);
        }
    }
    assert!(different.is_empty(), "{different:?}");
}
