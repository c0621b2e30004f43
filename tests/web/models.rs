//! Whole models in the browser, beside llama.cpp's answers: a sample of what `tests/engine/arch.rs` runs natively.

use emberglass::cpu::Bits;
use emberglass::engine::LoadOptions;
use emberglass::graph::{Backend, KvType};
use emberglass::{ByteSource, CpuBackend, CpuOptions, SliceSource, TextEngine, engine, read_directory};
use wasm_bindgen_test::wasm_bindgen_test;

use crate::common::{answers, gpu_rig};

/// A model's file, and llama.cpp's answers.
macro_rules! case {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!("../data/arch/", $name, ".gguf")).as_slice(),
            include_str!(concat!("../data/arch/", $name, ".json")),
        )
    };
}

type Case = (&'static str, &'static [u8], &'static str);

async fn check<B: Backend + 'static>(backend: B, (name, file, text): Case) {
    let mut sources: Vec<Box<dyn ByteSource>> = vec![Box::new(SliceSource::new(name, file.to_vec()))];
    let directory = read_directory(&mut sources).await.unwrap();
    let context_length = engine::context_length(&directory, None).unwrap();
    let options = LoadOptions { context_length, kv: KvType::F32, draft_tokens: 0 };
    let loaded = TextEngine::load(backend, directory, &mut sources, options, &mut |_| Ok(())).await;
    let mut case: serde_json::Value = serde_json::from_str(text).unwrap();
    // A software adapter takes its time: the two shorter prompts of three.
    case["prompts"].as_array_mut().unwrap().truncate(2);
    answers::check(&mut loaded.unwrap(), name, &case, &[64]).await;
}

/// Norms of heads, windows and two tables of angles; LayerNorm and learned positions; norms of all heads, and YaRN.
#[wasm_bindgen_test]
async fn models_on_the_cpu() {
    for case in
        [case!("qwen2"), case!("gemma3"), case!("gpt2"), case!("olmo3"), case!("gemma2"), case!("phi2")]
    {
        check(CpuBackend::new(CpuOptions { bits: Bits::Sixteen, ..CpuOptions::default() }), case).await;
    }
}

#[wasm_bindgen_test]
async fn models_on_the_gpu() {
    for case in [case!("gemma3"), case!("stablelm-12b")] {
        check(gpu_rig::for_models().await, case).await;
    }
}
