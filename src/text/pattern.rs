//! A matcher for the regular expressions of pre-tokenizers, which are simple. An engine that runs all
//! regular expressions (with Unicode classes and lookahead) is a fifth of the wasm module.
//!
//! What is understood, and means what it does elsewhere:
//! - alternatives `a|b`, of which the first that matches counts;
//! - a character, a class `[^a-z\p{L}\s&&[^x]]`, `\p{L}` (also M, N, P, S), `\s`, and a group `(?:…)`;
//! - behind one of these `?`, `*`, `+`, `{n}`, `{m,n}`, all greedy;
//! - `(?!\S)`: white space or the end of the text follows.
//!
//! A group never gives back what it matched.

use crate::text::category::{self, Category};

/// Alternatives, in the order in which they are tried.
#[derive(Debug, Default)]
pub(crate) struct Pattern {
    alternatives: Vec<Vec<Part>>,
}

#[derive(Debug)]
struct Part {
    what: What,
    least: usize,
    most: usize,
}

#[derive(Debug)]
enum What {
    Class(Class),
    Group(Pattern),
    /// `(?!\S)`
    Blank,
}

/// A set of characters.
#[derive(Debug, Default)]
struct Class {
    /// A bit for each ASCII character; `not` and `minus` are in it.
    ascii: u128,
    /// A bit for each kind of other characters: [`kind`].
    kinds: u8,
    ranges: Vec<(char, char)>,
    not: bool,
    minus: Option<Box<Class>>,
}

const SPACE: u8 = 1;

/// The bit of a category, or of white space.
fn kind(c: char) -> u8 {
    match category::of(c) {
        Category::Letter => 2,
        Category::Mark => 4,
        Category::Number => 8,
        Category::Punctuation => 16,
        Category::Symbol => 32,
        Category::Other if c.is_whitespace() => SPACE,
        Category::Other => 64,
    }
}

impl Class {
    fn has(&self, c: char) -> bool {
        match c.is_ascii() {
            true => self.ascii >> u32::from(c) & 1 == 1,
            false => self.finds(c),
        }
    }

    fn finds(&self, c: char) -> bool {
        let inside =
            self.kinds & kind(c) != 0 || self.ranges.iter().any(|&(first, last)| (first..=last).contains(&c));
        inside != self.not && !self.minus.as_ref().is_some_and(|minus| minus.has(c))
    }

    /// Fills `ascii` from the other fields.
    fn finish(mut self) -> Self {
        self.ascii = (0u8..128).filter(|&c| self.finds(char::from(c))).fold(0, |set, c| set | 1 << c);
        self
    }
}

impl Pattern {
    /// The pattern of these regular expressions, as alternatives. It is `None` if one is not understood.
    pub(crate) fn new(alternatives: &[&str]) -> Option<Self> {
        let mut pattern = Pattern::default();
        for text in alternatives {
            let rest = &mut text.chars();
            pattern.alternatives.extend(Pattern::read(rest, None)?.alternatives);
        }
        Some(pattern)
    }

    /// Reads up to `end`, or to the end of the text.
    fn read(rest: &mut std::str::Chars<'_>, end: Option<char>) -> Option<Self> {
        let mut alternatives = vec![Vec::new()];
        loop {
            let c = rest.next();
            if c == end {
                return Some(Pattern { alternatives });
            }
            let part = match c? {
                '|' => {
                    alternatives.push(Vec::new());
                    continue;
                }
                '(' => match rest.as_str().strip_prefix(r"?!\S)") {
                    Some(after) => {
                        *rest = after.chars();
                        What::Blank
                    }
                    None => {
                        *rest = rest.as_str().strip_prefix("?:")?.chars();
                        What::Group(Pattern::read(rest, Some(')'))?)
                    }
                },
                '[' => What::Class(read_class(rest)?),
                c => {
                    let mut class = Class::default();
                    read_character(c, rest, &mut class)?;
                    What::Class(class.finish())
                }
            };
            let (least, most) = read_count(rest)?;
            alternatives.last_mut()?.push(Part { what: part, least, most });
        }
    }

    /// Where the first match of `text` begins and how long it is, in bytes. If there is none, that is the
    /// end of the text and 0. No match is empty.
    pub(crate) fn find(&self, text: &str) -> (usize, usize) {
        for (start, _) in text.char_indices() {
            if let Some(end) = self.end(text, start).filter(|&end| end > start) {
                return (start, end - start);
            }
        }
        (text.len(), 0)
    }

    fn end(&self, text: &str, at: usize) -> Option<usize> {
        self.alternatives.iter().find_map(|parts| end(parts, text, at))
    }
}

/// Where a match of `parts` that begins at `at` ends.
fn end(parts: &[Part], text: &str, at: usize) -> Option<usize> {
    let Some((part, rest)) = parts.split_first() else { return Some(at) };
    let mut stop = at;
    let mut count = 0;
    match &part.what {
        What::Blank => {
            text[at..].chars().next().is_none_or(char::is_whitespace).then(|| end(rest, text, at))?
        }
        What::Group(group) => {
            while count < part.most
                && let Some(next) = group.end(text, stop)
            {
                stop = next;
                count += 1;
            }
            (count >= part.least).then(|| end(rest, text, stop))?
        }
        What::Class(class) => {
            for c in text[at..].chars().take(part.most).take_while(|&c| class.has(c)) {
                stop += c.len_utf8();
                count += 1;
            }
            while count >= part.least {
                let found = end(rest, text, stop);
                if found.is_some() || count == 0 {
                    return found;
                }
                count -= 1;
                stop -= text[..stop].chars().next_back().map_or(0, char::len_utf8);
            }
            None
        }
    }
}

/// Reads what may stand behind a part.
fn read_count(rest: &mut std::str::Chars<'_>) -> Option<(usize, usize)> {
    let counts = match rest.as_str().chars().next() {
        Some('?') => (0, 1),
        Some('*') => (0, usize::MAX),
        Some('+') => (1, usize::MAX),
        Some('{') => {
            let (counts, after) = rest.as_str()[1..].split_once('}')?;
            *rest = after.chars();
            let (least, most) = counts.split_once(',').unwrap_or((counts, counts));
            return Some((least.parse().ok()?, most.parse().ok()?));
        }
        _ => return Some((1, 1)),
    };
    rest.next();
    Some(counts)
}

/// Reads a class up to its `]`.
fn read_class(rest: &mut std::str::Chars<'_>) -> Option<Class> {
    let mut class = Class::default();
    if let Some(after) = rest.as_str().strip_prefix('^') {
        class.not = true;
        *rest = after.chars();
    }
    loop {
        if let Some(after) = rest.as_str().strip_prefix("&&[^") {
            *rest = after.chars();
            class.minus = Some(Box::new(read_class(rest)?));
        }
        match rest.next()? {
            ']' => return Some(class.finish()),
            c => read_character(c, rest, &mut class)?,
        }
    }
}

/// Adds to `class` what `first` begins: a character, a range or an escape.
fn read_character(first: char, rest: &mut std::str::Chars<'_>, class: &mut Class) -> Option<()> {
    let first = match first {
        '\\' => match rest.next()? {
            's' => {
                class.kinds |= SPACE;
                return Some(());
            }
            'p' => {
                let (name, after) = rest.as_str().strip_prefix('{')?.split_once('}')?;
                *rest = after.chars();
                let example = match name {
                    "L" => 'a',
                    "M" => '\u{301}',
                    "N" => '0',
                    "P" => '!',
                    "S" => '+',
                    _ => return None,
                };
                class.kinds |= kind(example);
                return Some(());
            }
            'r' => '\r',
            'n' => '\n',
            't' => '\t',
            c if c.is_ascii_punctuation() => c,
            _ => return None,
        },
        c => c,
    };
    let mut ahead = rest.clone();
    let last = match (ahead.next(), ahead.next()) {
        (Some('-'), Some(last)) if last != ']' => {
            *rest = ahead;
            last
        }
        _ => first,
    };
    class.ranges.push((first, last));
    Some(())
}
