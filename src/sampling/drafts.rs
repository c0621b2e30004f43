//! Drafts for speculative decoding, by prompt lookup (Saxena, "Prompt Lookup Decoding", 2023): where the
//! last tokens occurred before, what followed them then is likely to follow again.

/// Tokens that must agree for a draft, the more the better.
const NGRAMS: [usize; 2] = [3, 2];
/// Drafts to begin with, and after fewer than half were right: that is a failure.
const FEW: usize = 3;
/// Tokens without drafts after the first failure; each further one in a row doubles it.
const PAUSE: usize = 4;
/// And at most.
const LONGEST_PAUSE: usize = 64;

/// Proposes drafts, as many as lately proved right.
pub struct Drafter {
    /// Prompt and generated tokens.
    tokens: Vec<u32>,
    most: usize,
    length: usize,
    failures: u32,
    pause: usize,
}

impl Drafter {
    /// For the continuation of `prompt`, at most `most` drafts at a time.
    pub fn new(prompt: &[u32], most: usize) -> Self {
        Drafter { tokens: prompt.to_vec(), most, length: FEW.min(most), failures: 0, pause: 0 }
    }

    /// Takes a token that was generated.
    pub fn push(&mut self, token: u32) {
        self.tokens.push(token);
        self.pause = self.pause.saturating_sub(1);
    }

    /// What may follow, at most `room` tokens; often nothing.
    pub fn draft(&self, room: usize) -> Vec<u32> {
        let count = self.length.min(room);
        if self.pause > 0 || count == 0 {
            return Vec::new();
        }
        NGRAMS.iter().find_map(|&n| continuation(&self.tokens, n, count)).unwrap_or_default()
    }

    /// Says how many of how many drafts were right.
    pub fn judge(&mut self, drafted: usize, accepted: usize) {
        if 2 * accepted >= drafted {
            self.failures = 0;
            if accepted == drafted {
                self.length = self.most;
            }
            return;
        }
        self.length = FEW.min(self.most);
        self.pause = (PAUSE << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures += 1;
    }
}

/// The `count` tokens behind the latest earlier occurrence of the last `n`. One that overlaps the end goes
/// round: what is drafted belongs to the text.
fn continuation(tokens: &[u32], n: usize, count: usize) -> Option<Vec<u32>> {
    let (_, earlier) = tokens.split_last()?;
    let last = tokens.len().checked_sub(n).map(|at| &tokens[at..])?;
    let at = earlier.windows(n).rposition(|window| window == last)? + n;
    Some(tokens[at..].iter().copied().cycle().take(count).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(tokens: &[u32], count: usize) -> Vec<u32> {
        Drafter { length: count, ..Drafter::new(tokens, 7) }.draft(100)
    }

    #[test]
    fn what_followed_before_is_drafted() {
        assert_eq!(draft(&[1, 2, 3, 4, 5, 6, 1, 2, 3], 3), [4, 5, 6]);
        assert_eq!(draft(&[1, 2, 3, 4, 5, 6, 1, 2, 3], 1), [4]);
        assert!(draft(&[1, 2, 3, 4, 5], 3).is_empty());
        for short in [&[][..], &[1], &[1, 1], &[1, 2]] {
            assert!(draft(short, 3).is_empty(), "{short:?}");
        }
    }

    #[test]
    fn three_tokens_count_more_than_two_and_late_more_than_early() {
        assert_eq!(draft(&[1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3], 1), [4], "three tokens, though earlier");
        assert_eq!(draft(&[1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3], 1), [5], "the latest of both");
        assert_eq!(draft(&[8, 2, 3, 4, 7, 2, 3], 1), [4], "two are enough");
    }

    #[test]
    fn a_cycle_goes_round() {
        assert_eq!(draft(&[7, 1, 2, 1, 2, 1], 5), [2, 1, 2, 1, 2]);
        assert_eq!(draft(&[5, 5, 5], 3), [5, 5, 5]);
    }

    #[test]
    fn no_more_than_there_is_room_for() {
        let drafter = Drafter::new(&[1, 2, 3, 4, 5, 1, 2], 7);
        assert_eq!(drafter.draft(2), [3, 4]);
        assert!(drafter.draft(0).is_empty());
    }

    #[test]
    fn drafts_grow_with_success_and_shrink_with_failure() {
        let mut drafter = Drafter::new(&[5; 8], 7);
        assert_eq!(drafter.draft(100).len(), FEW);
        drafter.judge(3, 3);
        assert_eq!(drafter.draft(100).len(), 7);
        drafter.judge(7, 4);
        assert_eq!(drafter.draft(100).len(), 7);
        drafter.judge(7, 3);
        assert!(drafter.draft(100).is_empty());
        for _ in 0..PAUSE {
            drafter.push(5);
        }
        assert_eq!(drafter.draft(100).len(), FEW);
        assert_eq!(Drafter::new(&[5; 8], 1).draft(100).len(), 1);
    }

    /// On text whose every draft is wrong.
    #[test]
    fn failures_become_rare() {
        let mut drafter = Drafter::new(&[5; 8], 7);
        let mut drafted = Vec::new();
        for n in 0..1000 {
            drafter.push(5);
            if !drafter.draft(100).is_empty() {
                drafted.push(n);
                drafter.judge(3, 0);
            }
        }
        assert_eq!(drafted[..4], [0, 4, 12, 28]);
        assert!((15..25).contains(&drafted.len()), "{drafted:?}");
        drafter.judge(3, 2);
        drafter.judge(3, 1);
        for _ in 0..PAUSE {
            drafter.push(5);
        }
        assert!(!drafter.draft(100).is_empty(), "one success, and the pause is short again");
    }
}
