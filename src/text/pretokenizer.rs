//! Pre-tokenizers of byte-level BPE: how `tokenizer.ggml.pre` cuts a text into words.
//!
//! Names and rules are llama.cpp's (llama-vocab.cpp), which are those of the models'
//! `tokenizer.json`. There they are regular expressions. Here they are written out, since the engine
//! that could run these (Unicode classes, lookahead) is a fifth of the wasm module; tests compare with
//! it.

use crate::error::{Error, Result};
use crate::text::category::{self, Category};

/// One step; each cuts the pieces of the step before. What a step does not match is a piece too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Every numeric character (`\p{N}`) by itself.
    Digits,
    /// `[\p{P}\$\+<=>\^~\|]+`
    Punctuation,
    /// `\p{N}+`
    Numbers,
    /// `[0-9][0-9][0-9]`
    Triples,
    /// Words, numbers, punctuation and whitespace; matches everything.
    Words(Style),
}

/// How [`Step::Words`] cuts. The regular expressions are in the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Gpt2,
    /// Llama 3, Qwen 2 and what came after them.
    Modern {
        /// The most digits in one word.
        digits: usize,
        /// Whether marks (`\p{M}`) are letters.
        marks: bool,
    },
}

const GPT2: Step = Step::Words(Style::Gpt2);
const LLAMA3: Step = Step::Words(Style::Modern { digits: 3, marks: false });
const QWEN2: Step = Step::Words(Style::Modern { digits: 1, marks: false });
const QWEN35: Step = Step::Words(Style::Modern { digits: 1, marks: true });

/// What `tokenizer.ggml.pre` may be, and how it cuts.
const NAMED: [(&[&str], &[Step]); 6] = [
    // llama.cpp's choice for files that name no pre-tokenizer.
    (&["default", ""], &[Step::Punctuation, GPT2, Step::Numbers, Step::Triples]),
    (
        &[
            "gpt-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "phi-2",
            "gigachat",
            "a.x-4.0",
            "mellum",
        ],
        &[GPT2],
    ),
    (
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[Step::Digits, GPT2],
    ),
    (
        &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "dbrx",
            "smaug-bpe",
            "glm4",
            "chatglm-bpe",
        ],
        &[LLAMA3],
    ),
    (
        &["qwen2", "stablelm2", "hunyuan", "solar-open", "megrez", "deepseek-r1-qwen", "kormo", "grok-2"],
        &[QWEN2],
    ),
    (&["qwen35"], &[QWEN35]),
];

/// Cuts text into words, and knows what else `tokenizer.ggml.pre` implies.
#[derive(Debug)]
pub(crate) struct PreTokenizer {
    steps: &'static [Step],
    /// A word that is a token is that token, whatever the merges say.
    pub(crate) ignore_merges: bool,
    /// Whether a beginning-of-sequence token is added if the file does not say.
    pub(crate) add_bos: bool,
}

impl PreTokenizer {
    /// The pre-tokenizer called `name`.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let Some((_, steps)) = NAMED.iter().find(|(names, _)| names.contains(&name)) else {
            let names = NAMED.iter().flat_map(|(names, _)| names.iter()).filter(|name| !name.is_empty());
            return Err(Error::UnsupportedTokenizer {
                found: format!("{name} (tokenizer.ggml.pre)"),
                supported: names.copied().collect::<Vec<_>>().join(", "),
            });
        };
        let llama3 = matches!(
            name,
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2"
        );
        Ok(PreTokenizer { steps, ignore_merges: llama3, add_bos: llama3 })
    }

    /// Bytes of the first piece of `text` by the first step alone; 0 if there is no text.
    pub(crate) fn piece(&self, text: &str) -> usize {
        let Some(step) = self.steps.first() else { return text.len() };
        text.char_indices()
            .find_map(|(at, _)| match (at, step.length(&text[at..])) {
                (_, 0) => None,
                (0, length) => Some(length),
                (gap, _) => Some(gap),
            })
            .unwrap_or(text.len())
    }

    /// Calls `each` with every word of such a piece, in order.
    pub(crate) fn words(&self, piece: &str, each: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
        walk(self.steps.get(1..).unwrap_or_default(), piece, each)
    }
}

fn walk(steps: &[Step], text: &str, each: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let Some((step, later)) = steps.split_first() else {
        return if text.is_empty() { Ok(()) } else { each(text) };
    };
    // Where the piece that no match has taken begins, and where to look on.
    let (mut start, mut at) = (0, 0);
    while let Some(c) = text[at..].chars().next() {
        match step.length(&text[at..]) {
            0 => at += c.len_utf8(),
            length => {
                if start < at {
                    walk(later, &text[start..at], each)?;
                }
                start = at + length;
                walk(later, &text[at..start], each)?;
                at = start;
            }
        }
    }
    walk(later, &text[start..], each)
}

impl Step {
    /// Bytes of the match at the beginning of `text`; 0 if there is none.
    fn length(self, text: &str) -> usize {
        match self {
            Step::Digits => run(text, 1, is_number),
            Step::Punctuation => {
                run(text, usize::MAX, |c| category::of(c) == Category::Punctuation || "$+<=>^~|".contains(c))
            }
            Step::Numbers => run(text, usize::MAX, is_number),
            Step::Triples => match run(text, 3, |c| c.is_ascii_digit()) {
                3 => 3,
                _ => 0,
            },
            Step::Words(style) => style.length(text),
        }
    }
}

fn is_number(c: char) -> bool {
    category::of(c) == Category::Number
}

/// Bytes of the characters, at most `most`, at the beginning of `text` that are `wanted`.
fn run(text: &str, most: usize, wanted: impl Fn(char) -> bool) -> usize {
    text.chars().take(most).take_while(|&c| wanted(c)).map(char::len_utf8).sum()
}

/// What words are made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Number,
    Space,
    Other,
}

impl Style {
    fn kind(self, c: char) -> Kind {
        match category::of(c) {
            Category::Letter => Kind::Letter,
            Category::Mark if matches!(self, Style::Modern { marks: true, .. }) => Kind::Letter,
            Category::Number => Kind::Number,
            _ if c.is_whitespace() => Kind::Space,
            _ => Kind::Other,
        }
    }

    /// Bytes of the first word of `text`; 0 if there is no text.
    fn length(self, text: &str) -> usize {
        let contraction = contraction(text, self != Style::Gpt2);
        if contraction > 0 {
            return contraction;
        }
        let mut chars = text.chars();
        let Some(first) = chars.next() else { return 0 };
        let kind = self.kind(first);
        let next = chars.next().map(|c| self.kind(c));
        // To the end of the characters of this kind, the first ones left out.
        let through =
            |from: usize, most: usize, kind: Kind| from + run(&text[from..], most, |c| self.kind(c) == kind);
        let blank = first == ' ';
        // What may precede a word without a space between.
        let leads = match self {
            Style::Gpt2 => blank,
            Style::Modern { .. } => !matches!(kind, Kind::Number) && !is_newline(first),
        };
        if kind == Kind::Letter {
            return through(0, usize::MAX, Kind::Letter);
        }
        if leads && next == Some(Kind::Letter) {
            return through(first.len_utf8(), usize::MAX, Kind::Letter);
        }
        match self {
            Style::Gpt2 if kind == Kind::Number || (blank && next == Some(Kind::Number)) => {
                return through(usize::from(blank), usize::MAX, Kind::Number);
            }
            Style::Modern { digits, .. } if kind == Kind::Number => {
                return through(0, digits, Kind::Number);
            }
            _ => {}
        }
        if kind == Kind::Other || (blank && next == Some(Kind::Other)) {
            let end = through(usize::from(blank), usize::MAX, Kind::Other);
            return match self {
                Style::Gpt2 => end,
                Style::Modern { .. } => end + run(&text[end..], usize::MAX, is_newline),
            };
        }
        let end = through(0, usize::MAX, Kind::Space);
        let spaces = &text[..end];
        if let (Style::Modern { .. }, Some(newline)) = (self, spaces.rfind(is_newline)) {
            return newline + 1;
        }
        // The last of several spaces belongs to the word that follows.
        let last = spaces.chars().next_back().map_or(0, char::len_utf8);
        if end < text.len() && end > last { end - last } else { end }
    }
}

fn is_newline(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

/// Bytes of an English contraction, such as `'ll`, at the beginning of `text`.
fn contraction(text: &str, any_case: bool) -> usize {
    let Some(letters) = text.strip_prefix('\'') else { return 0 };
    let letter = |at: usize| {
        let letter = letters.as_bytes().get(at).copied().unwrap_or(0);
        if any_case { letter.to_ascii_lowercase() } else { letter }
    };
    match (letter(0), letter(1)) {
        (b's' | b't' | b'm' | b'd', _) => 2,
        (b'r' | b'v', b'e') | (b'l', b'l') => 3,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::utils::SysRegex;

    use super::*;

    const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
    const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const QWEN35: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    /// The regular expressions of llama.cpp.
    const ORACLES: [(&str, &[&str]); 6] = [
        ("gpt-2", &[GPT2]),
        ("smollm", &[r"\p{N}", GPT2]),
        ("llama-bpe", &[LLAMA3]),
        ("qwen2", &[QWEN2]),
        ("qwen35", &[QWEN35]),
        ("default", &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"]),
    ];

    fn by_regex<'t>(regexes: &[SysRegex], text: &'t str, words: &mut Vec<&'t str>) {
        let Some((regex, later)) = regexes.split_first() else {
            words.extend(Some(text).filter(|text| !text.is_empty()));
            return;
        };
        let mut start = 0;
        for (from, to) in regex.find_iter(text) {
            by_regex(later, &text[start..from], words);
            by_regex(later, &text[from..to], words);
            start = to;
        }
        by_regex(later, &text[start..], words);
    }

    fn by_rule<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
        let mut words = Vec::new();
        let mut start = 0;
        let each = &mut |word: &str| {
            words.push(&text[start..start + word.len()]);
            assert_eq!(words.last(), Some(&word));
            start += word.len();
            Ok(())
        };
        let cut = PreTokenizer::named(name).unwrap();
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cut.piece(rest));
            cut.words(piece, each).unwrap();
            rest = after;
        }
        assert_eq!(start, text.len());
        words
    }

    /// Compares every text under every rule.
    fn compare(texts: &[String]) {
        for (name, regexes) in ORACLES {
            let regexes: Vec<SysRegex> = regexes.iter().map(|r| SysRegex::new(r).unwrap()).collect();
            for text in texts {
                let mut words = Vec::new();
                by_regex(&regexes, text, &mut words);
                assert_eq!(by_rule(name, text), words, "{name}: {text:?}");
            }
        }
    }

    #[test]
    fn every_short_text_is_cut_as_by_the_regular_expressions() {
        // One of each kind that a rule knows, and three in a row of all that may run.
        let kinds = ['a', 'S', '\'', '1', '!', '$', ' ', '\n', '\r', '\t', '\u{301}', 'é', '½', '\u{3000}'];
        let mut texts: Vec<String> = vec![String::new()];
        let mut longest = texts.clone();
        for _ in 0..4 {
            let longer = |text: &String| kinds.map(|kind| format!("{text}{kind}"));
            longest = longest.iter().flat_map(longer).collect();
            texts.extend_from_slice(&longest);
        }
        compare(&texts);
    }

    #[test]
    fn random_texts_are_cut_as_by_the_regular_expressions() {
        let parts = "a·Zoë·'s·'S·'ll·'lL·'re·'VE·'m·'D·'x·'·1·22·4567·½·Ⅷ·٣· ·  ·   ·\n·\n\n·\r\n·\t·\u{a0}·\
            \u{3000}·\u{85}·\u{200b}·!·...·$·+=·|·漢字·हिन्दी·e\u{301}·\u{301}·\u{1F680}·\u{1F468}\u{200D}·\
            ʰ·ª·_·-·ſ·\0·\u{E000}·\u{10FFFF}";
        let parts: Vec<&str> = parts.split('·').collect();
        let mut state = 1u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let texts: Vec<String> =
            (0..3000).map(|_| (0..random(24)).map(|_| parts[random(parts.len())]).collect()).collect();
        compare(&texts);
    }
}
