//! Pre-tokenizers of byte-level BPE: how `tokenizer.ggml.pre` cuts a text into words.
//!
//! Names and rules are llama.cpp's (llama-vocab.cpp and unicode.cpp), which are those of the models'
//! `tokenizer.json`, or near to them.

use crate::error::{Error, Result};
use crate::text::category::{self, Category};
use crate::text::pattern::Pattern;

/// One step; each cuts the pieces of the step before. What a step does not match is a piece too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// What these regular expressions match; the first of them goes first.
    Match(&'static [&'static str]),
    /// `\s+$`, which a search for a pattern would try at every space.
    SpaceAtEnd,
    /// Before every three ASCII digits, counted from the end of a number: `(?=([0-9]{3})+(?![0-9]))`
    Thousands,
    /// The same for all numeric characters; what precedes a number goes with its first digits.
    ThousandsWithText,
}

const CONTRACTION: &str = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]";
const WORD: &str = r"[^\r\n\p{L}\p{N}]?\p{L}+";
const WORD_MARKS: &str = r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+";
const WORD_SYMBOLS: &str = r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+";
const CODE_WORD: &str = r"[!-/:-@\[-`{-~][A-Za-z]+";
const DIGIT: &str = r"\p{N}";
const TRIPLE: &str = r"\p{N}{1,3}";
const OTHER: &str = r" ?[^\s\p{L}\p{N}]+[\r\n]*";
const OTHER_SLASH: &str = r" ?[^\s\p{L}\p{N}]+[\r\n/]*";
const SYMBOLS: &str = r" ?[\p{P}\p{S}]+[\r\n]*";
const LINES: &str = r"\s*[\r\n]+";
/// The last of several spaces belongs to the word that follows.
const SPACES: &str = r"\s+(?!\S)|\s+";
const GPT2_WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+";
const CJK: &str = "[一-龥\u{3040}-ゟ゠-ヿ]+";
const LINE: &str = r"[^\n]+|\n+";

/// A word in which no upper case follows lower case, and the contraction behind it; letters that are not
/// ASCII count as both.
const CASED: &str = "[^\\r\\n\\p{L}\\p{N}]?[\\p{L}&&[^a-z]]*[\\p{L}&&[^A-Z]]+\
    (?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?";
/// The same for a word in upper case.
const UPPER: &str = "[^\\r\\n\\p{L}\\p{N}]?[\\p{L}&&[^a-z]]+[\\p{L}&&[^A-Z]]*\
    (?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?";
/// A word with marks in any case, and the contraction behind it.
const WITH_CONTRACTION: &str = "[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+\
    (?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?";

const GPT2: Step = Step::Match(&[GPT2_WORDS, SPACES]);
const LLAMA3: Step = Step::Match(&[CONTRACTION, WORD, TRIPLE, OTHER, LINES, SPACES]);
const QWEN2: Step = Step::Match(&[CONTRACTION, WORD, DIGIT, OTHER, LINES, SPACES]);
const DIGITS: Step = Step::Match(&[DIGIT]);
const TRIPLES: Step = Step::Match(&[TRIPLE]);
const THREE: Step = Step::Match(&["[0-9]{3}"]);

/// The letters of DeepSeek LLM's `tokenizer.json`.
const DEEPSEEK_LETTERS: &str = "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ\
    -ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰\
    -𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
/// From U+0800 on, white space left out.
const DEEPSEEK_CJK: &str = "[一-龥\u{0800}-\u{167F}\u{1681}-\u{1FFF}\u{200B}-\u{2027}\u{202A}-\u{202E}\
    \u{2030}-\u{205E}\u{2060}-\u{2FFF}\u{3001}-一가-\u{D7FF}]+";
const DEEPSEEK_SIGNS: &str = "\\s?[!-/:-~！-／：-～\u{2018}-\u{201F}\u{3001}\u{3002}]+";
const HAN: &str = "[\u{3400}-\u{4DBF}\u{4E00}-\u{9FFF}\u{F900}-\u{FAFF}\u{20000}-\u{2A6DF}\u{2A700}-\u{2EBEF}\u{2F800}-\u{2FA1F}]+";
const NOT_HAN: &str = "[^\\r\\n\\p{L}\\p{N}]?[\\p{L}&&[^\
    \u{3400}-\u{4DBF}\u{4E00}-\u{9FFF}\u{F900}-\u{FAFF}\u{20000}-\u{2A6DF}\u{2A700}-\u{2EBEF}\u{2F800}-\u{2FA1F}]]+\
    (?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?";
const YOUTU_SCRIPTS: &str = "[가-\u{D7A3}ㄱ-ㆎ]+|[！…“”‘’—：；，\u{3001}-\u{303F}\u{FE30}-\u{FE4F}]+|[ㄅ-ㄯ]+|[一-龥\u{3040}-ゟ゠-ヿ]+";
const BLOOM: Step = Step::Match(&[r" ?[^(\s|.,!?…。，、।۔،)]+"]);
const DEEPSEEK3: Step = Step::Match(&[CODE_WORD, WORD_SYMBOLS, SYMBOLS, LINES, SPACES]);

/// What `tokenizer.ggml.pre` may be, and how it cuts.
const NAMED: &[(&[&str], &[Step])] = &[
    // llama.cpp's choice for files that name no pre-tokenizer.
    (&["default", ""], &[Step::Match(&[r"[\p{P}$+<=>^~|]+"]), GPT2, Step::Match(&[r"\p{N}+"]), THREE]),
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
        &[DIGITS, GPT2],
    ),
    (&["falcon"], &[Step::Match(&[r"[\p{P}$+<=>^~|`]+"]), GPT2, THREE]),
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
            "glm5",
            "chatglm-bpe",
        ],
        &[LLAMA3],
    ),
    (
        &["qwen2", "stablelm2", "hunyuan", "solar-open", "megrez", "deepseek-r1-qwen", "kormo", "grok-2"],
        &[QWEN2],
    ),
    (
        &["qwen35"],
        &[Step::Match(&[CONTRACTION, WORD_MARKS, DIGIT, r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*", LINES, SPACES])],
    ),
    (
        &["tekken"],
        &[Step::Match(&[
            r"[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]*[\p{L}&&[^A-Z]]+",
            r"[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]+[\p{L}&&[^A-Z]]*",
            DIGIT,
            OTHER_SLASH,
            LINES,
            SPACES,
        ])],
    ),
    (
        &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        &[Step::Match(&[CASED, UPPER, TRIPLE, OTHER_SLASH, LINES, SPACES])],
    ),
    (
        &["deepseek-llm"],
        &[
            Step::Match(&[r"[\r\n]"]),
            Step::Match(&[DEEPSEEK_LETTERS]),
            Step::Match(&[DEEPSEEK_SIGNS]),
            Step::SpaceAtEnd,
            Step::Match(&[DEEPSEEK_CJK]),
            Step::Match(&[r"\p{N}+"]),
        ],
    ),
    (
        &["deepseek-coder"],
        &[
            Step::Match(&[r"[\r\n]"]),
            Step::Match(&[r"\s?\p{L}+"]),
            Step::Match(&[r"\s?\p{P}+"]),
            Step::Match(&[DEEPSEEK_CJK]),
            DIGITS,
        ],
    ),
    (&["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"], &[TRIPLES, Step::Match(&[CJK]), DEEPSEEK3]),
    (
        &["spark2_5"],
        &[
            TRIPLES,
            Step::Match(&[CJK]),
            Step::Match(&[CODE_WORD, WORD_SYMBOLS, r" ?[\p{P}\p{S}]+", r"[\r\n]", SPACES]),
            DIGITS,
        ],
    ),
    (&["seed-coder"], &[Step::Match(&[CONTRACTION, WORD, DIGIT, r" ?[^\s\p{L}\p{N}]+", LINES, SPACES])]),
    (
        &["bailingmoe", "bailingmoe2", "llada-moe"],
        &[Step::Match(&[CONTRACTION, WORD, DIGIT, OTHER, r"\s*[\r\n]", SPACES])],
    ),
    (&["ufakzeka"], &[Step::Match(&[WORD, DIGIT, OTHER, LINES, SPACES])]),
    (&["laguna"], &[Step::Match(&[LINE]), QWEN2]),
    (&["minicpm5"], &[TRIPLES, Step::Match(&[CONTRACTION, WORD, r"\p{N}+", OTHER, LINES, SPACES])]),
    (&["kimi-k2"], &[Step::Match(&[HAN, NOT_HAN, TRIPLE, OTHER, LINES, SPACES])]),
    (
        &["youtu"],
        &[Step::Match(&[YOUTU_SCRIPTS]), Step::Match(&[WITH_CONTRACTION, DIGIT, OTHER_SLASH, LINES, SPACES])],
    ),
    (
        &["tiny_aya", "cohere2moe"],
        &[Step::ThousandsWithText, Step::Match(&[WITH_CONTRACTION, TRIPLE, OTHER_SLASH, LINES, SPACES])],
    ),
    (
        &["exaone-moe"],
        &[Step::Match(&[
            CONTRACTION,
            r"[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+",
            DIGIT,
            r" ?[^\s\p{L}\p{N}]+[\r\n/]?",
            r"\s*[\r\n]",
            SPACES,
        ])],
    ),
    (&["superbpe"], &[Step::Match(&[r"\p{N}+"]), Step::Thousands]),
    (&["poro-chat", "bloom", "gpt3-finnish"], &[BLOOM]),
    (&["viking"], &[BLOOM, DIGITS]),
    (
        &["chameleon"],
        &[
            Step::Match(&["<sentinel:[0-9]+>"]),
            Step::Match(&["IMGIMG[A-I]{1,4}Z"]),
            Step::Match(&[r"[\t\n]|    |  "]),
            DIGITS,
            Step::Match(&[r"[\p{P}!-/:-@\[-`{-~]"]),
            GPT2,
        ],
    ),
];

/// Names for which a word that is a token is that token, whatever the merges say.
const IGNORE_MERGES: [&str; 13] = [
    "llama-bpe",
    "llama3",
    "llama-v3",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "minicpm5",
    "youtu",
    "glm4",
    "glm5",
    "tekken",
];

/// Names for which a beginning-of-sequence token is added if the file does not say.
const ADD_BOS: [&str; 10] = [
    "llama-bpe",
    "llama3",
    "llama-v3",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "tekken",
    "chameleon",
];

/// How a step is carried out.
#[derive(Debug)]
enum Cut {
    Match(Pattern),
    SpaceAtEnd,
    Thousands,
    ThousandsWithText,
}

/// Cuts text into words, and knows what else `tokenizer.ggml.pre` implies.
#[derive(Debug)]
pub(crate) struct PreTokenizer {
    cuts: Vec<Cut>,
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
        let cuts = steps.iter().map(|step| {
            Some(match step {
                Step::Match(alternatives) => Cut::Match(Pattern::new(alternatives)?),
                Step::SpaceAtEnd => Cut::SpaceAtEnd,
                Step::Thousands => Cut::Thousands,
                Step::ThousandsWithText => Cut::ThousandsWithText,
            })
        });
        let cuts = cuts
            .collect::<Option<_>>()
            .ok_or_else(|| Error::Internal { what: format!("the pattern of {name} is not understood") })?;
        Ok(PreTokenizer {
            cuts,
            ignore_merges: IGNORE_MERGES.contains(&name),
            add_bos: ADD_BOS.contains(&name),
        })
    }

    /// Bytes at the beginning of `text` that may be cut by themselves; 0 if there is no text.
    pub(crate) fn piece(&self, text: &str) -> usize {
        match self.cuts.first() {
            Some(Cut::Match(pattern)) => match pattern.find(text) {
                (0, length) => length,
                (gap, _) => gap,
            },
            Some(Cut::ThousandsWithText) => {
                let from = text.find(is_number).unwrap_or(text.len());
                text[from..].find(|c| !is_number(c)).map_or(text.len(), |digits| from + digits)
            }
            _ => text.len(),
        }
    }

    /// Calls `each` with every word of such a piece, in order.
    pub(crate) fn words(&self, piece: &str, each: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
        let done = usize::from(matches!(self.cuts.first(), Some(Cut::Match(_))));
        walk(self.cuts.get(done..).unwrap_or_default(), piece, each)
    }
}

fn walk(cuts: &[Cut], text: &str, each: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let Some((cut, later)) = cuts.split_first() else {
        return if text.is_empty() { Ok(()) } else { each(text) };
    };
    let mut rest = text;
    match cut {
        Cut::Match(pattern) => {
            while !rest.is_empty() {
                let (gap, length) = pattern.find(rest);
                walk(later, &rest[..gap], each)?;
                walk(later, &rest[gap..gap + length], each)?;
                rest = &rest[gap + length..];
            }
            Ok(())
        }
        Cut::SpaceAtEnd => {
            let (before, spaces) = text.split_at(text.trim_end().len());
            walk(later, before, each)?;
            walk(later, spaces, each)
        }
        Cut::Thousands => thousands(text, |c| c.is_ascii_digit(), true, &mut |part| walk(later, part, each)),
        Cut::ThousandsWithText => thousands(text, is_number, false, &mut |part| walk(later, part, each)),
    }
}

/// Cuts every number before each three digits, counted from its end. `alone`: the first three of a number
/// are cut from what precedes it; otherwise it is cut from what follows it.
fn thousands(
    text: &str,
    digit: impl Fn(char) -> bool,
    alone: bool,
    each: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<()> {
    let (mut start, mut at) = (0, 0);
    while let Some(number) = text[at..].find(&digit) {
        at += number;
        let end = text[at..].find(|c| !digit(c)).map_or(text.len(), |length| at + length);
        let count = text[at..end].chars().count();
        for (n, (offset, _)) in text[at..end].char_indices().enumerate() {
            if (count - n).is_multiple_of(3) && (alone || n > 0) {
                each(&text[start..at + offset])?;
                start = at + offset;
            }
        }
        if !alone {
            each(&text[start..end])?;
            start = end;
        }
        at = end;
    }
    each(&text[start..])
}

fn is_number(c: char) -> bool {
    category::of(c) == Category::Number
}

#[cfg(test)]
mod tests {
    use tokenizers::utils::SysRegex;

    use super::*;

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

    /// A step as a regular expression.
    fn regex(step: &Step) -> SysRegex {
        let text = match step {
            Step::Match(alternatives) => alternatives.join("|"),
            Step::SpaceAtEnd => r"\s+$".to_owned(),
            Step::Thousands => "(?=([0-9]{3})+(?![0-9]))".to_owned(),
            // As unicode.cpp does it: first what exceeds a multiple of three digits.
            Step::ThousandsWithText => {
                r"\P{N}*(?<!\p{N})\p{N}{1,2}(?=(\p{N}{3})*(?!\p{N}))|\P{N}*\p{N}{3}".to_owned()
            }
        };
        SysRegex::new(&text).unwrap()
    }

    /// Compares every text under every rule.
    fn compare(texts: &[String]) {
        for (names, steps) in NAMED {
            let regexes: Vec<SysRegex> = steps.iter().map(regex).collect();
            for text in texts {
                let mut words = Vec::new();
                by_regex(&regexes, text, &mut words);
                assert_eq!(by_rule(names[0], text), words, "{}: {text:?}", names[0]);
            }
        }
    }

    #[test]
    fn every_short_text_is_cut_as_by_the_regular_expressions() {
        // One of each kind that a rule knows; of the kinds that may run, more in a row.
        let kinds = ['a', 'S', '\'', '1', '!', '$', ' ', '\n', '\r', '\t', '\u{301}', 'é', '½', '\u{3000}'];
        let mut texts: Vec<String> = vec![String::new()];
        for (kinds, length) in [(&kinds[..], 3), (&['a', 'S', '1', '!', ' ', '\n'][..], 4)] {
            let mut longest: Vec<String> = vec![String::new()];
            for _ in 0..length {
                let longer =
                    |text: &String| kinds.iter().map(|kind| format!("{text}{kind}")).collect::<Vec<_>>();
                longest = longest.iter().flat_map(longer).collect();
                texts.extend_from_slice(&longest);
            }
        }
        compare(&texts);
    }

    #[test]
    fn random_texts_are_cut_as_by_the_regular_expressions() {
        let parts = "a·Zoë·'s·'S·'ll·'lL·'re·'VE·'m·'D·'x·'·1·22·4567·½·Ⅷ·٣· ·  ·   ·\n·\n\n·\r\n·\t·\u{a0}·\
            \u{3000}·\u{85}·\u{200b}·!·...·$·+=·|·漢字·हिन्दी·e\u{301}·\u{301}·\u{1F680}·\u{1F468}\u{200D}·\
            ʰ·ª·_·-·ſ·B·ZOË·/·<sentinel:12>·IMGIMGABZ·``·{·가·，·𐐀·ʕ·\u{1680}·\0·\u{E000}·\u{10FFFF}";
        let parts: Vec<&str> = parts.split('·').collect();
        let mut state = 1u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let texts: Vec<String> =
            (0..1500).map(|_| (0..random(24)).map(|_| parts[random(parts.len())]).collect()).collect();
        compare(&texts);
    }

    /// One kind of character over and over is what makes careless patterns take the square of the time.
    #[test]
    fn long_runs_are_cut_in_linear_time() {
        let parts = [
            "a", "A", "é", "É", "漢", "\u{301}", "1", "½", "!", "'", " ", "\u{3000}", "\n", "\t", "aA", "Aé",
            " \n", " a",
        ];
        let start = std::time::Instant::now();
        for (names, _) in NAMED {
            for part in parts {
                for end in ["", "x"] {
                    by_rule(names[0], &(part.repeat(10_000) + end));
                }
            }
        }
        // About 1 second; the square would be minutes.
        assert!(start.elapsed().as_secs() < 40, "{:?}", start.elapsed());
    }
}
