//! [`ChatTemplate`]: the file's Jinja chat template, from messages to segments.
//!
//! The template is untrusted: it can include nothing, and its time, memory, output and depth are
//! bounded (see `text/jinja`).
//! So are the messages: a control token's text inside a message stays text. For that, the first
//! character of every such text is replaced before rendering by a character that occurs nowhere
//! else, and put back after the rendered text has been cut at the control tokens that remain, which
//! are the template's own. The message is really rendered, so filters such as `trim` work.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use minijinja::value::Value;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::text::jinja;
use crate::text::special::{Match, Piece};
use crate::text::tokenizer::{Segment, Tokenizer};
use crate::text::vocab::Vocab;
use crate::weights::Metadata;

/// Instructions and 64-byte units of work, memory and output that one rendering may use, beyond
/// [`FUEL_PER_MESSAGE`] and one for each byte of the messages.
const FUEL: u64 = 300_000;
/// Templates in use take some 50 to 500 for a message.
const FUEL_PER_MESSAGE: u64 = 5_000;
/// Bytes of output beyond eight times the messages.
const MAX_EXTRA_OUTPUT: usize = 1 << 20;

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// A message with this role and content.
    #[must_use]
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into() }
    }
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    /// The template, or why there is none.
    template: Result<jinja::Template>,
    vocab: Arc<Vocab>,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Compiles `tokenizer.chat_template`. A missing or invalid template is an error only when it
    /// is used: a plain prompt needs none.
    #[must_use]
    pub fn from_metadata(metadata: &Metadata, tokenizer: &Tokenizer) -> Self {
        let key = "tokenizer.chat_template";
        let source = if metadata.contains(key) { metadata.str(key) } else { Err(Error::NoChatTemplate) };
        ChatTemplate::compile(source, tokenizer)
    }

    /// Compiles `source`, for the control tokens of `tokenizer`.
    #[must_use]
    pub fn new(source: Option<&str>, tokenizer: &Tokenizer) -> Self {
        ChatTemplate::compile(source.ok_or(Error::NoChatTemplate), tokenizer)
    }

    fn compile(source: Result<&str>, tokenizer: &Tokenizer) -> Self {
        let text = |id: Option<u32>| {
            let bytes = id.map(|id| tokenizer.token_bytes(id)).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        ChatTemplate {
            template: source.and_then(jinja::Template::new),
            vocab: Arc::clone(tokenizer.vocab()),
            bos: text(tokenizer.bos()),
            eos: text(tokenizer.eos()),
        }
    }

    /// Whether the file has a template. One that is not understood is an error when it is used.
    #[must_use]
    pub fn is_present(&self) -> bool {
        !matches!(self.template, Err(Error::NoChatTemplate))
    }

    /// Renders the conversation; `add_generation_prompt` asks for the start of the assistant's next
    /// message at the end.
    ///
    /// # Errors
    /// [`Error::NoChatTemplate`] if the file has none; [`Error::Template`] if it does not compile,
    /// raises an exception (for example for roles in the wrong order), or runs too long.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Vec<Segment>> {
        let template = self.template.as_ref().map_err(Clone::clone)?;
        let size = messages.iter().map(|m| m.role.len() + m.content.len()).sum::<usize>();
        let turns = messages.len() as u64 * FUEL_PER_MESSAGE;
        let fuel = FUEL.saturating_add(turns).saturating_add(size as u64);

        let shield = Shield::new(&self.vocab, template.source(), messages)?;
        let shielded = messages.iter().map(|message| {
            let protected = |text| Value::from(shield.protect(text));
            jinja::dict([("role", protected(&message.role)), ("content", protected(&message.content))])
        });
        let variables = vec![
            ("messages", Value::from(shielded.collect::<Vec<_>>())),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            ("bos_token", Value::from(self.bos.as_str())),
            ("eos_token", Value::from(self.eos.as_str())),
            // Hugging Face passes these as None when there are none.
            ("tools", Value::from(())),
            ("documents", Value::from(())),
        ];
        let text = template.render(variables, fuel)?;
        let room = size.saturating_mul(8).saturating_add(MAX_EXTRA_OUTPUT);
        if text.len() > room {
            let reason = format!("its output is {} bytes long, more than {room}", text.len());
            return Err(Error::Template { reason });
        }

        let mut segments = Vec::new();
        self.vocab.special.split(&text, Match::Control, &mut |piece| {
            segments.push(match piece {
                Piece::Token(id) => Segment::Control(id),
                Piece::Text(text) => Segment::Text(shield.restore(text)),
            });
            Ok(())
        })?;
        Ok(segments)
    }
}

/// Keeps control tokens' texts in messages from becoming control tokens.
struct Shield<'v> {
    vocab: &'v Vocab,
    /// The character that stands for each first character of a control token.
    marks: HashMap<char, char>,
    /// The same the other way round.
    originals: HashMap<char, char>,
}

impl<'v> Shield<'v> {
    fn new(vocab: &'v Vocab, source: &str, messages: &[Message]) -> Result<Self> {
        let firsts: HashSet<char> =
            vocab.special.control_texts().filter_map(|text| text.chars().next()).collect();
        let texts = messages.iter().flat_map(|m| [m.role.as_str(), m.content.as_str()]);
        let taken: HashSet<char> =
            texts.chain([source]).flat_map(str::chars).filter(|&c| c >= '\u{FDD0}').collect();
        // Noncharacters first; text that has them all leaves two planes of private characters.
        let mut free = ('\u{FDD0}'..='\u{FDEF}')
            .chain('\u{F0000}'..='\u{10FFFF}')
            .filter(|c| !taken.contains(c) && !firsts.contains(c));
        let (mut marks, mut originals) = (HashMap::new(), HashMap::new());
        for first in firsts.iter().copied() {
            let mark = free.next().ok_or_else(|| Error::Template {
                reason: "the messages use every private character of Unicode".to_owned(),
            })?;
            marks.insert(first, mark);
            originals.insert(mark, first);
        }
        Ok(Shield { vocab, marks, originals })
    }

    /// `text` with a mark where a control token begins, or may begin once something follows.
    fn protect(&self, text: &str) -> String {
        // The template may trim the end before it appends something.
        let trimmed = text.trim_end().len();
        let starts: HashSet<usize> = self.vocab.special.control_starts(text, trimmed).into_iter().collect();
        let mut result = String::with_capacity(text.len());
        for (at, c) in text.char_indices() {
            result.push(match self.marks.get(&c) {
                Some(mark) if at >= trimmed || starts.contains(&at) => *mark,
                _ => c,
            });
        }
        result
    }

    fn restore(&self, text: &str) -> String {
        text.chars().map(|c| self.originals.get(&c).copied().unwrap_or(c)).collect()
    }
}
