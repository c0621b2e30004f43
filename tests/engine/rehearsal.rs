//! What a header says of memory, against what loads take of it.

use std::path::{Path, PathBuf};

use emberglass::engine::{self, LoadOptions, rehearse, rooms};
use emberglass::graph::{Backend, KvType};
use emberglass::weights::Directory;
use emberglass::{ByteSource, FileSource, TextEngine, read_directory};

use crate::model;

/// Of each kind: a plain one, windows, stacked tensors of one type and of several, positions, biases, many formats.
fn some_models() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/arch");
    let mut models: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    models.retain(|path| path.extension().is_some_and(|extension| extension == "gguf"));
    models.sort();
    models
}

async fn open(path: &Path) -> (Directory, Vec<Box<dyn ByteSource>>) {
    let mut sources: Vec<Box<dyn ByteSource>> = vec![Box::new(FileSource::open(path).unwrap())];
    (read_directory(&mut sources).await.unwrap(), sources)
}

/// Bytes of a real load.
async fn loaded<B: Backend + 'static>(backend: B, path: &Path, options: LoadOptions) -> u64 {
    let (directory, mut sources) = open(path).await;
    let mut engine =
        TextEngine::load(backend, directory, &mut sources, options, &mut |_| Ok(())).await.unwrap();
    engine.warm_up().await.unwrap();
    engine.backend().allocated_bytes()
}

#[test]
fn the_header_tells_the_bytes_of_a_load_on_the_cpu() {
    pollster::block_on(async {
        let models = some_models();
        assert!(models.len() > 15, "{models:?}");
        for path in models {
            for (kv, draft_tokens) in [(KvType::F32, 0), (KvType::F16, 3), (KvType::Q8_0, 0)] {
                let (directory, _) = open(&path).await;
                let context_length = engine::context_length(&directory, None).unwrap();
                let options = LoadOptions { context_length, kv, draft_tokens };
                let told = rooms(&directory, options, 1).unwrap();
                let taken = loaded(model::cpu(Default::default()), &path, options).await;
                assert_eq!(told.cpu.held, taken, "{} {kv:?}", path.display());
                let facts = engine::inspect(&directory, context_length, kv).unwrap().facts;
                assert!(told.smallest_kv_bytes <= facts.kv_bytes);
                assert!(told.context_bytes_per_token * u64::from(context_length) <= facts.kv_bytes);
            }
        }
    });
}

/// Threads share one memory, and each needs little of its own.
#[test]
fn threads_share_the_weights() {
    pollster::block_on(async {
        let (directory, _) = model::open().await;
        let options = LoadOptions { context_length: 2048, kv: KvType::F16, draft_tokens: 0 };
        let alone = rooms(&directory, options, 1).unwrap().cpu.held;
        let four = rooms(&directory, options, 4).unwrap().cpu.held;
        assert!(four > alone && four - alone < 12 << 20, "{alone} {four}");
        let longer = rooms(&directory, LoadOptions { context_length: 4096, ..options }, 1).unwrap();
        let more = longer.cpu.held - alone;
        // Besides the cache there is a table of angles.
        assert!(
            more >= 2048 * longer.context_bytes_per_token
                && more <= 2048 * (longer.context_bytes_per_token + 512)
        );
    });
}

#[test]
fn a_rehearsal_takes_the_bytes_of_a_load_on_the_gpu() {
    pollster::block_on(async {
        for name in ["llama-spm.gguf", "gemma3.gguf", "gpt2.gguf", "qwen3.gguf"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/arch").join(name);
            let (directory, _) = open(&path).await;
            let options = LoadOptions { context_length: 256, kv: KvType::F16, draft_tokens: 2 };
            let mut backend = model::gpu().await;
            let told = rehearse(&mut backend, &directory, options, true).await.unwrap();
            let taken = loaded(model::gpu().await, &path, options).await;
            assert_eq!(told.allocated_bytes, taken, "{name}");
            assert!(
                told.token_ms > 0.0 && told.first_token_ms > told.token_ms && told.fill_ms > 0.0,
                "{told:?}"
            );
            // Nothing stays.
            let gpu = backend.gpu().clone();
            drop(backend);
            assert_eq!(gpu.allocated_bytes(), 0, "{name}");
        }
    });
}

/// By factors that only nonsense exceeds: other tests run beside this one. `tests/e2e/alone/can-run.test.mjs` has the real ones.
#[test]
fn a_part_tells_the_time_of_the_whole() {
    pollster::block_on(async {
        let (directory, _) = model::open().await;
        let options = LoadOptions { context_length: 512, kv: KvType::F16, draft_tokens: 0 };
        let mut backend = model::cpu(Default::default());
        let told = rehearse(&mut backend, &directory, options, false).await.unwrap();
        let mut engine = model::load_with(model::cpu(Default::default()), options).await;
        engine.warm_up().await.unwrap();
        let prompt = emberglass::Prompt::Tokens((50..90).cycle().take(128).collect());
        let options =
            emberglass::GenerateOptions { max_tokens: Some(17), ignore_end: true, ..Default::default() };
        let done = engine.generate(&prompt, &options, &mut |_| (), &|| false).await.unwrap();
        let (token, first) = (done.decode_ms / 16.0, done.prefill_ms);
        println!("{told:?}; really {token:.1} ms a token, {first:.1} ms to the first");
        for (told, real) in [(told.token_ms, token), (told.first_token_ms, first)] {
            assert!(told > 0.2 * real && told < 5.0 * real, "{told} against {real}");
        }
    });
}
