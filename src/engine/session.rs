//! The tokens that a model remembers, and how far it can go back.

use crate::graph::HeadShape;

/// What a model's memories hold: K and V of these tokens, from position 0 on.
pub(super) struct Session {
    memories: Vec<HeadShape>,
    tokens: Vec<u32>,
    /// Positions that were stored since the text began, also those that were given up since.
    written: usize,
}

impl Session {
    /// An empty one.
    pub(super) fn new(memories: Vec<HeadShape>) -> Self {
        Session { memories, tokens: Vec::new(), written: 0 }
    }

    /// Tokens that are remembered.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.tokens.clear();
        self.written = 0;
    }

    /// Adds tokens behind the last.
    pub(super) fn push(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
        self.wrote(self.tokens.len());
    }

    /// Notes that positions below this one have been stored, whether or not their tokens are kept.
    pub(super) fn wrote(&mut self, end: usize) {
        self.written = self.written.max(end);
    }

    /// Goes back to the longest prefix shared with `prompt`, at most all but one token (the last one must be computed for
    /// its logits). A memory with a sliding window goes back only a little; then nothing is kept. Returns how many tokens
    /// are kept.
    pub(super) fn reuse(&mut self, prompt: &[u32]) -> usize {
        let same = self.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        self.back_to(same.min(prompt.len().saturating_sub(1)))
    }

    /// Goes back to `count` tokens, or to none if what these see is not there any more.
    pub(super) fn back_to(&mut self, count: usize) -> usize {
        let count = count.min(self.tokens.len());
        let ends = u32::try_from(self.written).ok().zip(u32::try_from(count).ok());
        let kept = ends
            .is_some_and(|(written, to)| self.memories.iter().all(|memory| memory.rollback_ok(written, to)));
        // A text that begins anew has stored nothing yet.
        match kept && count > 0 {
            true => self.tokens.truncate(count),
            false => self.clear(),
        }
        self.tokens.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::KvType;

    fn memory(window: u32) -> HeadShape {
        HeadShape {
            heads: 1,
            kv_heads: 1,
            head_dim: 32,
            scale: 1.0,
            cap: 0.0,
            window,
            max_batch: 8,
            capacity: 1000,
            kv: KvType::F32,
        }
    }

    #[test]
    fn a_prefix_is_kept_up_to_the_last_token_of_the_prompt() {
        let mut session = Session::new(vec![memory(0)]);
        session.push(&[1, 2, 3, 4]);
        assert_eq!(session.reuse(&[1, 2, 3, 4]), 3);
        assert_eq!(session.reuse(&[1, 2, 9]), 2);
        assert_eq!(session.reuse(&[7]), 0);
    }

    /// 57 + 8 - 1 = 64 slots: position 64 takes the slot of position 0.
    #[test]
    fn a_window_goes_back_a_little_or_begins_anew() {
        let text: Vec<u32> = (0..100).collect();
        let mut session = Session::new(vec![memory(0), memory(57)]);
        session.push(&text[..90]);
        // At 84 the window begins at 28, and slots hold positions from 26 on.
        assert_eq!(session.back_to(84), 84);
        session.push(&text[84..90]);
        // A step that ran ahead took more slots.
        session.wrote(95);
        assert_eq!(session.back_to(84), 0);
        session.push(&text[..50]);
        assert_eq!(session.back_to(10), 10, "nothing was overwritten");
    }

    #[test]
    fn a_new_text_forgets_how_far_the_last_one_went() {
        let text: Vec<u32> = (0..100).collect();
        let mut session = Session::new(vec![memory(57)]);
        session.push(&text[..90]);
        assert_eq!(session.reuse(&text[50..]), 0, "another text");
        session.push(&text[50..80]);
        assert_eq!(session.reuse(&text[50..70]), 19);
    }
}
