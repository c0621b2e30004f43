//! Speculative decoding of the real SmolLM2 file: every text is that of plain decoding, whatever ends it.

use crate::model;

use std::cell::Cell;

use emberglass::cpu::Bits;
use emberglass::engine::{LoadOptions, MAX_DRAFTS};
use emberglass::graph::Backend;
use emberglass::{Finish, GenerateOptions, Generation, Message, Prompt, Sampling, TextEngine};

/// How much is computed: software GPUs are slow.
struct Size {
    /// Most of a text.
    tokens: usize,
    /// Of the prompts, so many.
    prompts: usize,
    /// Where `max_tokens` ends the text.
    limits: &'static [usize],
    /// A stop string ends it at every so many bytes.
    stops: usize,
    /// Prompts that nearly fill the context.
    lengths: &'static [usize],
}

const FAST: Size =
    Size { tokens: 96, prompts: 4, limits: &[1, 2, 3, 5, 8, 13], stops: 5, lengths: &[495, 500, 511] };

const SLOW: Size = Size { tokens: 22, prompts: 2, limits: &[2, 7], stops: 17, lengths: &[508] };

async fn speculation<B: Backend + 'static>(backend: B, size: &Size) {
    let mut model = model::load_for_drafts(backend, MAX_DRAFTS).await;
    assert_eq!(model.draft_tokens(), B::MAX_DRAFTS, "a verification must have a step's very bits");
    texts_are_the_same(&mut model, size).await;
    every_end_is_the_same(&mut model, size).await;
    the_cache_holds_what_was_accepted(&mut model).await;
    off_where_draws_wait_for_each_other(&mut model).await;
}

/// A sample of what [`on_the_gpu_at_length`] tries.
#[test]
fn on_the_gpu() {
    pollster::block_on(async {
        let mut model = model::load_for_drafts(model::gpu().await, MAX_DRAFTS).await;
        assert_eq!(model.draft_tokens(), MAX_DRAFTS, "a verification must have a step's very bits");
        texts_are_the_same(&mut model, &Size { prompts: 1, ..SLOW }).await;
        the_cache_holds_what_was_accepted(&mut model).await;
    });
}

#[test]
#[ignore = "a minute on a software adapter; cargo xtask test --exhaustive and the GPU bundle run it"]
fn on_the_gpu_at_length() {
    pollster::block_on(async { speculation(model::gpu().await, &SLOW).await });
}

#[test]
fn on_the_cpu() {
    pollster::block_on(speculation(model::cpu(Bits::Sixteen), &FAST));
}

#[test]
fn eight_bit_activations_on_the_cpu() {
    pollster::block_on(async {
        let mut model = model::load_for_drafts(model::cpu(Bits::Eight), 3).await;
        texts_are_the_same(&mut model, &FAST).await;
    });
}

#[test]
fn too_many_drafts_are_refused() {
    pollster::block_on(async {
        let (directory, mut sources) = model::open().await;
        let options =
            LoadOptions { context_length: 64, kv: Default::default(), draft_tokens: MAX_DRAFTS + 1 };
        let cpu = model::cpu(Bits::Sixteen);
        let loading = TextEngine::load(cpu, directory, &mut sources, options, &mut |_| Ok(())).await;
        assert_eq!(loading.err().unwrap().code(), "invalid-option");
    });
}

const CODE: &str = "Repeat this text word for word:\n\ndef area(shape):\n    if shape.kind == \"circle\":\n        \
    return 3.14159 * shape.radius * shape.radius\n    if shape.kind == \"square\":\n        \
    return shape.side * shape.side\n    raise ValueError(\"unknown shape: \" + shape.kind)\n";

const LIST: &str = "Monday: bread, milk, eggs\nTuesday: bread, milk, apples\nWednesday: bread, milk, eggs\n\
    Thursday: bread, milk, apples\nFriday:";

fn chat(text: &str) -> Prompt {
    Prompt::Messages(vec![Message::new("user", text)])
}

/// Prose that begins anew.
fn prose() -> Prompt {
    let alice = std::fs::read_to_string(model::root::file("tests/data/alice.txt")).unwrap();
    let words: Vec<&str> = alice.split_whitespace().take(120).collect();
    Prompt::Text(format!("{}\n\n{}", words.join(" "), words[..8].join(" ")))
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        sampling: Sampling { temperature: 0.0, ..Default::default() },
        max_tokens: Some(max_tokens),
        ..Default::default()
    }
}

fn sampled(max_tokens: usize, seed: u64) -> GenerateOptions {
    GenerateOptions { sampling: Sampling { seed, ..Default::default() }, ..greedy(max_tokens) }
}

async fn generate<B: Backend + 'static>(
    model: &mut TextEngine<B>,
    prompt: &Prompt,
    options: &GenerateOptions,
) -> Generation {
    model.generate(prompt, options, &mut |_| (), &|| false).await.unwrap()
}

/// The same without speculation: a bias switches it off, and one of zero changes nothing else.
async fn plain<B: Backend + 'static>(
    model: &mut TextEngine<B>,
    prompt: &Prompt,
    options: &GenerateOptions,
) -> Generation {
    let mut options = options.clone();
    options.sampling.logit_bias = vec![(0, 0.0)];
    let done = generate(model, prompt, &options).await;
    assert_eq!(done.drafted, 0);
    done
}

fn same(what: &str, fast: &Generation, plain: &Generation) {
    assert_eq!(fast.tokens, plain.tokens, "{what}");
    assert_eq!((&fast.text, &fast.finish), (&plain.text, &plain.finish), "{what}");
}

async fn texts_are_the_same<B: Backend + 'static>(model: &mut TextEngine<B>, size: &Size) {
    let (mut drafted, mut accepted) = (0, 0);
    let prompts = [
        ("list", Prompt::Text(LIST.into())),
        ("question", chat("What is the capital of France?")),
        ("code", chat(CODE)),
        ("prose", prose()),
    ];
    for (name, prompt) in prompts.into_iter().take(size.prompts) {
        for (how, options) in [("greedy", greedy(size.tokens)), ("sampled", sampled(size.tokens, 3))] {
            let slow = plain(model, &prompt, &options).await;
            let fast = generate(model, &prompt, &options).await;
            same(&format!("{name}, {how}"), &fast, &slow);
            println!(
                "{name}, {how}: {} tokens in {} steps, {} of {} drafts accepted; {:.0} ms, plain {:.0} ms",
                fast.tokens.len(),
                fast.decode_steps,
                fast.accepted,
                fast.drafted,
                fast.decode_ms,
                slow.decode_ms,
            );
            if name != "question" {
                assert!(fast.accepted > 0, "{name}, {how}");
            }
            assert!(fast.accepted <= fast.drafted);
            (drafted, accepted) = (drafted + fast.drafted, accepted + fast.accepted);
        }
    }
    assert!(accepted < drafted, "none of {drafted} drafts was rejected");
}

async fn every_end_is_the_same<B: Backend + 'static>(model: &mut TextEngine<B>, size: &Size) {
    let prompt = Prompt::Text(LIST.into());
    let most = size.tokens.min(40);
    let whole = plain(model, &prompt, &greedy(most)).await;
    // What drew more tokens than stand in the text was cut in the middle.
    let cut = |done: &Generation| done.decode_steps + done.accepted + 1 > done.tokens.len() as u64;

    for &limit in size.limits {
        let done = generate(model, &prompt, &greedy(limit)).await;
        assert_eq!(done.tokens, whole.tokens[..limit]);
        assert_eq!(done.finish, Finish::Length);
    }

    let mut cuts = 0;
    for end in (10..whole.text.len()).step_by(size.stops) {
        // So long a string occurs once, and ends where it is wanted.
        let stop = whole.text[5..end].to_owned();
        let options = GenerateOptions { stop: vec![stop.clone()], ..greedy(most) };
        let mut shown = String::new();
        let done = model.generate(&prompt, &options, &mut |p| shown.push_str(p), &|| false).await.unwrap();
        assert_eq!(done.finish, Finish::StopString(stop));
        assert_eq!(done.tokens, whole.tokens[..done.tokens.len()]);
        assert_eq!(done.text, whole.text[..5]);
        assert_eq!(shown, done.text);
        cuts += u32::from(cut(&done));
    }
    assert!(cuts > 0, "no stop string fell among accepted drafts");

    let heard = Cell::new(0);
    let cancelled = || heard.get() >= 9;
    let done = model.generate(&prompt, &greedy(most), &mut |_| heard.set(heard.get() + 1), &cancelled).await;
    let done = done.unwrap();
    assert_eq!(done.finish, Finish::Aborted);
    assert_eq!(heard.get(), 9);
    assert_eq!(done.tokens, whole.tokens[..done.tokens.len()]);

    same("after all of that", &generate(model, &prompt, &greedy(most)).await, &whole);

    // The context ends among drafts: nothing is better foretold than more of the same.
    let long = GenerateOptions { ignore_end: true, ..greedy(usize::MAX) };
    for &length in size.lengths {
        let prompt = Prompt::Tokens(vec![500; length]);
        let slow = plain(model, &prompt, &long).await;
        let fast = generate(model, &prompt, &long).await;
        same("to the end of the context", &fast, &slow);
        assert_eq!(fast.finish, Finish::ContextFull);
        assert_eq!(fast.tokens.len(), 513 - length);
    }
}

/// A second turn goes on from the cache, in which rejected drafts have left what is not of the text.
async fn the_cache_holds_what_was_accepted<B: Backend + 'static>(model: &mut TextEngine<B>) {
    for seed in [3, 4] {
        let first = generate(model, &Prompt::Text(LIST.into()), &sampled(24, seed)).await;
        assert!(first.accepted < first.drafted, "no draft was rejected");
        let more = model.encode(&Prompt::Text("\n\nMonday:".into())).unwrap();
        let prompt = Prompt::Tokens([first.prompt.clone(), first.tokens.clone(), more].concat());
        let reused = generate(model, &prompt, &greedy(8)).await;
        assert!(reused.reused >= first.prompt.len() + first.tokens.len() - 1, "{} reused", reused.reused);
        generate(model, &Prompt::Tokens(vec![7]), &greedy(1)).await;
        let fresh = plain(model, &prompt, &greedy(8)).await;
        assert_eq!(fresh.reused, 0);
        same("a second turn", &reused, &fresh);
    }
}

async fn off_where_draws_wait_for_each_other<B: Backend + 'static>(model: &mut TextEngine<B>) {
    let repeating = Prompt::Text(LIST.into());
    let mut penalized = greedy(4);
    penalized.sampling.presence_penalty = 0.5;
    let mut open = sampled(4, 1);
    open.sampling.top_k = 0;
    for options in [penalized, open] {
        assert_eq!(generate(model, &repeating, &options).await.drafted, 0);
    }
}
