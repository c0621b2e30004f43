//! Perplexity of the default model on `tests/data/alice.txt`, beside that of the independent f64
//! implementation (`tools/reference/perplexity.py`). It takes minutes, so it runs when asked:
//! `cargo test --release --test engine perplexity:: -- --ignored --nocapture --test-threads 1`

use crate::divergence;
use crate::model;

use emberglass::TextEngine;
use emberglass::cpu::Bits;
use emberglass::engine::LoadOptions;
use emberglass::graph::{Backend, KvType};
use emberglass::text::{Special, Tokenizer};
use serde_json::Value;

fn read(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

struct Reference {
    windows: Vec<Vec<u32>>,
    /// Mean negative log-likelihood of each window, in nats.
    nll: Vec<f64>,
    perplexity: f64,
}

impl Reference {
    fn read() -> Self {
        let json: Value = serde_json::from_str(&read("perplexity.json")).unwrap();
        let list = |name: &str| json[name].as_array().unwrap().clone();
        let tokens: Vec<u32> = list("tokens").iter().map(|v| v.as_u64().unwrap() as u32).collect();
        let window = json["window"].as_u64().unwrap() as usize;
        let reference = Reference {
            windows: tokens.chunks_exact(window).map(<[u32]>::to_vec).collect(),
            nll: list("nll").iter().map(|v| v.as_f64().unwrap()).collect(),
            perplexity: json["perplexity"].as_f64().unwrap(),
        };
        assert_eq!(reference.windows.len(), reference.nll.len());
        assert!(tokens.len() >= 4000);
        assert!((perplexity(&reference.nll) - reference.perplexity).abs() < 1e-5);
        reference
    }
}

fn perplexity(nll: &[f64]) -> f64 {
    (nll.iter().sum::<f64>() / nll.len() as f64).exp()
}

/// The reference cut the text into tokens by itself.
#[test]
fn the_text_has_the_references_tokens() {
    let (directory, _) = pollster::block_on(model::open());
    let tokenizer = Tokenizer::from_metadata(&directory.metadata).unwrap();
    let tokens = tokenizer.encode(&read("alice.txt"), Special::AsText).unwrap();
    let wanted = Reference::read().windows.concat();
    assert_eq!(tokens[..wanted.len()], wanted);
}

/// -log p(token), in nats.
fn nll(logits: &[f32], token: u32) -> f64 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - top).exp()).sum();
    sum.ln() - f64::from(logits[token as usize] - top)
}

/// No window's mean may be further than `bar` nats from the reference's.
async fn measure<B: Backend + 'static>(name: &str, backend: B, bar: f64) {
    let reference = Reference::read();
    let mut model: TextEngine<B> = model::load(backend).await;
    let mut means = Vec::new();
    for (window, wanted) in reference.windows.iter().zip(&reference.nll) {
        let (inputs, targets) = (&window[..window.len() - 1], &window[1..]);
        let logits = model.logits(inputs, 128, false).await.unwrap();
        assert_eq!(logits.len(), targets.len());
        let sum: f64 = logits.iter().zip(targets).map(|(row, &token)| nll(row, token)).sum();
        means.push(sum / targets.len() as f64);
        let (n, mean) = (means.len(), means[means.len() - 1]);
        println!("{name}, window {n}: {mean:.6} nats a token, {:+.2e} of the reference's", mean - wanted);
    }
    println!("{name}: perplexity {:.4}, reference {:.4}", perplexity(&means), reference.perplexity);
    for (mean, wanted) in means.iter().zip(&reference.nll) {
        assert!((mean - wanted).abs() <= bar, "{mean}, not {wanted}");
    }
}

#[test]
#[ignore = "takes minutes"]
fn gpu() {
    pollster::block_on(async { measure("GPU", model::gpu().await, 1e-3).await });
}

#[test]
#[ignore = "takes a minute"]
fn cpu() {
    pollster::block_on(measure("CPU, 16 bits", model::cpu(Bits::Sixteen), 1e-3));
}

/// Eight bits cost something; how much is what the test prints.
#[test]
#[ignore = "takes a minute"]
fn cpu_eight() {
    pollster::block_on(measure("CPU, 8 bits", model::cpu(Bits::Eight), 0.02));
}

/// What K and V of f16 and q8_0 cost beside f32, over the first tokens of the text in one context.
async fn cache_loss<B: Backend + 'static>(name: &str, make: impl AsyncFn() -> B, count: usize) {
    let tokens = &Reference::read().windows.concat()[..=count];
    let (inputs, targets) = (&tokens[..count], &tokens[1..]);
    let mut exact: Vec<Vec<f32>> = Vec::new();
    for kv in KvType::ALL {
        let options = LoadOptions { context_length: 1024, kv, draft_tokens: 0 };
        let mut model = model::load_with(make().await, options).await;
        let logits = model.logits(inputs, 128, false).await.unwrap();
        assert_eq!(logits.len(), count);
        let mean =
            logits.iter().zip(targets).map(|(row, &token)| nll(row, token)).sum::<f64>() / count as f64;
        if exact.is_empty() {
            exact.clone_from(&logits);
        }
        let apart: Vec<_> = exact.iter().zip(&logits).map(|(a, b)| divergence::divergence(a, b)).collect();
        let kl = apart.iter().map(|(kl, _)| kl).sum::<f64>() / count as f64;
        let most = apart.iter().map(|(kl, _)| *kl).fold(0.0, f64::max);
        let top1 = apart.iter().filter(|(_, same)| *same).count() as f64 / count as f64;
        println!(
            "{name}, {} cache, {count} tokens: mean KL {kl:.2e}, largest {most:.2e}, top-1 {:.2} %, perplexity {:.4}, {} bytes",
            kv.name(),
            100.0 * top1,
            mean.exp(),
            model.facts().kv_bytes,
        );
        assert!(kl < 3e-3, "{kl}");
    }
}

#[test]
#[ignore = "takes a minute"]
fn cache_types_cpu() {
    pollster::block_on(cache_loss("CPU", async || model::cpu(Bits::Sixteen), 1000));
}

#[test]
#[ignore = "takes minutes"]
fn cache_types_gpu() {
    pollster::block_on(cache_loss("GPU", model::gpu, 256));
}

/// What activations of fewer bits cost beside those of sixteen, over the first tokens of the text in one context. Of another
/// file with `EMBERGLASS_MODEL`.
#[test]
#[ignore = "takes a minute"]
fn activation_bits_cpu() {
    pollster::block_on(async {
        let (directory, _) = model::open().await;
        let tokenizer = Tokenizer::from_metadata(&directory.metadata).unwrap();
        let mut tokens = tokenizer.encode_segments(&[]).unwrap();
        tokens.extend(tokenizer.encode(&read("alice.txt"), Special::AsText).unwrap());
        let tokens = &tokens[..=COUNT];
        let (inputs, targets) = (&tokens[..COUNT], &tokens[1..]);
        let options = LoadOptions { context_length: 1024, kv: KvType::F32, draft_tokens: 0 };
        let mut exact: Vec<Vec<f32>> = Vec::new();
        for bits in Bits::ALL.into_iter().rev() {
            let mut model = model::load_with(model::cpu(bits), options).await;
            let logits = model.logits(inputs, 128, false).await.unwrap();
            let mean =
                logits.iter().zip(targets).map(|(row, &token)| nll(row, token)).sum::<f64>() / COUNT as f64;
            if exact.is_empty() {
                exact.clone_from(&logits);
            }
            let apart: Vec<_> =
                exact.iter().zip(&logits).map(|(a, b)| divergence::divergence(a, b)).collect();
            let kl = apart.iter().map(|(kl, _)| kl).sum::<f64>() / COUNT as f64;
            let most = apart.iter().map(|(kl, _)| *kl).fold(0.0, f64::max);
            let top1 = apart.iter().filter(|(_, same)| *same).count() as f64 / COUNT as f64;
            println!(
                "{bits:?}: mean KL {kl:.2e}, largest {most:.2e}, top-1 {:.2} %, perplexity {:.4}",
                100.0 * top1,
                mean.exp(),
            );
            if bits == Bits::Mixed {
                assert!(kl < 1e-3, "{kl}");
            }
        }
    });
}

/// Tokens of [`activation_bits_cpu`].
const COUNT: usize = 512;
