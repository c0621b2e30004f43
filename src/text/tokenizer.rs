//! [`Tokenizer`]: text → token ids and back, built from GGUF metadata.
//!
//! Byte-level BPE (`gpt2`) merges with the `tokenizers` crate; SentencePiece-style BPE (`llama`)
//! merges by score. Special tokens are cut out first, here, so that what a user types is never a
//! control token unless the caller says so.

use std::sync::Arc;

use tokenizers::Model as _;
use tokenizers::models::bpe::{BPE, Merges, Vocab as BpeVocab};

use crate::error::{Error, Result};
use crate::text::bytes::{self, Utf8Stream};
use crate::text::pretokenizer::PreTokenizer;
use crate::text::spm::Spm;
use crate::text::vocab::{self, Match, Piece, Spelling, Vocab};
use crate::weights::Metadata;

/// What the text of a control token, such as `<|im_end|>`, means in the text to encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// Text: it is encoded like any other. For everything a user wrote.
    AsText,
    /// The control token. For text by the developer, such as a hand-written prompt format.
    Parse,
}

/// A part of a rendered chat template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// A control token that the template wrote.
    Control(u32),
    /// Text, in which nothing is a control token.
    Text(String),
}

#[derive(Debug)]
enum Merger {
    ByteLevel { cut: PreTokenizer, bpe: Box<BPE> },
    SentencePiece(Box<Spm>),
}

/// Text → ids and ids → text for one model. Cheap to share, never changed after it is built.
#[derive(Debug)]
pub struct Tokenizer {
    vocab: Arc<Vocab>,
    merger: Merger,
    bos: Option<u32>,
    eos: Option<u32>,
    add_bos: bool,
}

impl Tokenizer {
    /// Builds the tokenizer that the metadata describes.
    ///
    /// # Errors
    /// [`Error::UnsupportedTokenizer`] for an unknown model or pre-tokenizer,
    /// [`Error::MissingMetadata`] and [`Error::Malformed`] if the vocabulary is not complete.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let model = metadata.str("tokenizer.ggml.model")?;
        let spelling = match model {
            "gpt2" => Spelling::ByteLevel,
            "llama" => Spelling::SentencePiece,
            _ => {
                return Err(Error::UnsupportedTokenizer {
                    found: model.to_owned(),
                    supported: "gpt2 (byte-level BPE), llama (SentencePiece BPE)".to_owned(),
                });
            }
        };
        let vocab = Vocab::from_metadata(metadata, spelling)?;
        let special = |name: &str, default: Option<u32>| -> Result<Option<u32>> {
            // The defaults are those of the Llama vocabulary, as in llama.cpp.
            let default = default.filter(|_| spelling == Spelling::SentencePiece);
            Ok(vocab::token_id(metadata, name, vocab.len())?
                .or(default.filter(|&id| (id as usize) < vocab.len())))
        };
        let (bos, eos) = (special("bos", Some(1))?, special("eos", Some(2))?);
        let (merger, add_bos) = match spelling {
            Spelling::ByteLevel => {
                let cut = PreTokenizer::named(metadata.str_or("tokenizer.ggml.pre", "default")?)?;
                let bpe = Box::new(byte_level_bpe(metadata, &vocab, cut.ignore_merges)?);
                let add_bos = cut.add_bos;
                (Merger::ByteLevel { cut, bpe }, add_bos)
            }
            Spelling::SentencePiece => {
                let unknown = special("unknown", Some(0))?;
                (Merger::SentencePiece(Box::new(Spm::from_metadata(metadata, &vocab, unknown)?)), true)
            }
        };
        let add_bos = metadata.bool_or("tokenizer.ggml.add_bos_token", add_bos)?;
        Ok(Tokenizer { vocab: Arc::new(vocab), merger, bos, eos, add_bos: add_bos && bos.is_some() })
    }

    /// Token ids of `text`, without any token before or after it.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the merging library fails.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        let which = match special {
            Special::AsText => Match::UserDefined,
            Special::Parse => Match::Both,
        };
        self.encode_into(text, which, true, &mut ids)?;
        Ok(ids)
    }

    /// Token ids of a rendered chat template: its control tokens and, between them, text in which
    /// nothing is one. Begins with the beginning-of-sequence token if the model wants it and the
    /// template did not write it.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the merging library fails.
    pub fn encode_segments(&self, segments: &[Segment]) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        if let Some(bos) = self.bos.filter(|_| self.add_bos)
            && segments.first() != Some(&Segment::Control(bos))
        {
            ids.push(bos);
        }
        let mut first = true;
        for segment in segments {
            match segment {
                Segment::Control(id) => ids.push(*id),
                Segment::Text(text) => self.encode_into(text, Match::UserDefined, first, &mut ids)?,
            }
            first = matches!(segment, Segment::Control(_));
        }
        Ok(ids)
    }

    /// `first`: the text begins a prompt or follows a control token.
    fn encode_into(&self, text: &str, which: Match, first: bool, ids: &mut Vec<u32>) -> Result<()> {
        let mut first = first;
        self.vocab.special.split(text, which, &mut |piece| {
            match piece {
                Piece::Token(id) => ids.push(id),
                Piece::Text(text) => match &self.merger {
                    Merger::SentencePiece(spm) => spm.encode(text, first, ids),
                    Merger::ByteLevel { cut, bpe } => {
                        let mut word = String::new();
                        cut.split(text, &mut |part| {
                            word.clear();
                            word.extend(part.bytes().map(bytes::byte_level_char));
                            let tokens = bpe
                                .tokenize(&word)
                                .map_err(|e| Error::Tokenizer { reason: e.to_string() })?;
                            ids.extend(tokens.iter().map(|token| token.id));
                            Ok(())
                        })?;
                    }
                },
            }
            first = matches!(piece, Piece::Token(_));
            Ok(())
        })
    }

    /// The text of `ids`. Bytes that are not UTF-8 become U+FFFD. `skip_control` leaves control
    /// tokens out; otherwise they are spelled out. The space that the model puts before the first
    /// word is removed.
    #[must_use]
    pub fn decode(&self, ids: &[u32], skip_control: bool) -> String {
        let mut all = Vec::new();
        for &id in ids {
            all.extend_from_slice(self.piece(id, skip_control));
        }
        let prefixed = match &self.merger {
            Merger::SentencePiece(spm) => spm.add_space_prefix,
            Merger::ByteLevel { .. } => false,
        };
        let all = match all.split_first() {
            Some((b' ', rest)) if prefixed => rest,
            _ => &all,
        };
        String::from_utf8_lossy(all).into_owned()
    }

    fn piece(&self, id: u32, skip_control: bool) -> &[u8] {
        match skip_control && self.is_control(id) {
            true => &[],
            false => self.vocab.bytes(id),
        }
    }

    /// A decoder for ids that come one at a time. Control tokens give no text.
    #[must_use]
    pub fn stream_decoder(&self) -> StreamDecoder {
        StreamDecoder { vocab: Arc::clone(&self.vocab), stream: Utf8Stream::default() }
    }

    /// The bytes a token stands for; empty for an id outside the vocabulary.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.vocab.bytes(id)
    }

    /// Whether `id` is a control token (or the unknown token): it has no text of its own.
    #[must_use]
    pub fn is_control(&self, id: u32) -> bool {
        self.vocab.kind(id).is_control()
    }

    /// The id of the control token spelled `text`.
    #[must_use]
    pub fn control_id(&self, text: &str) -> Option<u32> {
        let found = self.vocab.special.at_start(text.as_bytes(), Match::Control);
        found.filter(|&(_, length)| length == text.len()).map(|(id, _)| id)
    }

    /// Tokens that end a generation, ascending: the file's eos, eot and eom, and those that
    /// llama.cpp recognizes by name.
    #[must_use]
    pub fn eos_ids(&self) -> &[u32] {
        &self.vocab.end_of_generation
    }

    /// Whether `id` ends a generation.
    #[must_use]
    pub fn is_end(&self, id: u32) -> bool {
        self.eos_ids().binary_search(&id).is_ok()
    }

    /// The end-of-sequence token of the file.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The beginning-of-sequence token of the file.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Whether a prompt begins with [`Tokenizer::bos`].
    #[must_use]
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// Number of tokens, and so of logits.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    pub(crate) fn vocab(&self) -> &Arc<Vocab> {
        &self.vocab
    }
}

/// The `tokenizers` model of a byte-level vocabulary. Control tokens stay out, so that no merge and
/// no whole word can give one.
fn byte_level_bpe(metadata: &Metadata, vocab: &Vocab, ignore_merges: bool) -> Result<BPE> {
    let malformed = |what: String| Error::Malformed { what };
    let texts = metadata.strings("tokenizer.ggml.tokens")?;
    let mut ids = BpeVocab::with_capacity(texts.len());
    for (id, text) in (0u32..).zip(texts.iter()) {
        if vocab.kind(id).is_control() {
            continue;
        }
        let text = std::str::from_utf8(text)
            .map_err(|_| malformed(format!("the text of token {id} is not UTF-8")))?;
        ids.entry(text.to_owned()).or_insert(id);
    }
    let lines = metadata.strings("tokenizer.ggml.merges")?;
    let mut merges = Merges::with_capacity(lines.len());
    let mut merged = String::new();
    for (rank, line) in lines.iter().enumerate() {
        let pair = std::str::from_utf8(line).ok().and_then(|l| l.split_once(' '));
        let (left, right) = pair.ok_or_else(|| malformed(format!("merge {rank} is not two tokens")))?;
        merged.clear();
        merged.push_str(left);
        merged.push_str(right);
        for token in [left, right, &merged] {
            if !ids.contains_key(token) {
                let what = format!("merge {rank} names {token:?}, which is not in the vocabulary");
                return Err(malformed(what));
            }
        }
        merges.push((left.to_owned(), right.to_owned()));
    }
    BPE::builder()
        .vocab_and_merges(ids, merges)
        .ignore_merges(ignore_merges)
        // The cache is per thread and would outlive the tokenizer.
        .cache_capacity(0)
        .build()
        .map_err(|e| malformed(format!("the merges do not fit the vocabulary: {e}")))
}

/// Turns ids into text one at a time, never giving half a character.
#[derive(Debug, Clone)]
pub struct StreamDecoder {
    vocab: Arc<Vocab>,
    stream: Utf8Stream,
}

impl StreamDecoder {
    /// Adds a token; returns the characters that are complete now, often none. Control tokens add
    /// nothing; bytes that can never become a character are given as U+FFFD.
    pub fn push(&mut self, id: u32) -> String {
        match self.vocab.kind(id).is_control() {
            true => String::new(),
            false => self.stream.push(self.vocab.bytes(id)),
        }
    }

    /// Ends the text: U+FFFD if a character stayed incomplete, else nothing.
    pub fn finish(&mut self) -> String {
        self.stream.finish()
    }
}
