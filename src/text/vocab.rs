//! The vocabulary: the bytes and the kind of every token.

use std::hash::{BuildHasher, RandomState};

use crate::error::{Error, Result};
use crate::text::bytes;
use crate::text::special::SpecialTokens;
use crate::weights::metadata::Value;
use crate::weights::{Metadata, StringArray};

/// `llama_token_type` of llama.h, as in `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Kind {
    fn from_gguf(code: i32) -> Self {
        match code {
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            6 => Kind::Byte,
            _ => Kind::Normal,
        }
    }

    /// Has no text of its own: never made from a user's text, left out of the output.
    pub(crate) fn is_control(self) -> bool {
        matches!(self, Kind::Control | Kind::Unknown)
    }
}

/// How token texts are written in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// Each byte as one printable character (GPT-2).
    ByteLevel,
    /// `▁` for a space, `<0xXX>` for a byte (SentencePiece).
    SentencePiece,
}

/// Token texts that end a generation, whatever the file says: llama.cpp's `special_eog_ids`
/// (llama-vocab.cpp). As in llama.cpp they are control tokens.
const END_OF_GENERATION: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// A token of code completion. llama.cpp finds it by a key or else by its text, and makes it a control
/// token if it was found by its text.
struct FillInTheMiddle {
    keys: &'static [&'static str],
    texts: &'static [&'static str],
    ends: bool,
}

const FILL_IN_THE_MIDDLE: [FillInTheMiddle; 6] = [
    FillInTheMiddle {
        keys: &["fim_pre", "prefix"],
        texts: &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
            "<|prefix|>",
        ],
        ends: false,
    },
    FillInTheMiddle {
        keys: &["fim_suf", "suffix"],
        texts: &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
            "<|suffix|>",
        ],
        ends: false,
    },
    FillInTheMiddle {
        keys: &["fim_mid", "middle"],
        texts: &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
            "<|middle|>",
        ],
        ends: false,
    },
    FillInTheMiddle {
        keys: &["fim_pad"],
        texts: &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
        ends: true,
    },
    FillInTheMiddle {
        keys: &["fim_rep"],
        texts: &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
        ends: true,
    },
    FillInTheMiddle { keys: &["fim_sep"], texts: &["<|file_sep|>"], ends: true },
];

/// Tokens of gpt-oss that llama.cpp always shows, whatever the file says.
const ALWAYS_SHOWN: [&str; 4] = ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// Ids of token texts. Empty texts have none.
///
/// The hash of a text follows from those of its halves, so that looking for the concatenation of two
/// pieces takes no longer for long pieces: it is the text as a number in a secret base, modulo 2^61 - 1.
#[derive(Debug)]
pub(crate) struct TextIndex {
    /// Open-addressing table of token ids, by text; a power of two in size.
    slots: Vec<u32>,
    base: u64,
    /// Bytes of the longest text.
    longest: usize,
}

/// Empty slot of the hash table.
const NONE: u32 = u32::MAX;

/// A prime.
const MODULUS: u64 = (1 << 61) - 1;

/// The hash of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextHash {
    value: u64,
    /// The base to the power of the text's length.
    shift: u64,
}

/// `number` modulo [`MODULUS`], by which 2^61 is 1.
#[allow(clippy::cast_possible_truncation)] // the parts have 61 and 67 - 61 bits
fn reduce(number: u128) -> u64 {
    let folded = (number as u64 & MODULUS) + (number >> 61) as u64;
    if folded >= MODULUS { folded - MODULUS } else { folded }
}

fn multiply(a: u64, b: u64) -> u64 {
    reduce(u128::from(a) * u128::from(b))
}

impl TextHash {
    /// The hash of this text and `next` behind it.
    pub(crate) fn then(self, next: TextHash) -> TextHash {
        TextHash {
            value: reduce(u128::from(multiply(self.value, next.shift)) + u128::from(next.value)),
            shift: multiply(self.shift, next.shift),
        }
    }
}

impl TextIndex {
    /// Of the tokens that `wanted` takes.
    ///
    /// # Errors
    /// [`Error::Malformed`] if two have the same text.
    pub(crate) fn new(texts: &StringArray, wanted: impl Fn(u32) -> bool) -> Result<Self> {
        let slots = vec![NONE; (texts.len() * 2).next_power_of_two()];
        let base = RandomState::new().hash_one(()) % (MODULUS - 256) + 256;
        let mut index = TextIndex { slots, base, longest: 0 };
        for (id, text) in (0u32..).zip(texts.iter()) {
            if text.is_empty() || !wanted(id) {
                continue;
            }
            let slot = index.slot(texts, text, index.hash(text));
            let other = std::mem::replace(&mut index.slots[slot], id);
            if other != NONE {
                let text = String::from_utf8_lossy(text);
                let what = format!("tokens {other} and {id} of the vocabulary are both {text:?}");
                return Err(Error::Malformed { what });
            }
            index.longest = index.longest.max(text.len());
        }
        Ok(index)
    }

    /// The hash of `text`.
    pub(crate) fn hash(&self, text: &[u8]) -> TextHash {
        let start = TextHash { value: 0, shift: 1 };
        text.iter()
            .fold(start, |hash, &byte| hash.then(TextHash { value: u64::from(byte) + 1, shift: self.base }))
    }

    /// The slot of `text`: where its id is, or where it would go.
    fn slot(&self, texts: &StringArray, text: &[u8], hash: TextHash) -> usize {
        let mask = self.slots.len() - 1;
        #[allow(clippy::cast_possible_truncation)] // the low bits are all that is wanted
        let mut slot = (hash.value ^ (hash.value >> 31)) as usize & mask;
        // Ends: at least half of the slots are empty.
        while self.slots[slot] != NONE && texts.get(self.slots[slot] as usize) != Some(text) {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// The id of `text`, which has this hash, among `texts`, which are those that the index was made of.
    pub(crate) fn get_hashed(&self, texts: &StringArray, text: &[u8], hash: TextHash) -> Option<u32> {
        if text.len() > self.longest {
            return None;
        }
        Some(self.slots[self.slot(texts, text, hash)]).filter(|&id| id != NONE)
    }

    /// The id of `text` among `texts`, which are those that the index was made of.
    pub(crate) fn get(&self, texts: &StringArray, text: &[u8]) -> Option<u32> {
        self.get_hashed(texts, text, self.hash(text))
    }
}

/// Bytes and kinds of all tokens, compact: one allocation for the bytes.
#[derive(Debug)]
pub(crate) struct Vocab {
    bytes: StringArray,
    kinds: Vec<Kind>,
    pub(crate) special: SpecialTokens,
    /// Sorted.
    pub(crate) end_of_generation: Vec<u32>,
    /// The most bytes of a text that one token can stand for.
    pub(crate) longest: usize,
}

impl Vocab {
    pub(crate) fn from_metadata(metadata: &Metadata, spelling: Spelling) -> Result<Self> {
        let texts = metadata.strings("tokenizer.ggml.tokens")?;
        let count = texts.len();
        if count == 0 {
            let what = "tokenizer.ggml.tokens is empty".to_owned();
            return Err(Error::Malformed { what });
        }
        let index = TextIndex::new(texts, |_| true)?;
        let mut kinds = file_kinds(metadata, count)?;
        let end_of_generation = recognize(metadata, spelling, texts, &index, &mut kinds)?;
        if spelling == Spelling::SentencePiece {
            // llama.cpp finds byte tokens by their text, whatever the file calls them.
            for (kind, text) in kinds.iter_mut().zip(texts.iter()) {
                if *kind != Kind::UserDefined && bytes::is_byte_token(text) {
                    *kind = Kind::Byte;
                }
            }
        }

        let mut decoded = StringArray::default();
        let mut special = SpecialTokens::new(texts, &kinds);
        special.strip_after(metadata, texts, &kinds)?;
        // A character, which the unknown token may stand for.
        let mut longest = 4;
        let mut buffer = Vec::new();
        for (text, &kind) in texts.iter().zip(&kinds) {
            buffer.clear();
            match kind {
                Kind::Control | Kind::Unknown | Kind::UserDefined => buffer.extend_from_slice(text),
                Kind::Byte if bytes::from_hex(text).is_some() => buffer.extend(bytes::from_hex(text)),
                _ => match spelling {
                    Spelling::ByteLevel => bytes::from_byte_level(text, &mut buffer),
                    Spelling::SentencePiece => bytes::unescape_spaces(text, &mut buffer),
                },
            }
            // `▁` is longer than the space that it stands for, and may stand for itself.
            let covers = match spelling {
                Spelling::ByteLevel => buffer.len(),
                Spelling::SentencePiece => text.len(),
            };
            longest = longest.max(covers);
            decoded.push(&buffer)?;
        }
        decoded.shrink();
        Ok(Vocab { bytes: decoded, kinds, special, end_of_generation, longest })
    }

    pub(crate) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// What the token stands for; empty for an id outside the vocabulary.
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        self.bytes.get(id as usize).unwrap_or_default()
    }

    pub(crate) fn kind(&self, id: u32) -> Kind {
        self.kinds.get(id as usize).copied().unwrap_or(Kind::Unused)
    }
}

/// The kinds that the file gives to its tokens.
fn file_kinds(metadata: &Metadata, count: usize) -> Result<Vec<Kind>> {
    if !metadata.contains("tokenizer.ggml.token_type") {
        return Ok(vec![Kind::Normal; count]);
    }
    let types = metadata.integers("tokenizer.ggml.token_type")?;
    if types.len() != count {
        let what = format!("{} token types for {count} tokens", types.len());
        return Err(Error::Malformed { what });
    }
    Ok(types.iter().map(|&code| Kind::from_gguf(code)).collect())
}

/// Corrects the kinds of tokens that llama.cpp recognizes by their texts, and returns the tokens that end
/// a generation, ascending.
fn recognize(
    metadata: &Metadata,
    spelling: Spelling,
    texts: &StringArray,
    index: &TextIndex,
    kinds: &mut [Kind],
) -> Result<Vec<u32>> {
    let find = |text: &str| index.get(texts, text.as_bytes());
    let key = |name: &str| token_id(metadata, name, kinds.len());
    let mut ends = Vec::new();
    let mut named = Vec::new();
    for name in ["eos", "eot", "eom"] {
        named.extend(key(name)?);
    }
    if key("eos")?.is_none() {
        named.extend(default_id(spelling, "eos").filter(|&id| (id as usize) < kinds.len()));
    }
    let mut control = Vec::new();
    for token in FILL_IN_THE_MIDDLE {
        let mut found = Vec::new();
        for name in token.keys {
            found.extend(key(name)?);
        }
        if found.is_empty() {
            found.extend(token.texts.iter().filter_map(|text| find(text)));
            control.extend_from_slice(&found);
        }
        if token.ends {
            ends.extend(found);
        }
    }
    let known = END_OF_GENERATION.iter().filter_map(|text| find(text));
    control.extend(known.clone());
    ends.extend(known);
    for id in control {
        kinds[id as usize] = Kind::Control;
    }
    for id in ALWAYS_SHOWN.iter().filter_map(|text| find(text)) {
        kinds[id as usize] = Kind::UserDefined;
    }
    ends.extend(named);

    let ends_with = |text: &str| find(text).filter(|id| ends.contains(id));
    // Tokens that end nothing where certain others do: those of gpt-oss and Solar, of Gemma 4 and PLaMo.
    let [turn, call, calls, flush] = ["<|return|>", "<|call|>", "<|calls|>", "<|flush|>"].map(ends_with);
    let calls = call.or(calls).is_some();
    let message = ends_with("<|end|>").filter(|_| calls && turn.or(flush).is_some());
    let marker = ends_with("<|tool_response>").or(ends_with("<|plamo:eos|>"));
    let tag = ends_with("</s>").filter(|_| marker.is_some());
    for (id, kind) in [(message, Kind::UserDefined), (tag, Kind::Normal)] {
        if let Some(id) = id {
            kinds[id as usize] = kind;
            ends.retain(|&end| end != id);
        }
    }
    ends.sort_unstable();
    ends.dedup();
    Ok(ends)
}

/// The id that llama.cpp takes where the file names none.
pub(crate) fn default_id(spelling: Spelling, name: &str) -> Option<u32> {
    match (spelling, name) {
        (Spelling::SentencePiece, "unknown") => Some(0),
        (Spelling::SentencePiece, "bos") => Some(1),
        (Spelling::SentencePiece, "eos") => Some(2),
        _ => None,
    }
}

/// `tokenizer.ggml.<name>_token_id`, if present and inside the vocabulary (llama.cpp ignores others).
pub(crate) fn token_id(metadata: &Metadata, name: &str, count: usize) -> Result<Option<u32>> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    // Some converters write -1 for none.
    if !metadata.contains(&key) || matches!(metadata.get(&key), Some(Value::Signed(..0))) {
        return Ok(None);
    }
    let id = metadata.u64(&key)?;
    Ok(u32::try_from(id).ok().filter(|&id| (id as usize) < count))
}
