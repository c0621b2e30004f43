//! The tokenizer against ids of llama.cpp (`tests/data/tokenizer_smollm2.json`), on small
//! vocabularies built here, and its cost in memory and time.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use emberglass::error::Error;
use emberglass::text::{Segment, Special, Tokenizer};
use emberglass::weights::metadata::Value;
use emberglass::weights::{Directory, FileSource, Metadata, read_directory};

/// Counts the bytes allocated by this thread, so that tests in parallel do not disturb each other.
struct Counting;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn count(change: impl Fn(usize) -> usize) {
    let _ = LIVE.try_with(|live| {
        live.set(change(live.get()));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|live| live.wrapping_add(layout.size()));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // Saturating: memory may have been allocated by another thread.
        count(|live| live.saturating_sub(layout.size()));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The result of `work`, the most bytes it had allocated at once, and the bytes still allocated.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    (result, PEAK.get() - before, LIVE.get().saturating_sub(before))
}

fn smollm2_directory() -> Directory {
    let path = std::env::var("EMBERGLASS_MODEL")
        .unwrap_or_else(|_| ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf".to_owned());
    let file = FileSource::open(&path)
        .unwrap_or_else(|e| panic!("the model file is needed, and `cargo xtask test` fetches it: {e}"));
    pollster::block_on(read_directory(&mut [Box::new(file)])).unwrap()
}

fn smollm2() -> Tokenizer {
    Tokenizer::from_metadata(&smollm2_directory().metadata).unwrap()
}

#[derive(serde::Deserialize)]
struct Cases {
    cases: Vec<Expected>,
    #[serde(default)]
    pieces: Vec<Pieces>,
}

/// What each token of a text stands for.
#[derive(serde::Deserialize)]
struct Pieces {
    ids: Vec<u32>,
    bytes: Vec<Vec<u8>>,
}

#[derive(serde::Deserialize)]
struct Expected {
    text: String,
    ids: Vec<u32>,
}

fn cases() -> Cases {
    let path = std::env::var("EMBERGLASS_TOKENIZER_IDS")
        .unwrap_or_else(|_| "tests/data/tokenizer_smollm2.json".to_owned());
    let json = std::fs::read_to_string(path).unwrap();
    serde_json::from_str(&json).unwrap()
}

#[test]
fn ids_equal_those_of_llama_cpp() {
    let tokenizer = smollm2();
    let expected = cases().cases;
    assert!(expected.len() >= 200, "only {} strings", expected.len());
    let mut wrong = Vec::new();
    for Expected { text, ids } in &expected {
        let found = tokenizer.encode(text, Special::AsText).unwrap();
        if &found != ids {
            wrong.push(format!("{text:?}\n  found    {found:?}\n  expected {ids:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), expected.len(), wrong.join("\n"));
}

#[test]
fn token_bytes_equal_those_of_llama_cpp() {
    let tokenizer = smollm2();
    let pieces = cases().pieces;
    assert!(pieces.len() >= 20, "only {} strings", pieces.len());
    for Pieces { ids, bytes } in pieces {
        let found: Vec<&[u8]> = ids.iter().map(|&id| tokenizer.token_bytes(id)).collect();
        assert_eq!(found, bytes);
    }
}

#[test]
fn decoding_the_ids_gives_the_text_back() {
    let tokenizer = smollm2();
    for Expected { text, ids } in cases().cases {
        // A few bytes are not in this vocabulary; llama.cpp drops them too.
        let complete: usize = ids.iter().map(|&id| tokenizer.token_bytes(id).len()).sum();
        if complete == text.len() {
            assert_eq!(tokenizer.decode(&ids, true), text);
            let mut decoder = tokenizer.stream_decoder();
            let pieces: String = ids.iter().map(|&id| decoder.push(id)).collect();
            assert_eq!(pieces + &decoder.finish(), text);
        }
    }
}

#[test]
fn special_tokens_of_the_real_file() {
    let tokenizer = smollm2();
    assert_eq!(tokenizer.vocab_size(), 49_152);
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
    assert!(!tokenizer.add_bos());
    // <|endoftext|>, <|im_end|> and, as in llama.cpp, the repository separator <reponame>.
    assert_eq!(tokenizer.eos_ids(), [0, 2, 4]);
    assert!(tokenizer.is_end(2) && !tokenizer.is_end(1));
    assert_eq!(tokenizer.control_id("<|im_start|>"), Some(1));
    assert_eq!(tokenizer.control_id("<|im_start|>x"), None);
    assert_eq!(tokenizer.control_id("the"), None);

    let text = "<|im_start|>user\nhi<|im_end|>";
    let parsed = tokenizer.encode(text, Special::Parse).unwrap();
    assert_eq!(parsed, [1, 4093, 198, 6004, 2]);
    let plain = tokenizer.encode(text, Special::AsText).unwrap();
    assert!(plain.iter().all(|&id| !tokenizer.is_control(id)), "{plain:?}");
    assert_eq!(tokenizer.decode(&plain, true), text);
    assert_eq!(tokenizer.decode(&parsed, false), text);
    assert_eq!(tokenizer.decode(&parsed, true), "user\nhi");

    let segments = [Segment::Control(1), Segment::Text("user\n<|im_end|>".into()), Segment::Control(2)];
    let ids = tokenizer.encode_segments(&segments).unwrap();
    assert_eq!(ids.iter().filter(|&&id| id == 2).count(), 1);
    assert_eq!(ids.first(), Some(&1));
}

#[test]
fn streaming_never_gives_half_a_character() {
    let tokenizer = smollm2();
    let text = "👍🏽 family 👨‍👩‍👧‍👦 𝕳𝖊 漢字 é 🇩🇪";
    let ids = tokenizer.encode(text, Special::AsText).unwrap();
    let mut decoder = tokenizer.stream_decoder();
    let mut pieces = Vec::new();
    for &id in &ids {
        let piece = decoder.push(id);
        assert!(!piece.contains('\u{FFFD}'), "{piece:?}");
        pieces.push(piece);
    }
    // The point of the test: some tokens complete no character.
    assert!(pieces.iter().any(String::is_empty));
    assert_eq!(pieces.concat(), text);
    assert_eq!(decoder.finish(), "");

    // Cut after the first token of an emoji: nothing, and the rest is one replacement character.
    let ids = tokenizer.encode("🦜", Special::AsText).unwrap();
    assert!(ids.len() > 1);
    let mut decoder = tokenizer.stream_decoder();
    assert_eq!(decoder.push(ids[0]), "");
    assert_eq!(decoder.finish(), "\u{FFFD}");
    // Followed by a letter instead: the letter must not be swallowed.
    let letter = tokenizer.encode("a", Special::AsText).unwrap()[0];
    assert_eq!(decoder.push(ids[0]), "");
    assert_eq!(decoder.push(letter), "\u{FFFD}a");
    // Control tokens and ids outside the vocabulary give nothing.
    assert_eq!(decoder.push(2) + &decoder.push(u32::MAX) + &decoder.finish(), "");
}

/// A bound for the wasm heap: the build is part of loading, which must stay under 64 MiB. (Pointers
/// are half the size there, so the figures here are the larger ones.)
#[test]
fn building_takes_little_memory() {
    let (directory, _, metadata) = measured(smollm2_directory);
    let (tokenizer, peak, retained) = measured(|| Tokenizer::from_metadata(&directory.metadata).unwrap());
    println!("metadata {metadata} bytes, tokenizer peak {peak}, retained {retained}");
    assert!(metadata < 3 << 20, "metadata retains {metadata} bytes");
    assert!(peak < 20 << 20, "building peaks at {peak} bytes");
    assert!(retained < 12 << 20, "the tokenizer retains {retained} bytes");

    let text = long_text(16_000);
    let (ids, peak, _) = measured(|| tokenizer.encode(&text, Special::AsText).unwrap());
    println!("encoding 16 000 characters ({} tokens) peak {peak} bytes", ids.len());
    assert!(peak < 4 << 20, "encoding peaks at {peak} bytes");
}

/// Prose, code, digits and other scripts in turn, `length` characters.
fn long_text(length: usize) -> String {
    let all = "The quick brown fox didn't jump over 1234567 lazy dogs.\n\n    if (x >= 10) { return foo(x, \"bar\"); }\n\t漢字とかな、Привет мир! 👍🏽 café — naïve…   ";
    all.chars().cycle().take(length).collect()
}

fn fastest(mut work: impl FnMut()) -> Duration {
    (0..3)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .min()
        .unwrap()
}

#[test]
fn long_texts_encode_fast() {
    let tokenizer = smollm2();
    // Unoptimized builds are some 15 times slower.
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 1500 } else { 100 });
    for (what, text) in [
        ("mixed", long_text(16_000)),
        ("spaces", " ".repeat(16_000)),
        ("newlines", "\n".repeat(16_000)),
        ("one word", "a".repeat(16_000)),
        ("punctuation", "!<".repeat(8_000)),
        ("digits", "7".repeat(16_000)),
    ] {
        let time = fastest(|| drop(tokenizer.encode(&text, Special::AsText).unwrap()));
        println!("{what}: {time:?}");
        assert!(time < limit, "{what} took {time:?}");
    }
}

// Small vocabularies.

fn strings<'a>(list: impl IntoIterator<Item = &'a str>) -> Value {
    Value::Strings(list.into_iter().collect())
}

/// A SentencePiece vocabulary: unknown, bos, eos, 256 byte tokens, then `pieces` with scores.
fn sentencepiece(pieces: &[(&str, f32, i32)]) -> Metadata {
    let mut texts = vec!["<unk>".to_owned(), "<s>".to_owned(), "</s>".to_owned()];
    texts.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    let mut types = vec![2, 3, 3];
    types.extend([6; 256]);
    let mut scores = vec![0.0; 259];
    for &(text, score, kind) in pieces {
        texts.push(text.to_owned());
        scores.push(score);
        types.push(kind);
    }
    let mut metadata = Metadata::default();
    metadata.insert("tokenizer.ggml.model", Value::String("llama".into()));
    let texts = strings(texts.iter().map(String::as_str));
    metadata.insert("tokenizer.ggml.tokens", texts);
    metadata.insert("tokenizer.ggml.scores", Value::Floats(scores));
    metadata.insert("tokenizer.ggml.token_type", Value::Integers(types));
    metadata
}

const PIECES: [(&str, f32, i32); 14] = [
    ("▁", -10.0, 1),    // 259
    ("a", -11.0, 1),    // 260
    ("b", -12.0, 1),    // 261
    ("c", -13.0, 1),    // 262
    ("ab", -1.0, 1),    // 263
    ("bc", -0.5, 1),    // 264
    ("▁a", -2.0, 1),    // 265
    ("aa", -3.0, 1),    // 266
    ("aaa", -3.0, 1),   // 267
    ("<", -14.0, 1),    // 268
    ("s", -15.0, 1),    // 269
    (">", -16.0, 1),    // 270
    ("<s", -4.0, 1),    // 271
    ("<user>", 0.0, 4), // 272
];

#[test]
fn sentencepiece_merges_by_score_then_from_the_left() {
    let tokenizer = Tokenizer::from_metadata(&sentencepiece(&PIECES)).unwrap();
    let encode = |text| tokenizer.encode(text, Special::AsText).unwrap();
    assert!(encode("").is_empty());
    // bc (-0.5) before ab (-1) and ▁a (-2).
    assert_eq!(encode("abc"), [265, 264]);
    assert_eq!(encode("ab"), [259, 263]);
    // Equal scores: leftmost first. ▁ a a a a → ▁a (-2) → ▁a a a a → ▁a aa a → ▁a aaa.
    assert_eq!(encode("aaaa"), [265, 267]);
    // A character outside the vocabulary becomes its bytes.
    assert_eq!(encode("é"), [259, 3 + 0xC3, 3 + 0xA9]);
    assert_eq!(encode("\n"), [259, 3 + 0x0A]);
    // Even though `<s` and `>` would merge into the control token's text.
    assert_eq!(encode("<s>"), [259, 271, 270]);
    assert_eq!(tokenizer.encode("<s>a", Special::Parse).unwrap(), [1, 265]);
    // A user-defined token is matched first, and the space prefix follows it again.
    assert_eq!(encode("b<user>a"), [259, 261, 272, 265]);
}

#[test]
fn sentencepiece_decodes_bytes_and_spaces() {
    let tokenizer = Tokenizer::from_metadata(&sentencepiece(&PIECES)).unwrap();
    assert!(tokenizer.add_bos());
    assert_eq!((tokenizer.bos(), tokenizer.eos_ids()), (Some(1), &[2][..]));
    for text in ["abc é 👍\n", " a", "<user>", "ab"] {
        let ids = tokenizer.encode(text, Special::AsText).unwrap();
        assert_eq!(tokenizer.decode(&ids, true), text);
    }
    assert_eq!(tokenizer.decode(&[1, 265, 2], false), "<s> a</s>");
    assert_eq!(tokenizer.decode(&[1, 265, 2], true), "a");
    let mut decoder = tokenizer.stream_decoder();
    let ids = [3 + 0xF0, 3 + 0x9F, 3 + 0x91, 3 + 0x8D, 265].map(|id| decoder.push(id));
    assert_eq!(ids, ["", "", "", "👍", " a"]);

    let text = || Segment::Text("a".into());
    let encode = |segments: &[Segment]| tokenizer.encode_segments(segments).unwrap();
    assert_eq!(encode(&[text()]), [1, 265]);
    assert_eq!(encode(&[Segment::Control(1), text(), text()]), [1, 265, 260]);
}

#[test]
fn sentencepiece_without_a_space_prefix() {
    let mut metadata = sentencepiece(&PIECES);
    metadata.insert("tokenizer.ggml.add_space_prefix", Value::Bool(false));
    metadata.insert("tokenizer.ggml.add_bos_token", Value::Bool(false));
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    assert_eq!(tokenizer.encode("ab a", Special::AsText).unwrap(), [263, 265]);
    assert_eq!(tokenizer.decode(&[265], true), " a");
    assert!(!tokenizer.add_bos());
}

/// A byte-level vocabulary: the 256 byte characters, then `tokens`.
fn byte_level(pre: &str, tokens: &[&str], merges: &[&str]) -> Metadata {
    let mut texts: Vec<String> = Vec::new();
    let mut next = 0x100;
    for byte in 0..=255u32 {
        let printable = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if printable { byte } else { next };
        next += u32::from(!printable);
        texts.push(char::from_u32(code).unwrap().to_string());
    }
    texts.extend(tokens.iter().map(|token| (*token).to_owned()));
    let mut metadata = Metadata::default();
    metadata.insert("tokenizer.ggml.model", Value::String("gpt2".into()));
    metadata.insert("tokenizer.ggml.pre", Value::String(pre.into()));
    let texts = strings(texts.iter().map(String::as_str));
    metadata.insert("tokenizer.ggml.tokens", texts);
    metadata.insert("tokenizer.ggml.merges", strings(merges.iter().copied()));
    metadata
}

/// How `pre` cuts `text`, seen through a vocabulary that merges nothing but whole words of `a`.
fn lengths(pre: &str, text: &str) -> Vec<String> {
    // With every pair of bytes of the text merging, tokens are whole words.
    let mut tokens: Vec<String> = Vec::new();
    let mut merges: Vec<String> = Vec::new();
    let spell = |c: char| if c == ' ' { 'Ġ' } else { c };
    let chars: Vec<char> = text.chars().map(spell).collect();
    for from in 0..chars.len() {
        for to in from + 2..=chars.len() {
            let word: String = chars[from..to].iter().collect();
            let head: String = chars[from..to - 1].iter().collect();
            let merge = format!("{head} {}", chars[to - 1]);
            if !tokens.contains(&word) {
                tokens.push(word);
                merges.push(merge);
            }
        }
    }
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let merges: Vec<&str> = merges.iter().map(String::as_str).collect();
    let tokenizer = Tokenizer::from_metadata(&byte_level(pre, &tokens, &merges)).unwrap();
    let ids = tokenizer.encode(text, Special::AsText).unwrap();
    let word = |&id: &u32| String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned();
    ids.iter().map(word).collect()
}

#[test]
fn pre_tokenizers_cut_as_their_models_do() {
    assert_eq!(lengths("gpt-2", "I'll 123  go!!"), ["I", "'ll", " 123", " ", " go", "!!"]);
    assert_eq!(lengths("smollm", "x 12  y"), ["x", " ", "1", "2", " ", " y"]);
    assert_eq!(lengths("llama-bpe", "I'LL 12345"), ["I", "'LL", " ", "123", "45"]);
    assert_eq!(lengths("qwen2", "I'LL 12!a"), ["I", "'LL", " ", "1", "2", "!a"]);
    assert_eq!(lengths("default", "a+b 1234"), ["a", "+", "b", " ", "123", "4"]);
}

#[test]
fn a_whole_word_that_is_a_token_may_ignore_the_merges() {
    let encode = |pre: &str| {
        let metadata = byte_level(pre, &["ab", "abc"], &["a b"]);
        let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
        tokenizer.encode("abc", Special::AsText).unwrap()
    };
    assert_eq!(encode("gpt-2"), [256, u32::from(b'c')]);
    assert_eq!(encode("llama-bpe"), [257]);
}

#[test]
fn user_defined_tokens_always_match_and_the_longest_wins() {
    let mut metadata = byte_level("gpt-2", &["<x>", "<x><y>", "<|eot_id|>"], &[]);
    let mut types = vec![1; 256];
    types.extend([4, 4, 1]);
    metadata.insert("tokenizer.ggml.token_type", Value::Integers(types));
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    let encode = |text| tokenizer.encode(text, Special::AsText).unwrap();
    assert_eq!(encode("<x>a<x><y>"), [256, u32::from(b'a'), 257]);
    // Control by its name, although the file calls it normal (as llama.cpp does).
    assert!(tokenizer.is_control(258) && tokenizer.is_end(258));
    assert_eq!(encode("<|eot_id|>").len(), 10);
}

#[test]
fn unusable_tokenizers_say_why() {
    let fails = |metadata: Metadata| Tokenizer::from_metadata(&metadata).unwrap_err();
    let error = fails(byte_level("klingon", &[], &[]));
    assert_eq!(error.code(), "unsupported-tokenizer");
    let message = error.to_string();
    assert!(message.contains("klingon") && message.contains("smollm"), "{message}");

    let mut metadata = byte_level("gpt-2", &[], &[]);
    metadata.insert("tokenizer.ggml.model", Value::String("bert".into()));
    let message = fails(metadata).to_string();
    assert!(message.contains("tokenizer bert is not supported"), "{message}");

    let error = fails(Metadata::default());
    assert!(matches!(error, Error::MissingMetadata { ref key, .. } if key == "tokenizer.ggml.model"));

    // The library indexes by the longest token: a merge longer than that must not reach it.
    let error = fails(byte_level("gpt-2", &["ab"], &["ab ab"]));
    assert_eq!(error.code(), "malformed");
    assert!(error.to_string().contains("abab"), "{error}");
    let error = fails(byte_level("gpt-2", &[], &["ab"]));
    assert!(error.to_string().contains("merge 0"), "{error}");

    let mut metadata = byte_level("gpt-2", &[], &[]);
    metadata.insert("tokenizer.ggml.token_type", Value::Integers(vec![1; 3]));
    assert!(fails(metadata).to_string().contains("3 token types for 256"));

    let mut metadata = sentencepiece(&PIECES);
    metadata.insert("tokenizer.ggml.scores", Value::Floats(vec![0.0]));
    assert!(fails(metadata).to_string().contains("1 token scores"));
}
