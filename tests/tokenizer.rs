//! The tokenizer against ids of llama.cpp: of a real vocabulary (`tests/data/tokenizer_smollm2.json`) and of
//! small ones (`tests/data/vocabularies.json`); and its cost in memory and time.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use emberglass::error::Error;
use emberglass::text::{ChatTemplate, MAX_TEXT_BYTES, Message, Segment, Special, Tokenizer};
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

/// GPT-2's character for a byte.
fn byte_level_char(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    match printable(byte) {
        true => char::from(byte),
        false => {
            let before = (0..byte).filter(|&other| !printable(other)).count();
            char::from_u32(0x100 + before as u32).unwrap()
        }
    }
}

/// A byte-level vocabulary: the 256 byte characters, then `tokens`.
fn byte_level(pre: &str, tokens: &[&str], merges: &[&str]) -> Metadata {
    let mut texts: Vec<String> = (0..=255).map(|byte| byte_level_char(byte).to_string()).collect();
    texts.extend(tokens.iter().map(|token| (*token).to_owned()));
    let mut metadata = Metadata::default();
    metadata.insert("tokenizer.ggml.model", Value::String("gpt2".into()));
    metadata.insert("tokenizer.ggml.pre", Value::String(pre.into()));
    let texts = strings(texts.iter().map(String::as_str));
    metadata.insert("tokenizer.ggml.tokens", texts);
    metadata.insert("tokenizer.ggml.merges", strings(merges.iter().copied()));
    metadata
}

/// How `pre` cuts `text`, in bytes: in this vocabulary every part of it is a token, merged from its
/// beginning, so that tokens are whole words.
fn lengths(pre: &str, text: &str) -> Vec<usize> {
    let chars: Vec<char> = text.bytes().map(byte_level_char).collect();
    let mut tokens: Vec<String> = Vec::new();
    let mut merges: Vec<String> = Vec::new();
    for from in 0..chars.len() {
        for to in from + 2..=chars.len() {
            let word: String = chars[from..to].iter().collect();
            let head: String = chars[from..to - 1].iter().collect();
            if !tokens.contains(&word) {
                tokens.push(word);
                merges.push(format!("{head} {}", chars[to - 1]));
            }
        }
    }
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let merges: Vec<&str> = merges.iter().map(String::as_str).collect();
    let tokenizer = Tokenizer::from_metadata(&byte_level(pre, &tokens, &merges)).unwrap();
    let ids = tokenizer.encode(text, Special::AsText).unwrap();
    ids.iter().map(|&id| tokenizer.token_bytes(id).len()).collect()
}

/// `lengths` as words.
fn words<'t>(pre: &str, text: &'t str) -> Vec<&'t str> {
    let mut rest = text;
    let word = |length: usize| {
        let (word, after) = rest.split_at(length);
        rest = after;
        word
    };
    lengths(pre, text).into_iter().map(word).collect()
}

#[test]
fn pre_tokenizers_cut_as_in_llama_cpp() {
    #[derive(serde::Deserialize)]
    struct File {
        texts: Vec<String>,
        cuts: Vec<Cuts>,
    }
    #[derive(serde::Deserialize)]
    struct Cuts {
        names: Vec<String>,
        lengths: Vec<Vec<usize>>,
    }
    let file: File = serde_json::from_str(include_str!("data/pretokenizers.json")).unwrap();
    assert!(file.cuts.iter().map(|cuts| cuts.names.len()).sum::<usize>() >= 70);
    let mut wrong = Vec::new();
    for Cuts { names, lengths: expected } in &file.cuts {
        for name in names {
            for (text, expected) in file.texts.iter().zip(expected) {
                let found = lengths(name, text);
                if &found != expected {
                    wrong.push(format!("{name}: {text:?}\n  found    {found:?}\n  expected {expected:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn pre_tokenizers_cut_as_their_models_do() {
    assert_eq!(words("gpt-2", "I'll 123  go!!"), ["I", "'ll", " 123", " ", " go", "!!"]);
    assert_eq!(words("smollm", "x 12  y"), ["x", " ", "1", "2", " ", " y"]);
    assert_eq!(words("llama-bpe", "I'LL 12345"), ["I", "'LL", " ", "123", "45"]);
    assert_eq!(words("qwen2", "I'LL 12!a"), ["I", "'LL", " ", "1", "2", "!a"]);
    assert_eq!(words("default", "a+b 1234"), ["a", "+", "b", " ", "123", "4"]);
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

    let error = fails(byte_level("gpt-2", &[], &["ab"]));
    assert!(error.to_string().contains("merge 0"), "{error}");

    let mut metadata = byte_level("gpt-2", &[], &[]);
    metadata.insert("tokenizer.ggml.token_type", Value::Integers(vec![1; 3]));
    assert!(fails(metadata).to_string().contains("3 token types for 256"));

    let mut metadata = sentencepiece(&PIECES);
    metadata.insert("tokenizer.ggml.scores", Value::Floats(vec![0.0]));
    assert!(fails(metadata).to_string().contains("1 token scores"));

    let mut metadata = sentencepiece(&PIECES);
    metadata.insert("tokenizer.ggml.scores", Value::Floats(vec![f32::NAN; 273]));
    assert!(fails(metadata).to_string().contains("score of token 0"));

    let message = fails(byte_level("gpt-2", &["he", "he"], &[])).to_string();
    assert!(message.contains("tokens 256 and 257") && message.contains("\"he\""), "{message}");
    let error = fails(sentencepiece(&[("a", -1.0, 1), ("a", -2.0, 3)]));
    assert_eq!(error.code(), "malformed");

    // A key of which nothing is known may change the ids.
    let mut metadata = byte_level("gpt-2", &[], &[]);
    metadata.insert("tokenizer.ggml.shiny", Value::Bool(true));
    let error = fails(metadata);
    assert_eq!(error.code(), "unsupported-tokenizer");
    assert!(error.to_string().contains("tokenizer.ggml.shiny"), "{error}");

    for name in ["bos", "eos"] {
        let mut metadata = byte_level("gpt-2", &[], &[]);
        metadata.insert(format!("tokenizer.ggml.add_{name}_token"), Value::Bool(true));
        let message = fails(metadata).to_string();
        assert!(message.contains(&format!("tokenizer.ggml.{name}_token_id")), "{message}");
    }
}

/// A small vocabulary, what llama.cpp makes of texts with it, and the tokens that end a generation.
#[derive(serde::Deserialize)]
struct Small {
    name: String,
    model: String,
    pre: Option<String>,
    /// Tokens of the usual vocabulary that are left out.
    without: Vec<String>,
    tokens: Vec<Text>,
    types: Vec<i32>,
    base: String,
    scores: Option<Vec<String>>,
    merges: Option<Vec<String>>,
    keys: std::collections::BTreeMap<String, serde_json::Value>,
    runs: Vec<Run>,
    refused: bool,
    ends: Vec<u32>,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Text {
    String(String),
    Bytes(Vec<u8>),
}

#[derive(serde::Deserialize)]
struct Run {
    text: String,
    parse: bool,
    /// With the tokens that the model wants before and after a text.
    special: bool,
    ids: Vec<u32>,
}

impl Small {
    fn metadata(&self) -> Metadata {
        let mut metadata = match self.model.as_str() {
            "gpt2" => byte_level(self.pre.as_deref().unwrap(), &[], &[]),
            _ => sentencepiece(&[]),
        };
        let usual = metadata.strings("tokenizer.ggml.tokens").unwrap().clone();
        let kept = |text: &&[u8]| !self.without.iter().any(|gone| gone.as_bytes() == *text);
        let mut texts: Vec<&[u8]> = usual.iter().filter(kept).collect();
        let mut types: Vec<i32> = match self.model.as_str() {
            "gpt2" => vec![1; texts.len()],
            _ => [vec![2, 3, 3], vec![if self.base == "normal" { 1 } else { 6 }; 256]].concat(),
        };
        let mut scores = vec![0.0; texts.len()];
        texts.extend(self.tokens.iter().map(|text| match text {
            Text::String(text) => text.as_bytes(),
            Text::Bytes(bytes) => bytes,
        }));
        types.extend_from_slice(&self.types);
        metadata.insert("tokenizer.ggml.tokens", Value::Strings(texts.iter().collect()));
        metadata.insert("tokenizer.ggml.token_type", Value::Integers(types));
        if self.base == "none" {
            metadata.remove("tokenizer.ggml.token_type");
        }
        metadata.remove("tokenizer.ggml.scores");
        if let Some(texts) = &self.scores {
            scores.extend(texts.iter().map(|score| score.parse::<f32>().unwrap()));
            let whole = texts.iter().all(|score| score.parse::<i32>().is_ok());
            let scores = match whole {
                true => Value::Integers(scores.iter().map(|score| *score as i32).collect()),
                false => Value::Floats(scores),
            };
            metadata.insert("tokenizer.ggml.scores", scores);
        }
        if let Some(merges) = &self.merges {
            metadata.insert("tokenizer.ggml.merges", strings(merges.iter().map(String::as_str)));
        }
        for (key, value) in &self.keys {
            let value = match value {
                serde_json::Value::Bool(value) => Value::Bool(*value),
                serde_json::Value::String(value) => Value::String(value.clone()),
                value => Value::Unsigned(value.as_u64().unwrap()),
            };
            let key = if key.contains('.') { key.clone() } else { format!("tokenizer.ggml.{key}") };
            metadata.insert(key, value);
        }
        metadata
    }
}

#[test]
fn small_vocabularies_are_read_as_by_llama_cpp() {
    #[derive(serde::Deserialize)]
    struct File {
        cases: Vec<Small>,
    }
    let file: File = serde_json::from_str(include_str!("data/vocabularies.json")).unwrap();
    assert!(file.cases.len() >= 45);
    let mut wrong = Vec::new();
    for case in &file.cases {
        let name = &case.name;
        let tokenizer = match Tokenizer::from_metadata(&case.metadata()) {
            Ok(tokenizer) if !case.refused => tokenizer,
            Err(_) if case.refused => continue,
            other => {
                wrong.push(format!("{name}: {:?}", other.map(|_| "loads")));
                continue;
            }
        };
        if tokenizer.eos_ids() != case.ends {
            wrong.push(format!("{name}: ends {:?}, not {:?}", tokenizer.eos_ids(), case.ends));
        }
        for Run { text, parse, special, ids } in &case.runs {
            let found = match (special, parse) {
                (true, _) => tokenizer.encode_segments(&[Segment::Text(text.clone())]),
                (false, true) => tokenizer.encode(text, Special::Parse),
                (false, false) => tokenizer.encode(text, Special::AsText),
            };
            if found.as_ref() != Ok(ids) {
                wrong.push(format!("{name}: {text:?}\n  found    {found:?}\n  expected {ids:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Here llama.cpp gives the control token.
#[test]
fn merging_never_gives_a_control_token() {
    let merges = ["a b", "ab c", "abc d", "x abc"];
    let mut metadata = byte_level("gpt-2", &["ab", "abc", "abcd"], &merges);
    let mut types = vec![1; 256];
    types.extend([1, 3, 1]);
    metadata.insert("tokenizer.ggml.token_type", Value::Integers(types));
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    let encode = |text| tokenizer.encode(text, Special::AsText).unwrap();
    assert_eq!(encode("abc"), [256, u32::from(b'c')]);
    // By way of it other tokens are still reached.
    assert_eq!(encode("abcd"), [258]);
    assert_eq!(tokenizer.encode("abc", Special::Parse).unwrap(), [257]);

    let tokenizer = Tokenizer::from_metadata(&sentencepiece(&[
        ("a", -1.0, 1),
        ("b", -1.0, 1),
        ("ab", -1.0, 3),
        ("▁", -1.0, 1),
    ]));
    assert_eq!(tokenizer.unwrap().encode("ab", Special::AsText).unwrap(), [262, 259, 260]);
}

#[test]
fn a_character_without_a_token_is_the_unknown_token_or_an_error() {
    // No byte tokens: llama.cpp ends with an exception here, SentencePiece gives its unknown token.
    let build = |first: &str, kind: i32| {
        let mut metadata = sentencepiece(&[]);
        metadata.insert("tokenizer.ggml.tokens", strings([first, "<s>", "</s>", "▁", "a"]));
        metadata.insert("tokenizer.ggml.token_type", Value::Integers(vec![kind, 3, 3, 1, 1]));
        metadata.insert("tokenizer.ggml.scores", Value::Floats(vec![0.0; 5]));
        Tokenizer::from_metadata(&metadata).unwrap()
    };
    for tokenizer in [build("<unk>", 2), build("<unk>", 1), build("?", 2)] {
        assert_eq!(tokenizer.encode("aéa", Special::AsText).unwrap(), [3, 4, 0, 4]);
    }
    let error = build("b", 1).encode("aé", Special::AsText).unwrap_err();
    assert_eq!(error.code(), "tokenizer");
    assert!(error.to_string().contains("\"é\""), "{error}");
}

#[test]
fn byte_tokens_are_bytes_by_their_texts() {
    let mut metadata = sentencepiece(&PIECES);
    metadata.remove("tokenizer.ggml.token_type");
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    let ids = tokenizer.encode("é\n", Special::AsText).unwrap();
    assert_eq!(tokenizer.decode(&ids, true), "é\n");
    // Not a byte: the text of a byte token that a user typed.
    let typed = tokenizer.encode("<0x41>", Special::AsText).unwrap();
    assert_eq!(tokenizer.decode(&typed, true), "<0x41>");
}

#[test]
fn tokens_that_the_file_suppresses_are_known() {
    let mut metadata = byte_level("gpt-2", &[], &[]);
    metadata.insert("tokenizer.ggml.suppress_tokens", Value::Integers(vec![7, -1, 256, 255]));
    assert_eq!(Tokenizer::from_metadata(&metadata).unwrap().suppressed(), [7, 255]);
}

/// As [`Special::Parse`] does, for a template whose control tokens take white space with them.
#[test]
fn segments_lose_the_white_space_that_llama_cpp_strips() {
    let mut metadata = sentencepiece(&[PIECES[0], PIECES[1], ("<|u|>", 0.0, 3)]);
    metadata.insert("general.name", Value::String("Phi-3".into()));
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    let parsed = tokenizer.encode("<|u|> \n a<|u|>\n", Special::Parse).unwrap();
    assert_eq!(parsed, [261, 259, 260, 261]);
    let text = |text: &str| Segment::Text(text.into());
    let segments = [Segment::Control(261), text(" \n a"), Segment::Control(261), text("\n")];
    assert_eq!(tokenizer.encode_segments(&segments).unwrap()[1..], parsed);
}

#[test]
fn a_text_that_is_too_long_is_refused() {
    let tokenizer = Tokenizer::from_metadata(&byte_level("gpt-2", &[], &[])).unwrap();
    let text = " ".repeat(MAX_TEXT_BYTES + 1);
    let error = tokenizer.encode(&text, Special::AsText).unwrap_err();
    assert_eq!(error, Error::TextTooLong { bytes: MAX_TEXT_BYTES + 1, most: MAX_TEXT_BYTES });
    let halves = [&text[..MAX_TEXT_BYTES / 2], &text[MAX_TEXT_BYTES / 2..]];
    let segments = halves.map(|half| Segment::Text(half.into()));
    assert_eq!(tokenizer.encode_segments(&segments).unwrap_err().code(), "text-too-long");
}

#[test]
fn a_cancel_is_heard_while_a_text_is_encoded() {
    let text = "a b c d e f g h ".repeat(10_000);
    for metadata in [byte_level("gpt-2", &[], &[]), sentencepiece(&PIECES)] {
        let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
        let asked = Cell::new(0);
        let encode = |most: u32| {
            asked.set(0);
            let cancelled = || {
                asked.set(asked.get() + 1);
                asked.get() > most
            };
            pollster::block_on(tokenizer.encode_cancellable(&text, Special::AsText, &cancelled))
        };
        assert_eq!(encode(3), Err(Error::Aborted));
        assert_eq!(asked.get(), 4);
        assert_eq!(encode(u32::MAX).unwrap(), tokenizer.encode(&text, Special::AsText).unwrap());
        assert!(asked.get() >= 20, "asked only {} times", asked.get());
    }
}

/// Each of these would take minutes if it grew like the product of text and vocabulary, or like the square
/// of the text. The limit is far above what they take on a loaded machine.
#[test]
fn cost_is_bounded_by_the_input() {
    let limit = Duration::from_secs(20);
    let timed = |what: &str, tokenizer: &Tokenizer, text: &str, special| {
        let start = Instant::now();
        let ids = tokenizer.encode(text, special).unwrap();
        println!("{what}: {:?}", start.elapsed());
        assert!(start.elapsed() < limit, "{what} took {:?}", start.elapsed());
        ids
    };

    // Special tokens of 2,000 lengths that begin, end and overlap alike.
    let open: Vec<String> = (2..=2001).map(|n| "<".repeat(n)).collect();
    let long = "<".repeat(1999) + ">" + &"<".repeat(2500);
    let mut tokens: Vec<&str> = open.iter().map(String::as_str).collect();
    tokens.push(&long);
    for (kind, special) in [(3, Special::Parse), (4, Special::AsText)] {
        let mut metadata = byte_level("gpt-2", &tokens, &[]);
        let types = [vec![1; 256], vec![kind; tokens.len()]].concat();
        metadata.insert("tokenizer.ggml.token_type", Value::Integers(types));
        let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
        let ids = timed("special tokens", &tokenizer, &"<".repeat(500_000), special);
        assert_eq!(ids[..249], [256 + 1999; 249]);
        // Almost the long one again and again: what is left before it has shorter ones.
        let text = format!("{}{long}", "<".repeat(1500)).repeat(80);
        let ids = timed("overlapping special tokens", &tokenizer, &text, special);
        assert_eq!(ids.len(), 160);
        let template = ChatTemplate::new(Some("{{ messages[0].content }}"), &tokenizer);
        let start = Instant::now();
        let segments = template.render(&[Message::new("user", &text)], true).unwrap();
        assert_eq!(segments, [Segment::Text(text)]);
        println!("a message full of special tokens: {:?}", start.elapsed());
        assert!(start.elapsed() < limit, "rendering took {:?}", start.elapsed());
        timed("almost special tokens", &tokenizer, &("<".repeat(1999) + "!").repeat(250), special);
    }

    // A word without end.
    let runs: Vec<String> = (2..=1000).map(|n| "a".repeat(n)).collect();
    let merges: Vec<String> = (1..1000).map(|n| format!("{} a", "a".repeat(n))).collect();
    let runs: Vec<&str> = runs.iter().map(String::as_str).collect();
    let merges: Vec<&str> = merges.iter().map(String::as_str).collect();
    let tokenizer = Tokenizer::from_metadata(&byte_level("gpt-2", &runs, &merges)).unwrap();
    let ids = timed("one word, byte-level", &tokenizer, &"a".repeat(400_000), Special::AsText);
    // All pairs merge before a pair and an `a` do.
    assert_eq!(ids.len(), 200_000);

    // The same for SentencePiece, where longer pieces are better.
    let mut pieces = vec![("a", -1.0, 1), ("b", -1.0, 1)];
    pieces.extend(runs.iter().enumerate().map(|(n, run)| (*run, n as f32, 1)));
    let tokenizer = Tokenizer::from_metadata(&sentencepiece(&pieces)).unwrap();
    let ids = timed("one word, SentencePiece", &tokenizer, &"a".repeat(400_000), Special::AsText);
    assert!((400..800).contains(&ids.len()), "{} tokens", ids.len());
}
