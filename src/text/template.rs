//! [`ChatTemplate`]: the file's Jinja chat template, from messages to segments.
//!
//! The template is untrusted: it can include nothing, and its time, memory and output are bounded.
//! So are the messages: a control token's text inside a message stays text. For that, the first
//! character of every such text is replaced before rendering by a character that occurs nowhere
//! else, and put back after the rendered text has been cut at the control tokens that remain, which
//! are the template's own. The message is really rendered, so filters such as `trim` work.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, ErrorKind, context};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::text::special::{Match, Piece};
use crate::text::tokenizer::{Segment, Tokenizer};
use crate::text::vocab::Vocab;
use crate::text::{clock, pycompat};
use crate::weights::Metadata;

/// Instructions and 64-byte units of memory that one rendering may use, plus [`FUEL_PER_MESSAGE`].
const FUEL: u64 = 300_000;
/// Templates in use take some 50 to 500 for a message.
const FUEL_PER_MESSAGE: u64 = 5_000;
/// Bytes of output beyond eight times the messages.
const MAX_EXTRA_OUTPUT: usize = 1 << 20;
/// Templates in use are up to some 20 KB.
const MAX_TEMPLATE: usize = 1 << 20;

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
    /// The environment with the template in it, or why there is none.
    environment: Result<Environment<'static>>,
    source: String,
    vocab: Arc<Vocab>,
    bos: String,
    eos: String,
}

const NAME: &str = "chat";

impl ChatTemplate {
    /// Compiles `tokenizer.chat_template`. A missing or invalid template is an error only when it
    /// is used: a plain prompt needs none.
    #[must_use]
    pub fn from_metadata(metadata: &Metadata, tokenizer: &Tokenizer) -> Self {
        let source = metadata.str("tokenizer.chat_template").ok();
        ChatTemplate::new(source, tokenizer)
    }

    /// Compiles `source`, for the control tokens of `tokenizer`.
    #[must_use]
    pub fn new(source: Option<&str>, tokenizer: &Tokenizer) -> Self {
        let text = |id: Option<u32>| {
            let bytes = id.map(|id| tokenizer.token_bytes(id)).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        ChatTemplate {
            environment: source.ok_or(Error::NoChatTemplate).and_then(compile),
            source: source.unwrap_or_default().to_owned(),
            vocab: Arc::clone(tokenizer.vocab()),
            bos: text(tokenizer.bos()),
            eos: text(tokenizer.eos()),
        }
    }

    /// Whether there is a usable template.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.environment.is_ok()
    }

    /// Renders the conversation; `add_generation_prompt` asks for the start of the assistant's next
    /// message at the end.
    ///
    /// # Errors
    /// [`Error::NoChatTemplate`] if the file has none; [`Error::Template`] if it does not compile,
    /// raises an exception (for example for roles in the wrong order), or runs too long.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Vec<Segment>> {
        let mut environment = self.environment.clone()?;
        let size = messages.iter().map(|m| m.role.len() + m.content.len()).sum::<usize>();
        let turns = messages.len() as u64 * FUEL_PER_MESSAGE;
        environment.set_fuel(Some(FUEL + turns + size as u64));

        let shield = Shield::new(&self.vocab, &self.source, messages)?;
        let shielded = messages.iter().map(|message| {
            context! {
                role => shield.protect(&message.role),
                content => shield.protect(&message.content),
            }
        });
        let context = context! {
            messages => Value::from(shielded.collect::<Vec<_>>()),
            add_generation_prompt,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            // Hugging Face passes these as None when there are none.
            tools => (),
            documents => (),
        };
        let mut output =
            Bounded { text: Vec::new(), room: size.saturating_mul(8).saturating_add(MAX_EXTRA_OUTPUT) };
        let template = environment.get_template(NAME).map_err(template_error)?;
        template.render_captured_to(context, &mut output).map_err(template_error)?;
        let text = String::from_utf8(output.text).map_err(|e| Error::Template { reason: e.to_string() })?;

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

fn template_error(error: minijinja::Error) -> Error {
    let reason = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "it runs too long or uses too much memory".to_owned(),
        (_, Some(detail)) => detail.to_owned(),
        (kind, None) => kind.to_string(),
    };
    let reason = match error.line() {
        Some(line) => format!("{reason} (line {line})"),
        None => reason,
    };
    Error::Template { reason }
}

/// An environment like Hugging Face's, holding nothing but the template.
fn compile(source: &str) -> Result<Environment<'static>> {
    if source.len() > MAX_TEMPLATE {
        return Err(Error::Template {
            reason: format!("it is {} bytes long, more than {MAX_TEMPLATE}", source.len()),
        });
    }
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(template_error)?);
    environment.set_unknown_method_callback(pycompat::call);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: String| clock::strftime_now(&format));
    environment.add_filter("tojson", tojson);
    environment.add_template_owned(NAME, without_generation_tags(source)).map_err(template_error)?;
    Ok(environment)
}

/// Python's `json.dumps` instead of JSON made safe for HTML.
fn tojson(value: &Value, indent: Option<Value>, args: Kwargs) -> Result<Value, minijinja::Error> {
    let indent = match indent {
        None => args.get("indent")?,
        given => given,
    };
    let json = minijinja::filters::tojson(value, indent, Kwargs::from_iter::<[(&str, Value); 0]>([]))?;
    let mut json = json.to_string();
    for (escape, plain) in [("\\u003c", "<"), ("\\u003e", ">"), ("\\u0026", "&"), ("\\u0027", "'")] {
        json = json.replace(escape, plain);
    }
    Ok(Value::from_safe_string(json))
}

/// Without `{% generation %}` and `{% endgeneration %}`, Hugging Face's marks for training.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else {
            break;
        };
        let (before, tag) = (&rest[..start], &rest[start + 2..start + length]);
        let word = tag.trim_matches(['-', '+', ' ', '\t', '\n']);
        result.push_str(before);
        match word {
            // A tag with the same whitespace control and no effect.
            "generation" => result.push_str(&format!("{{%{}%}}", tag.replace(word, "if true"))),
            "endgeneration" => result.push_str(&format!("{{%{}%}}", tag.replace(word, "endif"))),
            _ => result.push_str(&rest[start..start + length + 2]),
        }
        rest = &rest[start + length + 2..];
    }
    result.push_str(rest);
    result
}

/// Output with an upper bound.
struct Bounded {
    text: Vec<u8>,
    room: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.text.len() + bytes.len() > self.room {
            return Err(std::io::Error::other("the output is too long"));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
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
