//! SentencePiece-style BPE: of all neighbours whose concatenation is a token, the best score merges
//! first (llama.cpp's `llm_tokenizer_spm`).
//!
//! Done here rather than by `tokenizers`: its BPE wants the merges spelled out, which the file does
//! not have. Deriving them gives half a million pairs of strings for Gemma's 262 144 tokens, more
//! than the wasm heap may hold, and breaks ties between equal scores differently.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::hash::{BuildHasher, RandomState};

use crate::error::{Error, Result};
use crate::text::bytes;
use crate::text::vocab::{Kind, Vocab};
use crate::weights::{Metadata, StringArray};

/// Empty slot of the hash table.
const NONE: u32 = u32::MAX;

/// Vocabulary and scores of a SentencePiece model.
#[derive(Debug)]
pub(crate) struct Spm {
    texts: StringArray,
    scores: Vec<f32>,
    /// Open-addressing table of token ids, by text; a power of two in size.
    slots: Vec<u32>,
    hasher: RandomState,
    longest: usize,
    /// Token of each byte.
    bytes: [u32; 256],
    unknown: Option<u32>,
    pub(crate) add_space_prefix: bool,
}

/// A run of text, linked to its neighbours; `len` 0 once merged into the left one.
struct Symbol {
    start: usize,
    len: usize,
    prev: usize,
    next: usize,
}

/// No neighbour.
const END: usize = usize::MAX;

/// A possible merge; the greatest is done first.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    len: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

impl Spm {
    pub(crate) fn from_metadata(metadata: &Metadata, vocab: &Vocab, unknown: Option<u32>) -> Result<Self> {
        let texts = metadata.strings("tokenizer.ggml.tokens")?.clone();
        let scores = match metadata.contains("tokenizer.ggml.scores") {
            true => metadata.floats("tokenizer.ggml.scores")?.to_vec(),
            false => vec![0.0; texts.len()],
        };
        if scores.len() != texts.len() {
            let what = format!("{} token scores for {} tokens", scores.len(), texts.len());
            return Err(Error::Malformed { what });
        }
        let mut spm = Spm {
            slots: vec![NONE; (texts.len() * 2).next_power_of_two()],
            hasher: RandomState::new(),
            longest: 0,
            bytes: [NONE; 256],
            unknown,
            add_space_prefix: metadata.bool_or("tokenizer.ggml.add_space_prefix", true)?,
            texts,
            scores,
        };
        for id in (0u32..).take(vocab.len()) {
            let text = spm.text(id);
            match vocab.kind(id) {
                // Made from control syntax or as a fallback only, never by merging a user's text.
                Kind::Control | Kind::Unknown => {}
                Kind::Byte => {
                    if let Some(byte) = bytes::from_hex(text) {
                        spm.bytes[usize::from(byte)] = id;
                    }
                }
                Kind::Normal | Kind::UserDefined | Kind::Unused if !text.is_empty() => {
                    let slot = spm.slot(text);
                    spm.longest = spm.longest.max(text.len());
                    if spm.slots[slot] == NONE {
                        spm.slots[slot] = id;
                    }
                }
                _ => {}
            }
        }
        Ok(spm)
    }

    fn text(&self, id: u32) -> &[u8] {
        self.texts.get(id as usize).unwrap_or_default()
    }

    /// The slot of `text`: where its id is, or where it would go.
    fn slot(&self, text: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        #[allow(clippy::cast_possible_truncation)] // the low bits are all that is wanted
        let mut slot = self.hasher.hash_one(text) as usize & mask;
        // Ends: at least half of the slots are empty.
        while self.slots[slot] != NONE && self.text(self.slots[slot]) != text {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn id(&self, text: &[u8]) -> Option<u32> {
        if text.len() > self.longest {
            return None;
        }
        Some(self.slots[self.slot(text)]).filter(|&id| id != NONE)
    }

    /// Appends the tokens of `text`, which has no special tokens in it. `first`: it begins the text
    /// or follows a special token, so the space prefix applies.
    pub(crate) fn encode(&self, text: &str, first: bool, ids: &mut Vec<u32>) {
        let prefix = if first && self.add_space_prefix { "▁" } else { "" };
        let text = format!("{prefix}{}", text.replace(' ', "▁"));
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        for (index, (start, c)) in text.char_indices().enumerate() {
            symbols.push(Symbol { start, len: c.len_utf8(), prev: index.wrapping_sub(1), next: index + 1 });
        }
        if let Some(last) = symbols.last_mut() {
            last.next = END;
        }
        let text = text.as_bytes();
        let mut queue = BinaryHeap::new();
        for right in 1..symbols.len() {
            queue.extend(self.pair(&symbols, text, right - 1, right));
        }
        while let Some(pair) = queue.pop() {
            let (left_len, right_len) = (symbols[pair.left].len, symbols[pair.right].len);
            // One of the two has merged with another neighbour since.
            if left_len == 0 || right_len == 0 || left_len + right_len != pair.len {
                continue;
            }
            let next = symbols[pair.right].next;
            symbols[pair.right].len = 0;
            symbols[pair.left].len = pair.len;
            symbols[pair.left].next = next;
            if next != END {
                symbols[next].prev = pair.left;
            }
            let prev = symbols[pair.left].prev;
            queue.extend(self.pair(&symbols, text, prev, pair.left));
            queue.extend(self.pair(&symbols, text, pair.left, next));
        }
        for symbol in symbols.iter().filter(|symbol| symbol.len > 0) {
            let part = &text[symbol.start..symbol.start + symbol.len];
            match self.id(part) {
                Some(id) => ids.push(id),
                None => {
                    let fallback = |byte: &u8| match self.bytes[usize::from(*byte)] {
                        NONE => self.unknown,
                        id => Some(id),
                    };
                    ids.extend(part.iter().filter_map(fallback));
                }
            }
        }
    }

    fn pair(&self, symbols: &[Symbol], text: &[u8], left: usize, right: usize) -> Option<Pair> {
        let (a, b) = (symbols.get(left)?, symbols.get(right)?);
        let len = a.len + b.len;
        let id = self.id(&text[a.start..a.start + len])?;
        Some(Pair { score: self.scores[id as usize], left, right, len })
    }
}
