//! The vocabulary: the raw bytes and the kind of every token, and the search for special tokens.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::text::bytes;
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
/// (llama-vocab.cpp), and like there they count as control tokens.
const END_OF_GENERATION: [&str; 33] = [
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
    // Fill-in-the-middle: padding, repository and file separators.
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// Bytes and kinds of all tokens, compact: one allocation for the bytes.
#[derive(Debug)]
pub(crate) struct Vocab {
    bytes: StringArray,
    kinds: Vec<Kind>,
    pub(crate) special: SpecialTokens,
    /// Sorted.
    pub(crate) end_of_generation: Vec<u32>,
}

impl Vocab {
    pub(crate) fn from_metadata(metadata: &Metadata, spelling: Spelling) -> Result<Self> {
        let texts = metadata.strings("tokenizer.ggml.tokens")?;
        let count = texts.len();
        if count == 0 {
            let what = "tokenizer.ggml.tokens is empty".to_owned();
            return Err(Error::Malformed { what });
        }
        let mut kinds = vec![Kind::Normal; count];
        if metadata.contains("tokenizer.ggml.token_type") {
            let types = metadata.integers("tokenizer.ggml.token_type")?;
            if types.len() != count {
                let what = format!("{} token types for {count} tokens", types.len());
                return Err(Error::Malformed { what });
            }
            for (kind, &code) in kinds.iter_mut().zip(types) {
                *kind = Kind::from_gguf(code);
            }
        }

        let mut end_of_generation = Vec::new();
        for (id, text) in (0u32..).zip(texts.iter()) {
            if END_OF_GENERATION.iter().any(|end| end.as_bytes() == text) {
                kinds[id as usize] = Kind::Control;
                end_of_generation.push(id);
            }
        }
        for name in ["eos", "eot", "eom"] {
            if let Some(id) = token_id(metadata, name, count)? {
                end_of_generation.push(id);
            }
        }
        end_of_generation.sort_unstable();
        end_of_generation.dedup();

        let mut decoded = StringArray::default();
        let mut special = SpecialTokens::default();
        let mut buffer = Vec::new();
        for (id, text) in (0u32..).zip(texts.iter()) {
            buffer.clear();
            match kinds[id as usize] {
                kind @ (Kind::Control | Kind::Unknown | Kind::UserDefined) => {
                    buffer.extend_from_slice(text);
                    special.insert(text, id, kind.is_control());
                }
                Kind::Byte if bytes::from_hex(text).is_some() => {
                    buffer.extend(bytes::from_hex(text));
                }
                _ => match spelling {
                    Spelling::ByteLevel => bytes::from_byte_level(text, &mut buffer),
                    Spelling::SentencePiece => bytes::unescape_spaces(text, &mut buffer),
                },
            }
            decoded.push(&buffer)?;
        }
        decoded.shrink();
        special.finish();
        Ok(Vocab { bytes: decoded, kinds, special, end_of_generation })
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

/// `tokenizer.ggml.<name>_token_id`, if present and inside the vocabulary (llama.cpp ignores others).
pub(crate) fn token_id(metadata: &Metadata, name: &str, count: usize) -> Result<Option<u32>> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    // Some converters write -1 for none.
    if !metadata.contains(&key) || metadata.u64(&key).is_err() {
        return Ok(None);
    }
    let id = metadata.u32(&key)?;
    Ok(((id as usize) < count).then_some(id))
}

/// A piece of a text, cut at special tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Piece<'t> {
    Text(&'t str),
    Token(u32),
}

/// Which special tokens count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    UserDefined,
    Control,
    Both,
}

/// The tokens that are matched as a whole before anything else: user-defined ones always, control
/// ones where control is allowed.
#[derive(Debug, Default)]
pub(crate) struct SpecialTokens {
    /// Text → id and whether it is a control token.
    ids: HashMap<Box<[u8]>, (u32, bool)>,
    /// For each first byte, the lengths in bytes that occur, longest first.
    lengths: HashMap<u8, Vec<usize>>,
}

impl SpecialTokens {
    fn insert(&mut self, text: &[u8], id: u32, control: bool) {
        // Text that is not UTF-8 cannot occur in a prompt.
        if let Some(&first) = text.first()
            && std::str::from_utf8(text).is_ok()
        {
            self.ids.entry(text.into()).or_insert((id, control));
            self.lengths.entry(first).or_default().push(text.len());
        }
    }

    fn finish(&mut self) {
        for lengths in self.lengths.values_mut() {
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.dedup();
        }
    }

    /// The longest token at the start of `text`: id and length in bytes.
    pub(crate) fn at_start(&self, text: &[u8], which: Match) -> Option<(u32, usize)> {
        let lengths = self.lengths.get(text.first()?)?;
        lengths.iter().find_map(|&length| {
            let &(id, control) = self.ids.get(text.get(..length)?)?;
            let counts = match which {
                Match::Both => true,
                Match::Control => control,
                Match::UserDefined => !control,
            };
            counts.then_some((id, length))
        })
    }

    /// Texts of the control tokens.
    pub(crate) fn control_texts(&self) -> impl Iterator<Item = &str> {
        let control = self.ids.iter().filter(|(_, (_, control))| *control);
        control.filter_map(|(text, _)| std::str::from_utf8(text).ok())
    }

    /// Cuts `text` at special tokens, leftmost and then longest first.
    pub(crate) fn split<'t>(
        &self,
        text: &'t str,
        which: Match,
        each: &mut dyn FnMut(Piece<'t>) -> Result<()>,
    ) -> Result<()> {
        let bytes = text.as_bytes();
        let (mut start, mut at) = (0, 0);
        while at < bytes.len() {
            match self.at_start(&bytes[at..], which) {
                Some((id, length)) => {
                    if start < at {
                        each(Piece::Text(&text[start..at]))?;
                    }
                    each(Piece::Token(id))?;
                    at += length;
                    start = at;
                }
                None => at += 1,
            }
        }
        if start < bytes.len() {
            each(Piece::Text(&text[start..]))?;
        }
        Ok(())
    }
}
