//! Each architecture and each weight format against llama.cpp: tiny random models with its token ids, greedy tokens and logits, which it computed
//! with every tensor read as F32 (`tests/data/arch`, made outside this repository; the README there says how).
use std::path::{Path, PathBuf};

use emberglass::cpu::Bits;
use emberglass::engine::LoadOptions;
use emberglass::graph::{Backend, KvType};
use emberglass::{
    ByteSource, FileSource, Finish, GenerateOptions, Prompt, Sampling, TextEngine, engine, read_directory,
};
use serde_json::Value;

use crate::model;

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
        vec![Box::new(FileSource::open(&folder().join(format!("{name}.gguf"))).unwrap())];
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

async fn as_llama_cpp<B: Backend + 'static>(backend: B, name: &str) {
    let text = std::fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
    let case: Value = serde_json::from_str(&text).unwrap();
    let mut engine = load(backend, name, KvType::F32).await;
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
