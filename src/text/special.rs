//! Special tokens: those that are found in a text as a whole, before anything else is done with it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::error::Result;
use crate::text::automaton::{Automaton, Hit, State};
use crate::text::vocab::Kind;
use crate::weights::{Metadata, StringArray};

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

/// User-defined tokens count in every text, control tokens where the caller allows it.
#[derive(Debug)]
pub(crate) struct SpecialTokens {
    user_defined: Automaton,
    control: Automaton,
    both: Automaton,
    /// Control tokens again, not backwards.
    control_forwards: Automaton,
    control_texts: Vec<Box<str>>,
    /// Tokens that take the white space after them, ascending.
    strip_after: Vec<u32>,
}

/// C's `isspace`.
pub(crate) fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

impl SpecialTokens {
    /// Tokens whose texts are not UTF-8 are left out: they cannot occur in a prompt.
    pub(crate) fn new(texts: &StringArray, kinds: &[Kind]) -> Self {
        let ids = |which: Match| {
            (0u32..).zip(kinds).filter_map(move |(id, &kind)| {
                let counts = match which {
                    Match::UserDefined => kind == Kind::UserDefined,
                    Match::Control => kind.is_control(),
                    Match::Both => kind == Kind::UserDefined || kind.is_control(),
                };
                let text = texts.get(id as usize).filter(|_| counts)?;
                std::str::from_utf8(text).is_ok().then_some((text, id))
            })
        };
        // Backwards, so that a search from the end of a text knows at each place which token begins there.
        let automaton = |which| Automaton::new(ids(which).map(|(text, id)| (text.iter().rev().copied(), id)));
        let control_texts = ids(Match::Control).filter(|(text, _)| !text.is_empty());
        let forwards = ids(Match::Control).map(|(text, id)| (text.iter().copied(), id));
        SpecialTokens {
            user_defined: automaton(Match::UserDefined),
            control: automaton(Match::Control),
            both: automaton(Match::Both),
            control_forwards: Automaton::new(forwards),
            control_texts: control_texts.map(|(text, _)| String::from_utf8_lossy(text).into()).collect(),
            strip_after: Vec::new(),
        }
    }

    /// As llama.cpp does for models whose name says Phi-3: all special tokens but three take the white
    /// space after them.
    ///
    /// # Errors
    /// [`crate::error::Error::MissingMetadata`] if the name is no string.
    pub(crate) fn strip_after(
        &mut self,
        metadata: &Metadata,
        texts: &StringArray,
        kinds: &[Kind],
    ) -> Result<()> {
        let name = metadata.str_or("general.name", "")?.to_ascii_lowercase();
        if !name.contains("phi-3") && !name.contains("phi3") {
            return Ok(());
        }
        let all = (0u32..).zip(texts.iter().zip(kinds));
        let strips = all.filter(|(_, (text, kind))| {
            let kept: [&[u8]; 3] = [b"<unk>", b"<s>", b"<|endoftext|>"];
            let special = kind.is_control() || **kind == Kind::UserDefined || *text == b"</s>";
            special && !kept.contains(text)
        });
        self.strip_after = strips.map(|(id, _)| id).collect();
        Ok(())
    }

    /// Whether some token takes white space with it.
    pub(crate) fn strips(&self) -> bool {
        !self.strip_after.is_empty()
    }

    /// Bytes of the white space at the beginning of `text` that token `id` takes.
    pub(crate) fn stripped(&self, id: u32, text: &str) -> usize {
        match self.strip_after.binary_search(&id) {
            Ok(_) => text.bytes().take_while(is_space).count(),
            Err(_) => 0,
        }
    }

    fn automaton(&self, which: Match) -> &Automaton {
        match which {
            Match::UserDefined => &self.user_defined,
            Match::Control => &self.control,
            Match::Both => &self.both,
        }
    }

    /// The id of the control token with exactly this text.
    pub(crate) fn control_id(&self, text: &str) -> Option<u32> {
        self.control.get(text.bytes().rev())
    }

    /// Texts of the control tokens.
    pub(crate) fn control_texts(&self) -> impl Iterator<Item = &str> {
        self.control_texts.iter().map(AsRef::as_ref)
    }

    /// Where control tokens begin in `text`, in bytes, in any order; also such that lie inside others, and
    /// such of which only the beginning is there if the text ends after `end` bytes.
    pub(crate) fn control_starts(&self, text: &str, end: usize) -> Vec<usize> {
        let mut starts: Vec<usize> = self.begun(text, Match::Control).into_iter().map(|(at, _)| at).collect();
        let automaton = &self.control_forwards;
        let kept = text.get(..end).unwrap_or(text);
        let state = kept.bytes().fold(State::default(), |state, byte| automaton.step(state, byte));
        starts.extend(automaton.begun(state).map(|length| kept.len() - length));
        starts
    }

    /// Each place where a token begins, descending, with the longest that begins there.
    fn begun(&self, text: &str, which: Match) -> Vec<(usize, Hit)> {
        let automaton = self.automaton(which);
        let mut state = State::default();
        let mut begun = Vec::new();
        for (at, byte) in text.bytes().enumerate().rev() {
            state = automaton.step(state, byte);
            begun.extend(automaton.hit(state).map(|hit| (at, hit)));
        }
        begun
    }

    /// Cuts `text` at special tokens. Where they overlap, the longest one of the whole text goes first,
    /// then the one with the lowest id, then the leftmost, as in llama.cpp.
    pub(crate) fn cut<'t>(&self, text: &'t str, which: Match) -> Vec<Piece<'t>> {
        let mut pieces = Vec::new();
        let mut start = 0;
        for (at, (end, id)) in self.found(text, which) {
            if start < at {
                pieces.push(Piece::Text(&text[start..at]));
            }
            pieces.push(Piece::Token(id));
            start = end;
        }
        if start < text.len() {
            pieces.push(Piece::Text(&text[start..]));
        }
        pieces
    }

    /// The same, one piece after the other.
    pub(crate) fn split<'t>(
        &self,
        text: &'t str,
        which: Match,
        each: &mut dyn FnMut(Piece<'t>) -> Result<()>,
    ) -> Result<()> {
        self.cut(text, which).into_iter().try_for_each(each)
    }

    /// The tokens of [`SpecialTokens::cut`] by their beginning: end and id.
    fn found(&self, text: &str, which: Match) -> BTreeMap<usize, (usize, u32)> {
        let key = |at: usize, hit: &Hit| (hit.length, Reverse(hit.value), Reverse(at));
        let mut candidates: Vec<_> = self.begun(text, which);
        let mut queue: BinaryHeap<_> =
            candidates.iter().enumerate().map(|(n, (at, hit))| (key(*at, hit), n)).collect();
        let mut found = BTreeMap::<usize, (usize, u32)>::new();
        while let Some((_, n)) = queue.pop() {
            let (at, hit) = candidates[n];
            if found.range(..=at).next_back().is_some_and(|(_, &(end, _))| end > at) {
                continue;
            }
            let room = found.range(at..).next().map_or(text.len(), |(&next, _)| next) - at;
            if hit.length <= room {
                let end = at + hit.length;
                let stripped = self.stripped(hit.value, &text[end..at + room]);
                found.insert(at, (end + stripped, hit.value));
            } else if let Some(shorter) = self.automaton(which).shorter(hit, room) {
                candidates[n].1 = shorter;
                queue.push((key(at, &shorter), n));
            }
        }
        found
    }
}
