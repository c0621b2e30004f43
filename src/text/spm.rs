//! SentencePiece-style BPE: of all neighbours whose concatenation is a token, the best score merges
//! first (llama.cpp's `llm_tokenizer_spm`).
//!
//! Done here rather than by `tokenizers`: its BPE wants the merges spelled out, which the file does
//! not have. Deriving them gives half a million pairs of strings for Gemma's 262 144 tokens, more
//! than the wasm heap may hold, and breaks ties between equal scores differently.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::error::{Error, Result};
use crate::text::bytes;
use crate::text::vocab::{Kind, TextHash, TextIndex, Vocab};
use crate::weights::{Metadata, StringArray};
use crate::yield_now::Pause;

/// Vocabulary and scores of a SentencePiece model.
#[derive(Debug)]
pub(crate) struct Spm {
    texts: StringArray,
    scores: Vec<f32>,
    /// Tokens that merging can give. A user's text never becomes a control token.
    index: TextIndex,
    /// The token of each byte.
    bytes: Box<[Option<u32>; 256]>,
    unknown: Option<u32>,
    pub(crate) add_space_prefix: bool,
}

/// A run of text, linked to its neighbours; `len` is 0 once it has merged into the left one.
struct Symbol {
    start: u32,
    len: u32,
    prev: u32,
    next: u32,
    hash: TextHash,
}

/// No neighbour.
const END: u32 = u32::MAX;

/// A possible merge; the greatest is done first.
struct Pair {
    score: f32,
    left: u32,
    right: u32,
    len: u32,
}

impl Ord for Pair {
    /// No score is NaN; 0 and -0 are equal.
    fn cmp(&self, other: &Self) -> Ordering {
        let scores = self.score.partial_cmp(&other.score).unwrap_or(Ordering::Equal);
        scores.then(other.left.cmp(&self.left))
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

/// The scores of `count` tokens; all are equal where the file has none.
fn scores(metadata: &Metadata, count: usize) -> Result<Vec<f32>> {
    let key = "tokenizer.ggml.scores";
    let scores = match metadata.integers(key) {
        _ if !metadata.contains(key) => vec![0.0; count],
        Ok(whole) => whole.iter().map(|&score| score as f32).collect(),
        Err(_) => metadata.floats(key)?.to_vec(),
    };
    let malformed = |what: String| Err(Error::Malformed { what });
    if scores.len() != count {
        return malformed(format!("{} token scores for {count} tokens", scores.len()));
    }
    match scores.iter().position(|score| score.is_nan()) {
        Some(id) => malformed(format!("the score of token {id} is not a number")),
        None => Ok(scores),
    }
}

impl Spm {
    pub(crate) fn from_metadata(metadata: &Metadata, vocab: &Vocab, unknown: Option<u32>) -> Result<Self> {
        let texts = metadata.strings("tokenizer.ggml.tokens")?.clone();
        let scores = scores(metadata, texts.len())?;
        let merged = |id| matches!(vocab.kind(id), Kind::Normal | Kind::UserDefined | Kind::Unused);
        let index = TextIndex::new(&texts, merged)?;
        let mut bytes = Box::new([None; 256]);
        for (id, text) in (0u32..).zip(texts.iter()) {
            let Some(byte) = bytes::from_hex(text) else { continue };
            let slot = &mut bytes[usize::from(byte)];
            if bytes::is_byte_token(text) || (vocab.kind(id) == Kind::Byte && slot.is_none()) {
                *slot = Some(id);
            }
        }
        for (byte, slot) in (0u8..=255).zip(bytes.iter_mut()) {
            *slot = slot.or_else(|| index.get(&texts, &[byte]));
        }
        let add_space_prefix = metadata.bool_or("tokenizer.ggml.add_space_prefix", true)?;
        Ok(Spm { texts, scores, index, bytes, unknown, add_space_prefix })
    }

    /// Appends the tokens of `text`, which has no special tokens in it. `first`: it begins the text
    /// or follows a special token, so the space prefix applies.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for a character that the vocabulary cannot express; [`Error::Aborted`].
    pub(crate) async fn encode(
        &self,
        text: &str,
        first: bool,
        ids: &mut Vec<u32>,
        pause: &mut Pause<'_>,
    ) -> Result<()> {
        let prefix = if first && self.add_space_prefix { "▁" } else { "" };
        let text = format!("{prefix}{}", text.replace(' ', "▁"));
        if u32::try_from(text.len()).is_err() {
            return Err(Error::Tokenizer { reason: format!("{} bytes are too many at once", text.len()) });
        }
        // The length of the text is, so all positions are.
        let fits = |position: usize| u32::try_from(position).unwrap_or(END);
        let mut symbols: Vec<Symbol> = Vec::new();
        let mut queue = BinaryHeap::new();
        for (start, c) in text.char_indices() {
            let len = c.len_utf8();
            let at = fits(symbols.len());
            symbols.push(Symbol {
                start: fits(start),
                len: fits(len),
                prev: at.wrapping_sub(1),
                next: if start + len == text.len() { END } else { at + 1 },
                hash: self.index.hash(&text.as_bytes()[start..start + len]),
            });
            queue.extend(self.pair(&symbols, text.as_bytes(), at.wrapping_sub(1), at));
            pause.after(len).await?;
        }
        let text = text.as_bytes();
        while let Some(pair) = queue.pop() {
            let (left, right) = (pair.left as usize, pair.right as usize);
            let (left_len, right_len) = (symbols[left].len, symbols[right].len);
            // One of the two has merged with another neighbour since.
            if left_len == 0 || right_len == 0 || left_len + right_len != pair.len {
                continue;
            }
            let (next, hash) = (symbols[right].next, symbols[left].hash.then(symbols[right].hash));
            symbols[right].len = 0;
            symbols[left].len = pair.len;
            symbols[left].next = next;
            symbols[left].hash = hash;
            if let Some(next) = symbols.get_mut(next as usize) {
                next.prev = pair.left;
            }
            let prev = symbols[left].prev;
            queue.extend(self.pair(&symbols, text, prev, pair.left));
            queue.extend(self.pair(&symbols, text, pair.left, next));
            pause.after(1).await?;
        }
        for symbol in symbols.iter().filter(|symbol| symbol.len > 0) {
            let part = &text[symbol.start as usize..(symbol.start + symbol.len) as usize];
            match self.index.get_hashed(&self.texts, part, symbol.hash) {
                Some(id) => ids.push(id),
                None => self.spell(part, ids)?,
            }
            pause.after(1).await?;
        }
        Ok(())
    }

    /// A character without a token: its bytes, or else the unknown token.
    fn spell(&self, character: &[u8], ids: &mut Vec<u32>) -> Result<()> {
        let bytes: Option<Vec<u32>> = character.iter().map(|&byte| self.bytes[usize::from(byte)]).collect();
        match (bytes, self.unknown) {
            (Some(bytes), _) => ids.extend(bytes),
            (None, Some(unknown)) => ids.push(unknown),
            (None, None) => {
                let character = String::from_utf8_lossy(character);
                let reason = format!("the vocabulary has no token for {character:?} and no unknown token");
                return Err(Error::Tokenizer { reason });
            }
        }
        Ok(())
    }

    fn pair(&self, symbols: &[Symbol], text: &[u8], left: u32, right: u32) -> Option<Pair> {
        let (a, b) = (symbols.get(left as usize)?, symbols.get(right as usize)?);
        let len = a.len + b.len;
        let part = &text[a.start as usize..(a.start + len) as usize];
        let id = self.index.get_hashed(&self.texts, part, a.hash.then(b.hash))?;
        Some(Pair { score: self.scores[id as usize], left, right, len })
    }
}
