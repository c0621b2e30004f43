//! Pre-tokenizers of byte-level BPE: how `tokenizer.ggml.pre` cuts a text into words.
//!
//! Names and regular expressions are llama.cpp's (llama-vocab.cpp), which are those of the models'
//! `tokenizer.json`.

use tokenizers::utils::SysRegex;

use crate::error::{Error, Result};

/// One step; each cuts the pieces of the step before. What a step does not match is a piece too.
#[derive(Debug)]
enum Step {
    /// Every numeric character (`\p{N}`) by itself.
    Digits,
    Regex(SysRegex),
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// llama.cpp's choice for files that name no pre-tokenizer.
const DEFAULT: [&str; 4] = [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"];

/// The names that are understood, for messages.
const SUPPORTED: &str = "default, gpt-2, mpt, olmo, jais, trillion, exaone4, phi-2, smollm, starcoder, refact, command-r, codeshell, exaone, minerva-7b, llama-bpe, llama3, llama-v3, falcon3, falcon-h1, pixtral, lfm2, dbrx, smaug-bpe, glm4, chatglm-bpe, qwen2, stablelm2, hunyuan, megrez, deepseek-r1-qwen, grok-2, qwen35";

/// Cuts text into words, and knows what else `tokenizer.ggml.pre` implies.
#[derive(Debug)]
pub(crate) struct PreTokenizer {
    steps: Vec<Step>,
    /// A word that is a token is that token, whatever the merges say.
    pub(crate) ignore_merges: bool,
    /// Whether a beginning-of-sequence token is added if the file does not say.
    pub(crate) add_bos: bool,
}

impl PreTokenizer {
    /// The pre-tokenizer called `name`.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let (digits, regexes): (bool, &[&str]) = match name {
            "default" => (false, &DEFAULT),
            "gpt-2" | "mpt" | "olmo" | "jais" | "trillion" | "granite-docling" | "exaone4" | "phi-2"
            | "gigachat" | "a.x-4.0" | "mellum" => (false, &[GPT2]),
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b"
            | "mellum2" => (true, &[GPT2]),
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0"
            | "lfm2" | "dbrx" | "smaug-bpe" | "glm4" | "chatglm-bpe" => (false, &[LLAMA3]),
            "qwen2" | "stablelm2" | "hunyuan" | "solar-open" | "megrez" | "deepseek-r1-qwen" | "kormo"
            | "grok-2" => (false, &[QWEN2]),
            "qwen35" => (false, &[QWEN35]),
            _ => {
                return Err(Error::UnsupportedTokenizer {
                    found: format!("pre-tokenizer {name}"),
                    supported: SUPPORTED.to_owned(),
                });
            }
        };
        let mut steps = Vec::new();
        if digits {
            steps.push(Step::Digits);
        }
        for regex in regexes {
            let regex = SysRegex::new(regex)
                .map_err(|e| Error::Tokenizer { reason: format!("pre-tokenizer {name}: {e}") })?;
            steps.push(Step::Regex(regex));
        }
        let llama3 = matches!(
            name,
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2"
        );
        Ok(PreTokenizer { steps, ignore_merges: llama3, add_bos: llama3 })
    }

    /// Calls `each` with every word of `text`, in order.
    pub(crate) fn split(&self, text: &str, each: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
        walk(&self.steps, text, each)
    }
}

fn walk(steps: &[Step], text: &str, each: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let Some((step, later)) = steps.split_first() else {
        return if text.is_empty() { Ok(()) } else { each(text) };
    };
    let mut start = 0;
    let mut cut = |from: usize, to: usize| {
        if start < from {
            walk(later, &text[start..from], each)?;
        }
        start = to;
        walk(later, &text[from..to], each)
    };
    match step {
        Step::Digits => {
            for (at, c) in text.char_indices().filter(|(_, c)| c.is_numeric()) {
                cut(at, at + c.len_utf8())?;
            }
        }
        Step::Regex(regex) => {
            for (from, to) in regex.find_iter(text) {
                cut(from, to)?;
            }
        }
    }
    walk(later, &text[start..], each)
}
