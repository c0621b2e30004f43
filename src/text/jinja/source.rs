//! What happens to a template's text before MiniJinja parses it.
//!
//! The text is brought into the form in which MiniJinja reads it as jinja2 would: line ends become
//! line feeds, the escapes of string literals are Python's, and Hugging Face's `generation` tag, a
//! mark for training, becomes a `with` tag, which has the same scope and no other effect.
//!
//! MiniJinja's parser, its compiler and the drop of its syntax tree recurse. So the depth of the
//! text is bounded here, before any of them sees it.

use crate::error::{Error, Result};

/// Templates in use are up to some 20 KB.
const MAX_SOURCE: usize = 1 << 18;
/// Brackets, prefix operators and `else` branches open at once in one tag. Templates in use have at most 9.
const MAX_NESTING: usize = 25;
/// Operators, subscripts, attributes, calls and filters in a row. Templates in use have at most 50.
const MAX_CHAIN: usize = 200;
/// Blocks open at once, and the `elif` branches of these. Templates in use have at most 20.
const MAX_BLOCKS: usize = 50;

/// Prepares the text of a template for MiniJinja's parser.
///
/// # Errors
/// [`Error::Template`] if the text is too long or too deep, or if it has a tag, an escape or a
/// bracket that cannot be read.
pub(super) fn prepare(source: &str) -> Result<String> {
    if source.len() > MAX_SOURCE {
        let reason = format!("it is {} bytes long, more than {MAX_SOURCE}", source.len());
        return Err(Error::Template { reason });
    }
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut reader =
        Reader { source: &source, at: 0, prepared: String::with_capacity(source.len()), blocks: Vec::new() };
    reader.read()?;
    Ok(reader.prepared)
}

/// A block that is open.
struct Block<'s> {
    name: &'s str,
    /// How many levels of the syntax tree it takes: one, and one for every `elif`.
    depth: usize,
}

/// What is open at one level of brackets in a tag.
#[derive(Default)]
struct Level {
    /// The bracket that ends the level.
    end: Option<char>,
    /// Operators, subscripts, attributes, calls and filters since the last comma.
    chain: usize,
    /// `else` branches of conditional expressions since the last comma.
    branches: usize,
    /// Prefix operators before the next operand.
    prefixes: usize,
}

struct Reader<'s> {
    source: &'s str,
    /// How far `source` has been read, in bytes.
    at: usize,
    prepared: String,
    blocks: Vec<Block<'s>>,
}

impl<'s> Reader<'s> {
    fn read(&mut self) -> Result<()> {
        while let Some(brace) = self.rest().find('{') {
            self.copy(brace);
            match self.rest().as_bytes().get(1) {
                Some(b'#') => match self.rest().get(2..).and_then(|text| text.find("#}")) {
                    Some(length) => self.copy(length + 4),
                    None => return Err(self.error("a comment is not closed")),
                },
                Some(b'{') => {
                    self.copy(2);
                    self.expression("}}")?;
                }
                Some(b'%') => self.block()?,
                _ => self.copy(1),
            }
        }
        self.copy(self.rest().len());
        Ok(())
    }

    fn rest(&self) -> &'s str {
        self.source.get(self.at..).unwrap_or_default()
    }

    /// Copies the next `length` bytes, which must end at the end of a character.
    fn copy(&mut self, length: usize) {
        self.prepared.push_str(self.rest().get(..length).unwrap_or_default());
        self.at += length;
    }

    fn error(&self, reason: &str) -> Error {
        let before = self.source.get(..self.at).unwrap_or_default();
        Error::Template { reason: format!("{reason} (line {})", before.matches('\n').count() + 1) }
    }

    /// Reads a tag `{% … %}`, and all of a raw block.
    fn block(&mut self) -> Result<()> {
        if let Some(length) = tag(self.rest(), "raw") {
            let body = self.rest().get(length..).unwrap_or_default();
            let end = body.match_indices("{%").find_map(|(at, _)| {
                let end = tag(body.get(at..)?, "endraw")?;
                Some(at + end)
            });
            return match end {
                Some(end) => {
                    self.copy(length + end);
                    Ok(())
                }
                None => Err(self.error("a raw block is not closed")),
            };
        }
        self.copy(2);
        if self.rest().starts_with(['-', '+']) {
            self.copy(1);
        }
        let space = self.rest().len() - self.rest().trim_start().len();
        self.copy(space);
        let name = word(self.rest());
        match name {
            "generation" => self.replace(name, "with"),
            "endgeneration" => self.replace(name, "endwith"),
            _ => self.copy(name.len()),
        }
        let assigns = self.expression("%}")?;
        match name {
            "set" if assigns => Ok(()),
            "for" | "if" | "with" | "macro" | "call" | "filter" | "set" | "generation" => {
                self.blocks.push(Block { name, depth: 1 });
                self.check_blocks()
            }
            "else" | "break" | "continue" => Ok(()),
            "elif" => {
                if let Some(block) = self.blocks.last_mut() {
                    block.depth += 1;
                }
                self.check_blocks()
            }
            _ => match name.strip_prefix("end") {
                Some(ended) if self.blocks.last().is_some_and(|block| block.name == ended) => {
                    self.blocks.pop();
                    Ok(())
                }
                Some(_) => Err(self.error(&format!("the tag {name} ends no open block"))),
                None => Err(self.error(&format!("the tag '{name}' is not supported"))),
            },
        }
    }

    /// Writes `new` for `old`, which comes next.
    fn replace(&mut self, old: &str, new: &str) {
        self.prepared.push_str(new);
        self.at += old.len();
    }

    fn check_blocks(&self) -> Result<()> {
        let depth: usize = self.blocks.iter().map(|block| block.depth).sum();
        match depth > MAX_BLOCKS {
            true => Err(self.error(&format!("blocks are nested deeper than {MAX_BLOCKS}"))),
            false => Ok(()),
        }
    }

    /// Reads up to and with the `end` of a tag, and says whether it assigns outside of brackets.
    fn expression(&mut self, end: &str) -> Result<bool> {
        let mut levels = vec![Level::default()];
        let mut assigns = false;
        // Whether the token before was an operand, so that an operator now has two.
        let mut operand = false;
        // Whether the token before was `is`, after which `not` is no prefix operator.
        let mut test = false;
        while let Some(c) = self.rest().chars().next() {
            if levels.len() == 1 {
                let closing = self.rest().strip_prefix(['-', '+']).unwrap_or(self.rest());
                if closing.starts_with(end) {
                    self.copy(self.rest().len() - closing.len() + end.len());
                    return Ok(assigns);
                }
            }
            let outermost = levels.len() == 1;
            let Some(level) = levels.last_mut() else {
                return Err(self.error("a bracket is not open"));
            };
            let was_operand = std::mem::replace(&mut operand, false);
            let was_test = std::mem::replace(&mut test, false);
            match c {
                '\'' | '"' => {
                    self.literal(c)?;
                    operand = true;
                }
                _ if c.is_whitespace() => {
                    self.copy(c.len_utf8());
                    (operand, test) = (was_operand, was_test);
                }
                '(' | '[' | '{' => {
                    level.chain += 1;
                    self.copy(1);
                    let end = match c {
                        '(' => ')',
                        '[' => ']',
                        _ => '}',
                    };
                    levels.push(Level { end: Some(end), ..Level::default() });
                }
                ')' | ']' | '}' => {
                    if level.end != Some(c) {
                        return Err(self.error(&format!("unexpected '{c}'")));
                    }
                    self.copy(1);
                    levels.pop();
                    operand = true;
                }
                ',' | ':' => {
                    (level.chain, level.branches, level.prefixes) = (0, 0, 0);
                    self.copy(1);
                }
                '-' if !was_operand => {
                    level.prefixes += 1;
                    self.copy(1);
                }
                // MiniJinja knows no such operator.
                '+' if !was_operand => self.replace("+", " "),
                '=' if !self.rest().starts_with("==") => {
                    assigns |= outermost;
                    self.copy(1);
                }
                '*' | '/' | '=' | '<' | '>' | '!' => {
                    level.chain += 1;
                    let two = ["**", "//", "==", "<=", ">=", "!="];
                    let length = if two.iter().any(|op| self.rest().starts_with(op)) { 2 } else { 1 };
                    self.copy(length);
                }
                _ if c.is_ascii_alphanumeric() || c == '_' => match word(self.rest()) {
                    "not" if !was_operand => {
                        level.prefixes += usize::from(!was_test);
                        self.copy(3);
                    }
                    name @ ("and" | "or" | "not" | "in" | "is" | "if" | "else") => {
                        level.chain += 1;
                        level.branches += usize::from(name == "else");
                        test = name == "is";
                        self.copy(name.len());
                    }
                    name => {
                        self.copy(name.len());
                        operand = true;
                    }
                },
                _ => {
                    level.chain += 1;
                    self.copy(c.len_utf8());
                }
            }
            if let Some(level) = levels.last_mut().filter(|_| operand) {
                level.prefixes = 0;
            }
            let nesting: usize = levels.iter().map(|level| 1 + level.prefixes + level.branches).sum();
            if nesting > MAX_NESTING {
                return Err(self.error(&format!("an expression is nested deeper than {MAX_NESTING}")));
            }
            if levels.iter().map(|level| level.chain).sum::<usize>() > MAX_CHAIN {
                return Err(self.error(&format!("an expression has more than {MAX_CHAIN} operators")));
            }
        }
        Err(self.error("a tag is not closed"))
    }

    /// Reads a string literal and writes it with escapes that MiniJinja reads as Python would.
    fn literal(&mut self, quote: char) -> Result<()> {
        self.copy(1);
        // Line feeds that the literal loses, written after it, so that lines keep their numbers.
        let mut removed = String::new();
        loop {
            let Some(length) = self.rest().find([quote, '\\']) else {
                return Err(self.error("a string is not closed"));
            };
            self.copy(length);
            if self.rest().starts_with(quote) {
                self.copy(1);
                self.prepared.push_str(&removed);
                return Ok(());
            }
            self.at += 1;
            let Some(c) = self.rest().chars().next() else {
                return Err(self.error("a string is not closed"));
            };
            self.at += c.len_utf8();
            let simple = match c {
                '\n' => {
                    removed.push('\n');
                    continue;
                }
                '\\' | '\'' | '"' => c,
                'a' => '\x07',
                'b' => '\x08',
                'f' => '\x0C',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\x0B',
                '0'..='7' => {
                    let rest = self.rest();
                    let more = rest.bytes().take(2).take_while(|b| matches!(b, b'0'..=b'7')).count();
                    self.code(&format!("{c}{}", rest.get(..more).unwrap_or_default()), 8, more)?
                }
                'x' | 'u' | 'U' => {
                    let length = match c {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let digits = self.rest().get(..length).unwrap_or_default();
                    self.code(digits, 16, length)?
                }
                'N' => return Err(self.error("the escape \\N{…} is not supported")),
                // Any other backslash stands for itself.
                _ if c.is_ascii() => {
                    self.prepared.push_str("\\\\");
                    self.prepared.push(c);
                    continue;
                }
                // jinja2 reads the backslash as the escape of the one it writes for this character.
                _ => {
                    let code = u32::from(c);
                    self.prepared.push_str("\\\\");
                    self.prepared.push_str(&match code {
                        ..=0xFF => format!("x{code:02x}"),
                        0x100..=0xFFFF => format!("u{code:04x}"),
                        _ => format!("U{code:08x}"),
                    });
                    continue;
                }
            };
            match simple {
                '\n' => self.prepared.push_str("\\n"),
                '\\' | '\'' | '"' => {
                    self.prepared.push('\\');
                    self.prepared.push(simple);
                }
                _ => self.prepared.push(simple),
            }
        }
    }

    /// The character with this code, whose digits end `length` bytes from here.
    fn code(&mut self, digits: &str, radix: u32, length: usize) -> Result<char> {
        let valid = digits.chars().all(|c| c.is_digit(radix)) && digits.len() >= length;
        let c = u32::from_str_radix(digits, radix).ok().filter(|_| valid).and_then(char::from_u32);
        self.at += length;
        c.ok_or_else(|| self.error("an escape in a string names no character"))
    }
}

/// The letters, digits and underscores at the start of `text`.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

/// The length of the tag `name` without arguments, if `text` starts with it.
fn tag(text: &str, name: &str) -> Option<usize> {
    let inner = text.strip_prefix("{%")?;
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner).trim_start();
    let after = inner.strip_prefix(name)?.trim_start();
    let after = after.strip_prefix(['-', '+']).unwrap_or(after).strip_prefix("%}")?;
    Some(text.len() - after.len())
}
