//! Byte-level BPE: words of a pre-tokenizer, merged by the `tokenizers` crate.
//!
//! llama.cpp merges texts; the crate merges ids and wants one for everything that a merge names. So what
//! is named but is no token gets an id behind the vocabulary, and is spelled by tokens afterwards.

use std::collections::HashSet;

use tokenizers::Model as _;
use tokenizers::models::bpe::{BPE, Merges, Vocab as Ids};

use crate::error::{Error, Result};
use crate::sort::sort_by_key;
use crate::text::bytes;
use crate::text::pretokenizer::PreTokenizer;
use crate::text::vocab::Vocab;
use crate::weights::Metadata;
use crate::yield_now::Pause;

/// Merges of a byte-level vocabulary.
#[derive(Debug)]
pub(crate) struct ByteLevel {
    pub(crate) cut: PreTokenizer,
    bpe: BPE,
    /// Tokens of the vocabulary; ids from here on are in `spelled`.
    count: u32,
    spelled: Vec<Vec<u32>>,
    /// For each byte, whether it may be lost for want of a token.
    pub(crate) lost: Box<[bool; 256]>,
}

/// Ids for texts: tokens first, then what is none.
struct Names {
    ids: Ids,
    count: u32,
    /// Texts that are no tokens, with the halves of the first merge that gives them.
    others: Vec<(String, Option<(u32, u32)>)>,
}

impl Names {
    fn id(&mut self, text: &str) -> u32 {
        if let Some(&id) = self.ids.get(text) {
            return id;
        }
        #[allow(clippy::cast_possible_truncation)] // a header has fewer merges
        let id = self.count + self.others.len() as u32;
        self.others.push((text.to_owned(), None));
        self.ids.insert(text.to_owned(), id);
        id
    }
}

impl ByteLevel {
    pub(crate) fn from_metadata(metadata: &Metadata, vocab: &Vocab) -> Result<Self> {
        let malformed = |what: String| Error::Malformed { what };
        let cut = PreTokenizer::named(metadata.str_or("tokenizer.ggml.pre", "default")?)?;
        let texts = metadata.strings("tokenizer.ggml.tokens")?;
        #[allow(clippy::cast_possible_truncation)] // `Vocab` counted them
        let count = texts.len() as u32;
        let mut ids = Ids::with_capacity(texts.len());
        let mut single = [None; 256];
        for (id, text) in (0u32..).zip(texts.iter()) {
            // A user's text never becomes a control token.
            if vocab.kind(id).is_control() || text.is_empty() {
                continue;
            }
            if let [byte] = text {
                single[usize::from(*byte)] = Some(id);
            }
            // What is not UTF-8 is never the result of a merge.
            if let Ok(text) = std::str::from_utf8(text) {
                ids.insert(text.to_owned(), id);
            }
        }
        let mut names = Names { ids, count, others: Vec::new() };
        // Without an id the crate would drop the character, and its neighbours would meet.
        for byte in 0..=255 {
            names.id(bytes::byte_level_char(byte).encode_utf8(&mut [0; 4]));
        }
        let lines = metadata.strings("tokenizer.ggml.merges")?;
        let mut merges = Merges::with_capacity(lines.len());
        let mut seen = HashSet::with_capacity(lines.len());
        let mut text = String::new();
        for (rank, line) in lines.iter().enumerate() {
            let (left, right) = halves(line).ok_or_else(|| {
                malformed(format!("merge {rank} of tokenizer.ggml.merges is not two tokens"))
            })?;
            if right.is_empty() {
                continue;
            }
            let pair = (names.id(left), names.id(right));
            // Of equal merges the first counts.
            if !seen.insert(pair) {
                continue;
            }
            text.clear();
            text.push_str(left);
            text.push_str(right);
            let id = names.id(&text);
            let other = id.checked_sub(count).and_then(|other| names.others.get_mut(other as usize));
            if let Some((_, parts)) = other {
                parts.get_or_insert(pair);
            }
            merges.push((left.to_owned(), right.to_owned()));
        }
        drop(seen);
        let (spelled, lost) = spell(&names, vocab, &single);
        let bpe = BPE::builder()
            .vocab_and_merges(names.ids, merges)
            // The cache is per thread and would outlive the tokenizer.
            .cache_capacity(0)
            .build()
            .map_err(|e| malformed(format!("the merges do not fit the vocabulary: {e}")))?;
        Ok(ByteLevel { cut, bpe, count, spelled, lost })
    }

    /// Appends the tokens of `text`, which has no special tokens in it.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the library fails; [`Error::Aborted`].
    pub(crate) async fn encode(&self, text: &str, ids: &mut Vec<u32>, pause: &mut Pause<'_>) -> Result<()> {
        let mut rest = text;
        let mut word = String::new();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(self.cut.piece(rest));
            self.cut.words(piece, &mut |part| {
                word.clear();
                word.extend(part.bytes().map(bytes::byte_level_char));
                self.merge(&word, ids)
            })?;
            rest = after;
            pause.after(piece.len()).await?;
        }
        Ok(())
    }

    fn merge(&self, word: &str, ids: &mut Vec<u32>) -> Result<()> {
        if self.cut.ignore_merges
            && let Some(id) = self.bpe.token_to_id(word).filter(|&id| id < self.count)
        {
            ids.push(id);
            return Ok(());
        }
        let tokens = self.bpe.tokenize(word).map_err(|e| Error::Tokenizer { reason: e.to_string() })?;
        for token in tokens {
            match token.id.checked_sub(self.count) {
                None => ids.push(token.id),
                Some(other) => ids.extend(self.spelled.get(other as usize).into_iter().flatten()),
            }
        }
        Ok(())
    }
}

/// The two texts of a merge: they are divided by the first space that is not its first character.
fn halves(line: &[u8]) -> Option<(&str, &str)> {
    let line = std::str::from_utf8(line).ok()?;
    let space = line.char_indices().skip(1).find(|(_, c)| *c == ' ')?.0;
    Some((&line[..space], &line[space + 1..]))
}

/// The tokens of every text that is no token, and which bytes these leave out.
///
/// A control token's text is the halves of its merge: the merge is undone. Other texts are spelled as
/// llama.cpp does, by the tokens whose whole text is one byte of theirs. That leaves out the characters of
/// bytes that are not printable ASCII, and only a merge that gives no token leads there.
fn spell(names: &Names, vocab: &Vocab, single: &[Option<u32>; 256]) -> (Vec<Vec<u32>>, Box<[bool; 256]>) {
    let mut spelled: Vec<Vec<u32>> = vec![Vec::new(); names.others.len()];
    let mut lost = Box::new([false; 256]);
    // Halves are shorter than the whole.
    let mut order: Vec<usize> = (0..names.others.len()).collect();
    sort_by_key(&mut order, |&other| names.others[other].0.len());
    for other in order {
        let (text, parts) = &names.others[other];
        let undone = parts.filter(|_| vocab.special.control_id(text).is_some());
        let tokens = match undone {
            Some((left, right)) => {
                let tokens = |id: u32| match id.checked_sub(names.count) {
                    None => vec![id],
                    Some(half) => spelled[half as usize].clone(),
                };
                [tokens(left), tokens(right)].concat()
            }
            None => text.bytes().filter_map(|byte| single[usize::from(byte)]).collect(),
        };
        let covered: usize = tokens.iter().map(|&id| vocab.bytes(id).len()).sum();
        if covered < text.chars().count() {
            for byte in text.chars().filter_map(bytes::byte_of) {
                lost[usize::from(byte)] = true;
            }
        }
        spelled[other] = tokens;
    }
    (spelled, lost)
}
