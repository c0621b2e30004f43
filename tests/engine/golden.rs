//! The real SmolLM2 file against an independent f64 implementation of the same file
//! (`tools/reference`), and the engine's paths against each other.

use crate::divergence;
use crate::model;
use crate::random;

use divergence::divergence;
use emberglass::cpu::Bits;
use emberglass::engine::LoadOptions;
use emberglass::engine::device::{Device, TuneOptions, choose};
use emberglass::graph::{Backend, KvType};
use emberglass::{Finish, GenerateOptions, Message, Prompt, Sampling, TextEngine};
use model::root::file;
use random::Random;
use serde_json::Value;

/// What is asked of a backend.
struct Bar {
    /// Mean KL divergence from the reference, below.
    mean_kl: f64,
    /// Share of positions with the reference's most likely token, above.
    top1: f64,
    /// Positions that are also computed one token at a time. Software GPUs are slow at it.
    alone: usize,
    /// Tokens of each greedy text that is compared.
    text: usize,
    /// Between one token at a time and many, no logit is further apart.
    noise: f32,
    /// A near tie: where the reference's best logit leads by no more than this, another token may win.
    tie: f64,
    /// Dispatches of a generated token, where each costs time; there it is one submit and one
    /// readback, too.
    dispatches: Option<u64>,
}

/// Where logits are compared and nothing else.
const LOGITS: Bar =
    Bar { mean_kl: 0.0, top1: 1.0, alone: 0, text: 0, noise: 0.0, tie: 0.0, dispatches: None };

/// Tokens of the reference's greedy texts.
const REFERENCE_TEXT: usize = 64;

/// One load serves all comparisons: compiling the kernels takes longer than the arithmetic.
async fn the_real_model<B: Backend + 'static>(backend: B, bar: &Bar) {
    let mut model = model::load(backend).await;
    logits_agree(&mut model, bar).await;
    greedy_text_agrees(&mut model, bar).await;
    conversation(&mut model, bar).await;
    options(&mut model).await;
    if bar.text == REFERENCE_TEXT {
        a_full_context_ends_the_text(&mut model).await;
    }
    errors_lose_nothing(&mut model).await;
}

#[test]
fn the_real_model_on_the_gpu() {
    // At most 5 dispatches a layer and 4 a token.
    let bar = Bar {
        mean_kl: 1e-4,
        top1: 0.995,
        alone: 64,
        text: REFERENCE_TEXT,
        noise: 5e-3,
        tie: 0.01,
        dispatches: Some(154),
    };
    pollster::block_on(async { the_real_model(model::gpu().await, &bar).await });
}

#[test]
fn the_real_model_on_the_cpu() {
    // Activations of sixteen bits; decode and prefill run the same sums.
    let bar = Bar {
        mean_kl: 1e-5,
        top1: 0.995,
        alone: 200,
        text: REFERENCE_TEXT,
        noise: 0.0,
        tie: 0.01,
        dispatches: None,
    };
    pollster::block_on(the_real_model(model::cpu(Bits::Sixteen), &bar));
}

/// As shipped.
#[test]
fn mixed_activations_on_the_cpu() {
    rounded_activations_on_the_cpu(Bits::Mixed, 5e-4, 0.985);
}

/// What the option costs. Enough that greedy text parts within a few tokens, so only logits are compared.
#[test]
fn eight_bit_activations_on_the_cpu() {
    rounded_activations_on_the_cpu(Bits::Eight, 5e-3, 0.95);
}

fn rounded_activations_on_the_cpu(bits: Bits, mean_kl: f64, top1: f64) {
    let (alone, text) = (200, REFERENCE_TEXT);
    let bar = Bar { mean_kl, top1, alone, text, noise: 0.0, tie: 0.5, dispatches: None };
    pollster::block_on(async {
        let mut model = model::load(model::cpu(bits)).await;
        logits_agree(&mut model, &bar).await;
    });
}

/// What kernels cost that round activations; those of the other tests do not.
async fn rounding_kernels_agree(kernels: &str, bar: Bar, positions: usize) {
    let backend = model::gpu_with(kernels.parse().unwrap()).await;
    let mut model = model::load(backend).await;
    let (tokens, wanted) = dump();
    let in_chunks = model.logits(&tokens[..positions], 96, false).await.unwrap();
    judge(&format!("{kernels}, prefill"), &bar, &wanted[..positions], &in_chunks);
    let one_by_one = model.logits(&tokens[..bar.alone], 1, false).await.unwrap();
    judge(&format!("{kernels}, one token at a time"), &bar, &wanted[..bar.alone], &one_by_one);
}

/// Where many tokens take one kernel and one takes the other: (kernels, mean KL).
const ROUNDING: [(&str, f64); 2] = [("lanes8+pairs1+f16/f16", 1e-4), ("lanes8+pairs1+dot4/memory", 1e-5)];

#[test]
fn rounding_kernels_on_the_gpu() {
    // The other is as exact as the CPU, which its kernels' tests hold it to.
    let (kernels, mean_kl) = ROUNDING[0];
    pollster::block_on(rounding_kernels_agree(kernels, Bar { mean_kl, top1: 0.96, alone: 6, ..LOGITS }, 32));
}

#[test]
#[ignore = "the figures of docs/NUMERICS.md; takes minutes"]
fn rounding_kernels_at_length() {
    for (kernels, mean_kl) in ROUNDING {
        let bar = Bar { mean_kl, top1: 0.99, alone: 60, ..LOGITS };
        pollster::block_on(rounding_kernels_agree(kernels, bar, 284));
    }
}

/// The kernels that the race takes on this adapter, which may round activations.
#[test]
#[ignore = "takes minutes on a software adapter; the GPU bundle runs it"]
fn raced_kernels_on_the_gpu() {
    pollster::block_on(async {
        let (directory, _) = model::open().await;
        let chosen =
            choose(Device::WebGpu, &directory, TuneOptions::default()).await.unwrap().kernels.unwrap();
        println!("{chosen}");
        assert!(chosen.wrong.is_empty(), "{:?}", chosen.wrong);
        let bar = Bar { mean_kl: 1e-4, top1: 0.99, alone: 60, ..LOGITS };
        rounding_kernels_agree(&chosen.kernels.to_string(), bar, 284).await;
    });
}

/// What the types of the KV cache cost, beside f32, which other tests of logits have: many tokens at once, and some alone.
async fn cache_types_agree<B: Backend + 'static>(make: impl AsyncFn() -> B, positions: usize, bar: Bar) {
    let tokens = &ids(&reference()["tokens"])[..positions];
    let mut exact = Vec::new();
    for (kv, mean_kl) in [(KvType::F32, 0.0), (KvType::F16, 1e-5), (KvType::Q8_0, 3e-3)] {
        let options = LoadOptions { context_length: model::CONTEXT, kv, draft_tokens: 0 };
        let mut model = model::load_with(make().await, options).await;
        let in_chunks = model.logits(tokens, 96, false).await.unwrap();
        if kv == KvType::F32 {
            exact = in_chunks;
            continue;
        }
        judge(&format!("{} cache", kv.name()), &Bar { mean_kl, ..bar }, &exact, &in_chunks);
        let one_by_one = model.logits(&tokens[..bar.alone], 1, false).await.unwrap();
        let noise = apart(&in_chunks[..bar.alone], &one_by_one);
        println!("prefill against decode: logits at most {noise:.2e} apart");
        assert!(noise <= bar.noise, "{noise}");
    }
}

/// The reference's greedy texts, with the cache that is taken when nobody asks for another.
async fn the_default_cache<B: Backend + 'static>(backend: B, text: usize) {
    let options = LoadOptions { context_length: model::CONTEXT, kv: KvType::default(), draft_tokens: 0 };
    let mut model = model::load_with(backend, options).await;
    assert_eq!(model.facts().kv, KvType::F16);
    greedy_text_agrees(&mut model, &Bar { text, tie: 0.01, ..LOGITS }).await;
}

#[test]
fn the_default_cache_on_the_cpu() {
    pollster::block_on(the_default_cache(model::cpu(Bits::Sixteen), REFERENCE_TEXT));
}

/// Few tokens: a software adapter is slow.
#[test]
fn the_default_cache_on_the_gpu() {
    pollster::block_on(async { the_default_cache(model::gpu().await, 12).await });
}

#[test]
fn cache_types_on_the_cpu() {
    let bar = Bar {
        mean_kl: 0.0,
        top1: 0.95,
        alone: 40,
        text: REFERENCE_TEXT,
        noise: 0.0,
        tie: 0.0,
        dispatches: None,
    };
    pollster::block_on(cache_types_agree(async || model::cpu(Bits::Sixteen), 284, bar));
}

/// Few tokens: the kernels' tests say the rest.
#[test]
fn cache_types_on_the_gpu() {
    // A sum in another order may round to another step of the cache, which is some hundred times what f32 rounds to.
    let bar = Bar {
        mean_kl: 0.0,
        top1: 0.85,
        alone: 8,
        text: REFERENCE_TEXT,
        noise: 0.5,
        tie: 0.0,
        dispatches: None,
    };
    pollster::block_on(cache_types_agree(model::gpu, 24, bar));
}

fn reference() -> Value {
    let text = std::fs::read_to_string(file("tests/data/reference.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

/// (tokens, logits by position) of the dump; its digest was checked when it was made.
fn dump() -> (Vec<u32>, Vec<Vec<f32>>) {
    let path = file(".cache/reference/logits.bin");
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}: `cargo xtask test` makes it"));
    let words: Vec<[u8; 4]> = bytes.as_chunks().0.to_vec();
    assert_eq!(&words[0], b"EGLG");
    let word = |i: usize| u32::from_le_bytes(words[i]);
    assert_eq!(word(1), 1, "version");
    let (positions, vocab) = (word(2) as usize, word(3) as usize);
    let tokens: Vec<u32> = (4..4 + positions).map(word).collect();
    let floats: Vec<f32> = words[4 + positions..].iter().map(|b| f32::from_le_bytes(*b)).collect();
    assert_eq!(floats.len(), positions * vocab);
    (tokens, floats.chunks_exact(vocab).map(<[f32]>::to_vec).collect())
}

fn judge(what: &str, bar: &Bar, reference: &[Vec<f32>], ours: &[Vec<f32>]) {
    assert_eq!(reference.len(), ours.len(), "{what}");
    let results: Vec<_> = reference.iter().zip(ours).map(|(r, o)| divergence(r, o)).collect();
    let n = results.len() as f64;
    let mean = results.iter().map(|(kl, _)| kl).sum::<f64>() / n;
    let top1 = results.iter().filter(|(_, same)| *same).count() as f64 / n;
    println!("{what}: {n} positions, mean KL {mean:.3e}, top-1 agreement {:.2} %", 100.0 * top1);
    assert!(mean < bar.mean_kl, "{what}: mean KL {mean}");
    assert!(top1 > bar.top1, "{what}: top-1 agreement {top1}");
}

#[test]
fn the_measure_can_fail() {
    let mut random = Random::new(1);
    let logits = random.floats(1000);
    let moved: Vec<f32> = logits.iter().map(|l| l + 0.1 * random.float()).collect();
    assert!(divergence(&logits, &logits).0.abs() < 1e-12);
    assert!(divergence(&logits, &moved).0 > 1e-4);
    let mut nan = logits.clone();
    nan[5] = f32::NAN;
    assert!(divergence(&logits, &nan).0.is_nan(), "and NaN is below no bound");
}

/// The largest difference of two logits.
fn apart(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

async fn logits_agree<B: Backend + 'static>(model: &mut TextEngine<B>, bar: &Bar) {
    let (tokens, wanted) = dump();
    assert_eq!(tokens, ids(&reference()["tokens"]));
    assert!(tokens.len() >= 200);
    let in_chunks = model.logits(&tokens, 96, false).await.unwrap();
    judge("prefill in chunks of 96", bar, &wanted, &in_chunks);
    let some = bar.alone;
    let one_by_one = model.logits(&tokens[..some], 1, false).await.unwrap();
    judge("one token at a time", bar, &wanted[..some], &one_by_one);
    // The same sums in another order: f32 noise of 30 layers, far below what changes a probability.
    let noise = apart(&in_chunks[..some], &one_by_one);
    println!("prefill against decode: logits at most {noise:.2e} apart");
    assert!(noise <= bar.noise, "{noise}");
    // Another cut, and a prefix from the cache: bit for bit, since a row's sums do not depend on its
    // neighbours.
    let cut = 100;
    model.logits(&tokens[..cut], 33, false).await.unwrap();
    let continued = model.logits(&tokens, 64, true).await.unwrap();
    assert_eq!(continued.len(), tokens.len() - cut);
    assert_eq!(apart(&in_chunks[cut..], &continued), 0.0, "chunk size or prefix reuse changed the result");
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        sampling: Sampling { temperature: 0.0, ..Default::default() },
        max_tokens: Some(max_tokens),
        ..Default::default()
    }
}

async fn generate<B: Backend + 'static>(
    model: &mut TextEngine<B>,
    prompt: &Prompt,
    options: &GenerateOptions,
) -> emberglass::Generation {
    model.generate(prompt, options, &mut |_| (), &|| false).await.unwrap()
}

async fn greedy_text_agrees<B: Backend + 'static>(model: &mut TextEngine<B>, bar: &Bar) {
    for chat in reference()["chats"].as_array().unwrap() {
        let messages = chat["messages"].as_array().unwrap();
        let messages: Vec<Message> = messages
            .iter()
            .map(|m| Message::new(m["role"].as_str().unwrap(), m["content"].as_str().unwrap()))
            .collect();
        let options = GenerateOptions { ignore_end: true, ..greedy(bar.text) };
        let done = generate(model, &Prompt::Messages(messages), &options).await;
        assert_eq!(done.prompt, ids(&chat["prompt"]), "{}: prompt", chat["name"]);
        let wanted = &ids(&chat["output"])[..bar.text];
        let margins = chat["margins"].as_array().unwrap().iter().map(|m| m.as_f64().unwrap());
        let margins: Vec<f64> = margins.take(bar.text).collect();
        // A near tie may fall either way, and then the texts part.
        let sure = margins.iter().position(|m| *m <= bar.tie).unwrap_or(bar.text);
        assert_eq!(done.tokens.len(), bar.text);
        let same = done.tokens.iter().zip(wanted).take_while(|(a, b)| a == b).count();
        println!("{}: the first {same} tokens equal, {sure} before the first near tie", chat["name"]);
        assert_eq!(done.tokens[..sure], wanted[..sure], "{}", chat["name"]);
        if sure < bar.text {
            led_along(model, &[done.prompt.as_slice(), wanted].concat(), &margins, bar).await;
        }
    }
}

/// The choices along the reference's text, where no step depends on an earlier tie.
async fn led_along<B: Backend + 'static>(
    model: &mut TextEngine<B>,
    text: &[u32],
    margins: &[f64],
    bar: &Bar,
) {
    let logits = model.logits(text, 128, false).await.unwrap();
    let first = text.len() - margins.len();
    let (mut agreed, mut clear) = (0, 0);
    for (step, margin) in margins.iter().enumerate() {
        let row = &logits[first + step - 1];
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let agrees = row.iter().position(|&l| l == top) == Some(text[first + step] as usize);
        assert!(agrees || *margin <= bar.tie, "step {step}: another token than one that leads by {margin}");
        agreed += usize::from(agrees);
        clear += usize::from(*margin > bar.tie);
    }
    println!("  led along it: {agreed} of {} steps agree, {clear} of them no near tie", margins.len());
}

/// A second turn reuses the first, and says the same as without reuse.
async fn conversation<B: Backend + 'static>(model: &mut TextEngine<B>, bar: &Bar) {
    let mut messages = vec![Message::new("user", "What is the capital of France?")];
    let first = generate(model, &Prompt::Messages(messages.clone()), &greedy(32)).await;
    assert!(first.text.contains("Paris"), "{}", first.text);
    assert_eq!(first.finish, Finish::Stop);
    messages.push(Message::new("assistant", first.text.clone()));
    messages.push(Message::new("user", "And of Italy?"));
    let reused = generate(model, &Prompt::Messages(messages.clone()), &greedy(24)).await;
    assert!(reused.reused >= first.prompt.len() + first.tokens.len() - 1, "{} reused", reused.reused);
    generate(model, &Prompt::Text("Something else".into()), &greedy(1)).await;
    let fresh = generate(model, &Prompt::Messages(messages), &greedy(24)).await;
    assert!(fresh.reused <= 1);
    assert_eq!(reused.tokens, fresh.tokens);
    if let Some(dispatches) = bar.dispatches {
        let (steps, traffic) = (fresh.decode_steps, fresh.decode_traffic);
        assert_eq!(traffic.dispatches, dispatches * steps);
        assert_eq!((traffic.submits, traffic.readbacks), (steps, steps));
    }
}

async fn options<B: Backend + 'static>(model: &mut TextEngine<B>) {
    let prompt = Prompt::Messages(vec![Message::new("user", "Count from one to ten.")]);
    let plain = generate(model, &prompt, &greedy(24)).await;

    let sampled = |seed, top_k| GenerateOptions {
        sampling: Sampling { temperature: 1.5, top_p: 1.0, min_p: 0.0, top_k, seed, ..Default::default() },
        ..greedy(16)
    };
    for top_k in [40, 0] {
        let one = generate(model, &prompt, &sampled(1, top_k)).await;
        let same = generate(model, &prompt, &sampled(1, top_k)).await;
        let other = generate(model, &prompt, &sampled(2, top_k)).await;
        assert_eq!(one.tokens, same.tokens, "the same seed");
        assert_ne!(one.tokens, other.tokens, "another seed");
    }

    // Forbid what was said first; the text must differ from its first token on.
    let mut forbid = greedy(8);
    forbid.sampling.logit_bias = vec![(plain.tokens[0], f32::NEG_INFINITY)];
    let forbidden = generate(model, &prompt, &forbid).await;
    assert!(!forbidden.tokens.contains(&plain.tokens[0]));

    // A heavy presence penalty over everything generated: no token twice in a row of 16.
    let mut penalized = greedy(16);
    penalized.sampling.presence_penalty = 100.0;
    penalized.sampling.penalty_window = 512;
    let done = generate(model, &prompt, &penalized).await;
    let distinct: std::collections::BTreeSet<_> = done.tokens.iter().collect();
    assert_eq!(distinct.len(), done.tokens.len(), "{:?}", done.tokens);

    // A stop string is not shown, and nothing after it is.
    let word = plain.text.split_whitespace().nth(2).unwrap().to_owned();
    let mut shown = String::new();
    let stopping = GenerateOptions { stop: vec![word.clone()], ..greedy(24) };
    let done = model.generate(&prompt, &stopping, &mut |p| shown.push_str(p), &|| false).await.unwrap();
    assert_eq!(done.finish, Finish::StopString(word.clone()));
    assert_eq!(done.text, plain.text[..plain.text.find(&word).unwrap()]);
    assert_eq!(shown, done.text);

    // Cancelling keeps the text so far, and the model goes on afterwards.
    let heard = std::cell::Cell::new(0);
    let stopped = model
        .generate(&prompt, &greedy(24), &mut |_| heard.set(heard.get() + 1), &|| heard.get() >= 3)
        .await
        .unwrap();
    assert_eq!(stopped.finish, Finish::Aborted);
    assert_eq!(stopped.tokens, plain.tokens[..stopped.tokens.len()]);
    assert!((3..8).contains(&stopped.tokens.len()));
    assert_eq!(generate(model, &prompt, &greedy(24)).await.tokens, plain.tokens);
}

/// When nothing else does.
async fn a_full_context_ends_the_text<B: Backend + 'static>(model: &mut TextEngine<B>) {
    let long = GenerateOptions { ignore_end: true, ..greedy(usize::MAX) };
    let prompt = Prompt::Tokens(vec![500; 500]);
    let full = generate(model, &prompt, &long).await;
    assert_eq!(full.finish, Finish::ContextFull);
    assert_eq!(full.tokens.len(), 13, "12 more cache entries, and one token that needs none");
}

async fn errors_lose_nothing<B: Backend + 'static>(model: &mut TextEngine<B>) {
    let fail = async |model: &mut TextEngine<B>, prompt: &Prompt, options: &GenerateOptions| {
        model.generate(prompt, options, &mut |_| (), &|| false).await.unwrap_err().code()
    };
    let text = |s: &str| Prompt::Text(s.to_owned());
    assert_eq!(fail(model, &Prompt::Tokens(vec![1; 512]), &greedy(1)).await, "context-overflow");
    assert_eq!(fail(model, &text(""), &greedy(1)).await, "empty-prompt");
    for messages in [vec![], vec![Message::new("system", ""), Message::new("user", "")]] {
        assert_eq!(fail(model, &Prompt::Messages(messages), &greedy(1)).await, "empty-prompt");
    }
    assert_eq!(fail(model, &Prompt::Tokens(vec![49_152]), &greedy(1)).await, "invalid-option");
    let hot =
        GenerateOptions { sampling: Sampling { temperature: f32::NAN, ..Default::default() }, ..greedy(1) };
    assert_eq!(fail(model, &text("a"), &hot).await, "invalid-option");
    // Too long by their lengths alone, of which the second may be made tokens and the others may not.
    let long = "word ".repeat(8 << 20);
    assert_eq!(fail(model, &text(&long), &greedy(1)).await, "context-overflow");
    assert_eq!(fail(model, &text(&long[..1 << 20]), &greedy(1)).await, "context-overflow");
    let message = Prompt::Messages(vec![Message::new("user", long.clone())]);
    assert_eq!(fail(model, &message, &greedy(1)).await, "context-overflow");
    let stops = GenerateOptions { stop: vec!["x".to_owned(); 2000], ..greedy(1) };
    assert_eq!(fail(model, &text("a"), &stops).await, "invalid-option");
    let empty = GenerateOptions { stop: vec!["x".to_owned(), String::new()], ..greedy(1) };
    assert_eq!(fail(model, &text("a"), &empty).await, "invalid-option");
    let forbid = |ids: std::ops::Range<u32>| GenerateOptions {
        sampling: Sampling {
            logit_bias: ids.map(|id| (id, f32::NEG_INFINITY)).collect(),
            ..Default::default()
        },
        ..greedy(2)
    };
    assert_eq!(fail(model, &text("a"), &forbid(0..49_152)).await, "invalid-option");
    assert_eq!(fail(model, &text("a"), &forbid(49_152..49_153)).await, "invalid-option");
    let only = generate(model, &text("a"), &forbid(0..49_151)).await;
    assert_eq!(only.tokens, [49_151; 2]);
    // A cancel before anything is computed.
    let stopped = model.generate(&text("a"), &greedy(1), &mut |_| (), &|| true).await.unwrap();
    assert_eq!((stopped.finish, stopped.tokens.len()), (Finish::Aborted, 0));
    let after = generate(
        model,
        &Prompt::Messages(vec![Message::new("user", "What is the capital of France?")]),
        &greedy(32),
    )
    .await;
    assert!(after.text.contains("Paris"));
}
