//! Tokens into text: what has been generated, and what ends it.

use crate::error::{Error, Result};
use crate::sampling::NO_TOKEN;
use crate::text::{StopFilter, StreamDecoder, Tokenizer};

use super::text::{Finish, GenerateOptions};

/// The text so far.
pub(super) struct Transcript<'t> {
    tokenizer: &'t Tokenizer,
    decoder: StreamDecoder,
    filter: StopFilter,
    /// Go on past end-of-text tokens.
    ignore_end: bool,
    limit: usize,
    pub text: String,
    pub tokens: Vec<u32>,
}

impl<'t> Transcript<'t> {
    /// An empty one.
    ///
    /// # Errors
    /// Stop strings that are not allowed.
    pub(super) fn new(tokenizer: &'t Tokenizer, options: &GenerateOptions) -> Result<Self> {
        Ok(Transcript {
            tokenizer,
            decoder: tokenizer.stream_decoder(),
            filter: StopFilter::new(&options.stop)?,
            ignore_end: options.ignore_end,
            limit: options.max_tokens.unwrap_or(usize::MAX),
            text: String::new(),
            tokens: Vec::new(),
        })
    }

    /// Takes a token; says so if the text ends with it. A piece of text goes out as soon as it is whole.
    ///
    /// # Errors
    /// [`Error::NoCandidates`] where no token could be drawn.
    pub(super) fn push(&mut self, token: u32, piece: &mut dyn FnMut(&str)) -> Result<Option<Finish>> {
        if token == NO_TOKEN {
            return Err(Error::NoCandidates);
        }
        if self.tokenizer.is_end(token) && !self.ignore_end {
            return Ok(Some(Finish::Stop));
        }
        self.tokens.push(token);
        let decoded = self.decoder.push(token);
        let passed = self.filter.push(&decoded);
        self.emit(&passed.text, piece);
        Ok(match passed.stop {
            Some(stop) => Some(Finish::StopString(stop)),
            None => (self.tokens.len() >= self.limit).then_some(Finish::Length),
        })
    }

    /// What was held back, because it could have become a stop string or a character.
    pub(super) fn finish(&mut self, piece: &mut dyn FnMut(&str)) {
        let rest = self.decoder.finish();
        let mut text = self.filter.push(&rest).text;
        text.push_str(&self.filter.finish());
        self.emit(&text, piece);
    }

    fn emit(&mut self, text: &str, piece: &mut dyn FnMut(&str)) {
        if !text.is_empty() {
            self.text.push_str(text);
            piece(text);
        }
    }
}
