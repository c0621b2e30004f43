//! [`Tokenizer`]: text → token ids and back, built from GGUF metadata.
//!
//! Byte-level BPE (`gpt2`) merges with the `tokenizers` crate; SentencePiece-style BPE (`llama`)
//! merges by score. Special tokens are cut out first, here, so that what a user types is never a
//! control token unless the caller says so. In this it differs from llama.cpp, where merging may give a
//! control token; the ids are llama.cpp's otherwise.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::text::byte_level::ByteLevel;
use crate::text::bytes::Utf8Stream;
use crate::text::special::{Match, Piece, is_space};
use crate::text::spm::Spm;
use crate::text::vocab::{self, Kind, Spelling, Vocab};
use crate::weights::Metadata;
use crate::yield_now::{Pause, at_once};

/// The most bytes of text that are made tokens in one call. Of one long word that is a gigabyte of memory
/// at worst.
pub const MAX_TEXT_BYTES: usize = 8 << 20;

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
    ByteLevel(Box<ByteLevel>),
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
    add_eos: bool,
    suppressed: Vec<u32>,
}

/// What may follow `tokenizer.ggml.` in a key, besides the ids of special tokens.
const KNOWN_KEYS: [&str; 15] = [
    "model",
    "pre",
    "tokens",
    "token_type",
    "scores",
    "merges",
    "add_bos_token",
    "add_eos_token",
    "add_space_prefix",
    "suppress_tokens",
    // llama.cpp reads these for other tokenizers (BERT's and T5's) and for reranking.
    "token_type_count",
    "add_sep_token",
    "remove_extra_whitespaces",
    "precompiled_charsmap",
    "normalizer",
];

/// Refuses keys of which nothing is known: they may change the ids.
fn check_keys(metadata: &Metadata) -> Result<()> {
    for (key, _) in metadata.iter() {
        let Some(name) = key.strip_prefix("tokenizer.ggml.") else { continue };
        let first = name.split('.').next().unwrap_or_default();
        if !KNOWN_KEYS.contains(&first) && !name.ends_with("_token_id") {
            return Err(Error::UnsupportedTokenizer {
                found: format!("with metadata {key}"),
                supported: format!("tokenizer.ggml. with {}", KNOWN_KEYS.join(", ")),
            });
        }
    }
    Ok(())
}

impl Tokenizer {
    /// Builds the tokenizer that the metadata describes.
    ///
    /// # Errors
    /// [`Error::UnsupportedTokenizer`] for an unknown model, pre-tokenizer or metadata key,
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
        check_keys(metadata)?;
        let vocab = Vocab::from_metadata(metadata, spelling)?;
        let special = |name: &str| -> Result<Option<u32>> {
            let default = vocab::default_id(spelling, name).filter(|&id| (id as usize) < vocab.len());
            Ok(vocab::token_id(metadata, name, vocab.len())?.or(default))
        };
        let (bos, eos) = (special("bos")?, special("eos")?);
        let (merger, add_bos) = match spelling {
            Spelling::ByteLevel => {
                let merger = ByteLevel::from_metadata(metadata, &vocab)?;
                let add_bos = merger.cut.add_bos && bos.is_some();
                (Merger::ByteLevel(Box::new(merger)), add_bos)
            }
            Spelling::SentencePiece => {
                // The default is none where that token is an ordinary one.
                let named = vocab::token_id(metadata, "unknown", vocab.len())?;
                let usual = |&id: &u32| vocab.kind(id) == Kind::Unknown || vocab.bytes(id) == b"<unk>";
                let unknown = named.or(special("unknown")?.filter(usual));
                let spm = Spm::from_metadata(metadata, &vocab, unknown)?;
                (Merger::SentencePiece(Box::new(spm)), bos.is_some())
            }
        };
        let add_bos = metadata.bool_or("tokenizer.ggml.add_bos_token", add_bos)?;
        let add_eos = metadata.bool_or("tokenizer.ggml.add_eos_token", false)?;
        for (name, adds, id) in [("bos", add_bos, bos), ("eos", add_eos, eos)] {
            if adds && id.is_none() {
                let what = format!(
                    "tokenizer.ggml.add_{name}_token is true, but tokenizer.ggml.{name}_token_id names no token"
                );
                return Err(Error::Malformed { what });
            }
        }
        let suppressed = suppressed(metadata, vocab.len())?;
        Ok(Tokenizer { vocab: Arc::new(vocab), merger, bos, eos, add_bos, add_eos, suppressed })
    }

    /// Token ids of `text`, without any token before or after it.
    ///
    /// # Errors
    /// [`Error::TextTooLong`] above [`MAX_TEXT_BYTES`]; [`Error::Tokenizer`] if the merging library fails
    /// or the vocabulary cannot express the text.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>> {
        at_once(self.encode_slowly(text, special, &mut Pause::never()))
    }

    /// The same, letting the event loop run meanwhile.
    ///
    /// # Errors
    /// Those of [`Tokenizer::encode`], and [`Error::Aborted`] if `cancelled` says so.
    pub async fn encode_cancellable(
        &self,
        text: &str,
        special: Special,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<u32>> {
        self.encode_slowly(text, special, &mut Pause::new(cancelled)).await
    }

    async fn encode_slowly(&self, text: &str, special: Special, pause: &mut Pause<'_>) -> Result<Vec<u32>> {
        check_length(text.len())?;
        let mut ids = Vec::new();
        let which = match special {
            Special::AsText => Match::UserDefined,
            Special::Parse => Match::Both,
        };
        self.encode_into(text, which, true, &mut ids, pause).await?;
        Ok(ids)
    }

    /// Token ids of a plain prompt, in which control tokens are control tokens, with the tokens that the
    /// model wants before and after it.
    pub(crate) async fn encode_prompt(&self, text: &str, pause: &mut Pause<'_>) -> Result<Vec<u32>> {
        let mut ids = self.encode_slowly(text, Special::Parse, pause).await?;
        if let Some(bos) = self.bos.filter(|_| self.add_bos)
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        ids.extend(self.eos.filter(|_| self.add_eos));
        Ok(ids)
    }

    /// Token ids of a rendered chat template: its control tokens and, between them, text in which
    /// nothing is one. Begins with the beginning-of-sequence token if the model wants it and the
    /// template did not write it; ends with the end-of-sequence token if the model wants that.
    ///
    /// # Errors
    /// Those of [`Tokenizer::encode`].
    pub fn encode_segments(&self, segments: &[Segment]) -> Result<Vec<u32>> {
        at_once(self.encode_rendered(segments, &mut Pause::never()))
    }

    pub(crate) async fn encode_rendered(
        &self,
        segments: &[Segment],
        pause: &mut Pause<'_>,
    ) -> Result<Vec<u32>> {
        check_length(texts(segments).map(str::len).sum())?;
        let mut ids = Vec::new();
        if let Some(bos) = self.bos.filter(|_| self.add_bos)
            && segments.first() != Some(&Segment::Control(bos))
        {
            ids.push(bos);
        }
        let mut before = None;
        let mut first = true;
        for segment in segments {
            match segment {
                Segment::Control(id) => ids.push(*id),
                Segment::Text(text) => {
                    let taken = before.map_or(0, |id| self.vocab.special.stripped(id, text));
                    self.encode_into(&text[taken..], Match::UserDefined, first, &mut ids, pause).await?;
                }
            }
            before = match segment {
                Segment::Control(id) => Some(*id),
                Segment::Text(_) => None,
            };
            first = before.is_some();
        }
        ids.extend(self.eos.filter(|_| self.add_eos));
        Ok(ids)
    }

    /// `first`: the text begins a prompt or follows a control token.
    async fn encode_into(
        &self,
        text: &str,
        which: Match,
        first: bool,
        ids: &mut Vec<u32>,
        pause: &mut Pause<'_>,
    ) -> Result<()> {
        let mut first = first;
        for piece in self.vocab.special.cut(text, which) {
            match piece {
                Piece::Token(id) => ids.push(id),
                Piece::Text(text) => match &self.merger {
                    Merger::SentencePiece(spm) => spm.encode(text, first, ids, pause).await?,
                    Merger::ByteLevel(merger) => merger.encode(text, ids, pause).await?,
                },
            }
            first = matches!(piece, Piece::Token(_));
        }
        Ok(())
    }

    /// A number of tokens that these texts take at least, found without encoding them.
    pub(crate) fn fewest_tokens<'t>(&self, texts: impl Iterator<Item = &'t str>) -> usize {
        // Some vocabularies have no token for some bytes, and some tokens take white space with them.
        let lost = match &self.merger {
            Merger::SentencePiece(_) => None,
            Merger::ByteLevel(merger) => Some(&*merger.lost).filter(|lost| lost.contains(&true)),
        };
        let strips = self.vocab.special.strips();
        let may_vanish =
            |byte: &u8| lost.is_some_and(|lost| lost[usize::from(*byte)]) || (strips && is_space(byte));
        let bytes: usize = texts
            .map(|text| match lost.is_some() || strips {
                true => text.as_bytes().iter().filter(|byte| !may_vanish(byte)).count(),
                false => text.len(),
            })
            .sum();
        bytes.div_ceil(self.vocab.longest)
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
            Merger::ByteLevel(_) => false,
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
        self.vocab.special.control_id(text)
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

    /// Tokens that the file says are never to be generated.
    #[must_use]
    pub fn suppressed(&self) -> &[u32] {
        &self.suppressed
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

/// The texts of a rendered chat template.
pub(crate) fn texts(segments: &[Segment]) -> impl Iterator<Item = &str> {
    segments.iter().filter_map(|segment| match segment {
        Segment::Text(text) => Some(text.as_str()),
        Segment::Control(_) => None,
    })
}

/// Refuses a text of more than [`MAX_TEXT_BYTES`].
pub(crate) fn check_length(bytes: usize) -> Result<()> {
    match bytes > MAX_TEXT_BYTES {
        true => Err(Error::TextTooLong { bytes, most: MAX_TEXT_BYTES }),
        false => Ok(()),
    }
}

/// `tokenizer.ggml.suppress_tokens`; ids outside the vocabulary are ignored, as in llama.cpp.
fn suppressed(metadata: &Metadata, count: usize) -> Result<Vec<u32>> {
    let key = "tokenizer.ggml.suppress_tokens";
    if !metadata.contains(key) {
        return Ok(Vec::new());
    }
    let ids = metadata.integers(key)?.iter().filter_map(|&id| u32::try_from(id).ok());
    Ok(ids.filter(|&id| (id as usize) < count).collect())
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
