//! Vocabularies of both kinds and texts for them.

use arbitrary::{Arbitrary, Result, Unstructured};
use emberglass::text::{Special, Tokenizer};
use emberglass::weights::metadata::Value;
use emberglass::weights::{Metadata, StringArray};

use super::{Target, allowed};

pub const TARGET: Target = Target {
    name: "tokenizer",
    about: "vocabularies and texts",
    run,
    seeds,
    words: &["<s>", "</s>", "<0x41>", "▁"],
};

/// A SentencePiece vocabulary of three control tokens and the byte tokens.
pub fn small() -> Metadata {
    let tokens = ["<unk>", "<s>", "</s>"].into_iter().map(str::to_owned);
    let tokens: StringArray = tokens.chain((0..256).map(|b| format!("<0x{b:02X}>"))).collect();
    let types = [2, 3, 3].into_iter().chain([6; 256]).collect();
    let mut metadata = Metadata::default();
    metadata.insert("tokenizer.ggml.model", Value::String("llama".into()));
    metadata.insert("tokenizer.ggml.scores", Value::Floats(vec![0.0; 259]));
    metadata.insert("tokenizer.ggml.tokens", Value::Strings(tokens));
    metadata.insert("tokenizer.ggml.token_type", Value::Integers(types));
    metadata
}

const PIECES: [&str; 12] = ["a", "b", "ab", "aa", "▁", "▁a", "Ġ", "Ġa", "é", "<|x|>", "<|x|>y", "\u{202e}"];

fn word(u: &mut Unstructured) -> Result<String> {
    let mut word = String::new();
    for _ in 0..u.int_in_range(0..=3)? {
        word += u.choose(&PIECES)?;
    }
    Ok(word)
}

fn metadata(u: &mut Unstructured) -> Result<Metadata> {
    let mut metadata = small();
    let bytes_too = u.arbitrary()?;
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    if bytes_too {
        tokens.extend((0..256).map(|b| format!("<0x{b:02X}>")));
    }
    for _ in 0..u.int_in_range(0..=12)? {
        tokens.push(word(u)?);
    }
    let count = tokens.len();
    if u.arbitrary()? {
        metadata.insert("tokenizer.ggml.model", Value::String("gpt2".into()));
        let pre = *u.choose(&["default", "smollm", "llama-bpe", "gpt-2", "qwen2", "nonsense"])?;
        metadata.insert("tokenizer.ggml.pre", Value::String(pre.into()));
        let mut merges = Vec::new();
        for _ in 0..u.int_in_range(0..=8)? {
            merges.push(format!("{} {}", word(u)?, word(u)?));
        }
        metadata.insert("tokenizer.ggml.merges", Value::Strings(merges.iter().collect()));
    }
    metadata.insert("tokenizer.ggml.tokens", Value::Strings(tokens.iter().collect()));
    let length = if u.ratio(1, 8)? { u.int_in_range(0..=400)? } else { count };
    let types = Vec::from_iter((0..length).map(|_| u.int_in_range(0..=7).unwrap_or(1)));
    let scores = Vec::from_iter((0..length).map(|_| u.arbitrary().unwrap_or(0.0)));
    for (key, value) in [("token_type", Value::Integers(types)), ("scores", Value::Floats(scores))] {
        match u.ratio(1, 4)? {
            true => metadata.remove(&format!("tokenizer.ggml.{key}")),
            false => metadata.insert(format!("tokenizer.ggml.{key}"), value),
        };
    }
    for key in ["bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id"] {
        if u.ratio(1, 3)? {
            metadata.insert(format!("tokenizer.ggml.{key}"), Value::Unsigned(u.int_in_range(0..=300)?));
        }
    }
    for key in ["add_bos_token", "add_space_prefix", "add_eos_token", "remove_extra_whitespaces"] {
        if u.ratio(1, 3)? {
            metadata.insert(format!("tokenizer.ggml.{key}"), Value::Bool(u.arbitrary()?));
        }
    }
    Ok(metadata)
}

fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok(metadata) = metadata(&mut u) else { return };
    let tokenizer = match Tokenizer::from_metadata(&metadata) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return allowed(&error),
    };
    let mut text = String::arbitrary(&mut u).unwrap_or_default();
    for _ in 0..8 {
        text += &word(&mut u).unwrap_or_default();
    }
    for special in [Special::AsText, Special::Parse] {
        match tokenizer.encode(&text, special) {
            Err(error) => allowed(&error),
            Ok(ids) => {
                assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
                // A stream shows text only: control tokens are left out.
                let mut stream = tokenizer.stream_decoder();
                let streamed: String = ids.iter().map(|&id| stream.push(id)).collect();
                assert_eq!(streamed + &stream.finish(), tokenizer.decode(&ids, true));
            }
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    (0..32u8).map(|i| (0..200u8).map(|j| i.wrapping_mul(59) ^ j.wrapping_mul(83)).collect()).collect()
}
