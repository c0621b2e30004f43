//! Finding any of many strings in one pass over a text: Aho and Corasick, "Efficient string matching: an
//! aid to bibliographic search", 1975.
//!
//! Written here for its bounds, since the strings come from untrusted files and pages. The `aho-corasick`
//! crate reads up to the longest string again after every match where the leftmost match is wanted, and
//! where all matches are wanted each state holds a list of its own: both are the text or the strings times
//! the longest string. Here a search is linear in the text, and the size is linear in the strings.

/// Index of the root, of "no child" and of "no fallback".
const ROOT: u32 = 0;

/// A number for each of a set of byte strings.
#[derive(Debug)]
pub(crate) struct Automaton {
    /// `nodes[0]` is the root: the empty prefix.
    nodes: Vec<Node>,
    /// `strings[0]` stands for "none": its length is 0.
    strings: Vec<Found>,
}

/// A prefix of some string.
#[derive(Debug, Clone, Default)]
struct Node {
    /// Its last byte.
    byte: u8,
    /// A prefix that is one byte longer, or [`ROOT`].
    child: u32,
    /// Another prefix with the same beginning, or [`ROOT`].
    sibling: u32,
    /// The longest proper end of this prefix that is a prefix, too.
    fallback: u32,
    /// Its length.
    length: u32,
    /// Index of the longest string that this prefix ends with.
    string: u32,
}

/// One of the strings.
#[derive(Debug, Clone, Default)]
struct Found {
    value: u32,
    length: u32,
    /// Index of the longest string that is a proper end of this one.
    shorter: u32,
    /// How many times `shorter` leads on.
    level: u32,
    /// Further along `shorter`: Myers, "An applicative random-access stack", 1983.
    jump: u32,
}

/// Where a search stands, or the start of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct State(u32);

/// A string that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hit {
    /// The value that it was given.
    pub(crate) value: u32,
    /// Its length in bytes.
    pub(crate) length: usize,
    index: u32,
}

impl Automaton {
    /// For these strings. Of equal strings the first counts; empty ones are never found.
    pub(crate) fn new<S: IntoIterator<Item = u8>>(strings: impl IntoIterator<Item = (S, u32)>) -> Self {
        let mut automaton = Automaton { nodes: vec![Node::default()], strings: vec![Found::default()] };
        for (string, value) in strings {
            automaton.insert(string, value);
        }
        automaton.link();
        automaton.nodes.shrink_to_fit();
        automaton.strings.shrink_to_fit();
        automaton
    }

    fn insert(&mut self, string: impl IntoIterator<Item = u8>, value: u32) {
        let mut at = ROOT;
        for byte in string {
            at = match self.child(at, byte) {
                ROOT => {
                    #[allow(clippy::cast_possible_truncation)] // a header has fewer bytes
                    let new = self.nodes.len() as u32;
                    let parent = &mut self.nodes[at as usize];
                    let (sibling, length) = (parent.child, parent.length + 1);
                    parent.child = new;
                    self.nodes.push(Node { byte, sibling, length, ..Node::default() });
                    new
                }
                child => child,
            };
        }
        let end = &mut self.nodes[at as usize];
        if end.length > 0 && end.string == 0 {
            #[allow(clippy::cast_possible_truncation)] // a header has fewer strings
            let string = self.strings.len() as u32;
            end.string = string;
            self.strings.push(Found { value, length: end.length, ..Found::default() });
        }
    }

    /// Sets the fallbacks, shortest prefixes first: each is found by way of shorter ones.
    fn link(&mut self) {
        let mut order = vec![ROOT];
        let mut next = 0;
        while let Some(&parent) = order.get(next) {
            next += 1;
            let mut child = self.nodes[parent as usize].child;
            while child != ROOT {
                let byte = self.nodes[child as usize].byte;
                let fallback = match parent {
                    ROOT => ROOT,
                    _ => self.step(State(self.nodes[parent as usize].fallback), byte).0,
                };
                let inherited = self.nodes[fallback as usize].string;
                let node = &mut self.nodes[child as usize];
                node.fallback = fallback;
                match node.string {
                    0 => node.string = inherited,
                    own => self.chain(own, inherited),
                }
                order.push(child);
                child = self.nodes[child as usize].sibling;
            }
        }
    }

    /// `shorter` is the longest string that `own` ends with.
    fn chain(&mut self, own: u32, shorter: u32) {
        let found = |index: u32| &self.strings[index as usize];
        let (near, far) = (found(shorter), found(found(shorter).jump));
        let even = near.level - far.level == far.level - found(far.jump).level;
        let jump = if even && shorter != 0 { far.jump } else { shorter };
        let level = near.level + 1;
        let own = &mut self.strings[own as usize];
        (own.shorter, own.level, own.jump) = (shorter, level, jump);
    }

    fn child(&self, at: u32, byte: u8) -> u32 {
        let mut child = self.nodes[at as usize].child;
        while child != ROOT && self.nodes[child as usize].byte != byte {
            child = self.nodes[child as usize].sibling;
        }
        child
    }

    /// Reads one more byte.
    pub(crate) fn step(&self, State(mut at): State, byte: u8) -> State {
        loop {
            match self.child(at, byte) {
                ROOT if at == ROOT => return State(ROOT),
                ROOT => at = self.nodes[at as usize].fallback,
                child => return State(child),
            }
        }
    }

    /// The longest string that ends where the search stands.
    pub(crate) fn hit(&self, State(at): State) -> Option<Hit> {
        self.of(self.nodes[at as usize].string)
    }

    /// The longest string of at most `most` bytes that `hit` ends with; takes steps like the logarithm of
    /// the number of strings.
    pub(crate) fn shorter(&self, hit: Hit, most: usize) -> Option<Hit> {
        let length = |index: u32| self.strings[index as usize].length as usize;
        let mut index = hit.index;
        while length(index) > most {
            let Found { shorter, jump, .. } = self.strings[index as usize];
            index = if length(jump) > most { jump } else { shorter };
        }
        self.of(index)
    }

    /// Bytes at the end of what was read that some string begins with.
    pub(crate) fn pending(&self, State(at): State) -> usize {
        self.nodes[at as usize].length as usize
    }

    /// Lengths of all ends of what was read that some string begins with, longest first.
    pub(crate) fn begun(&self, State(at): State) -> impl Iterator<Item = usize> {
        let prefixes = std::iter::successors(Some(at), |&at| Some(self.nodes[at as usize].fallback));
        prefixes.take_while(|&at| at != ROOT).map(|at| self.pending(State(at)))
    }

    /// The value of exactly this string.
    pub(crate) fn get(&self, string: impl IntoIterator<Item = u8>) -> Option<u32> {
        let mut at = ROOT;
        for byte in string {
            at = self.child(at, byte);
            if at == ROOT {
                return None;
            }
        }
        let hit = self.hit(State(at))?;
        (hit.length == self.pending(State(at))).then_some(hit.value)
    }

    fn of(&self, index: u32) -> Option<Hit> {
        let Found { value, length, .. } = self.strings[index as usize];
        (length > 0).then_some(Hit { value, length: length as usize, index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn automaton(strings: &[&str]) -> Automaton {
        Automaton::new(strings.iter().map(|s| s.bytes()).zip(0..))
    }

    #[test]
    fn every_end_has_its_longest_string() {
        let strings = ["he", "she", "his", "hers", "", "s", "rsh"];
        let automaton = automaton(&strings);
        let text = "ushershishe shhehersh";
        let mut state = State::default();
        for end in 1..=text.len() {
            state = automaton.step(state, text.as_bytes()[end - 1]);
            let ends = |s: &&&str| !s.is_empty() && text[..end].ends_with(**s);
            let longest = strings.iter().filter(ends).max_by_key(|s| s.len());
            let found = automaton.hit(state).map(|hit| strings[hit.value as usize]);
            assert_eq!(found, longest.copied(), "{}", &text[..end]);
            let begins = |&length: &usize| strings.iter().any(|s| s.starts_with(&text[end - length..end]));
            let begun: Vec<usize> = (1..=end).rev().filter(begins).collect();
            assert_eq!(automaton.begun(state).collect::<Vec<_>>(), begun, "{}", &text[..end]);
            assert_eq!(automaton.pending(state), begun.first().copied().unwrap_or(0));
        }
    }

    #[test]
    fn the_next_shorter_string_is_found_under_any_bound() {
        let strings: Vec<String> = (1..200).map(|n| "a".repeat(n)).filter(|s| s.len() % 3 != 1).collect();
        let automaton = automaton(&strings.iter().map(String::as_str).collect::<Vec<_>>());
        let state = (0..500).fold(State::default(), |state, _| automaton.step(state, b'a'));
        let hit = automaton.hit(state).unwrap();
        assert_eq!(hit.length, 198);
        for most in 0..200 {
            let longest = strings.iter().map(String::len).filter(|&length| length <= most).max();
            assert_eq!(automaton.shorter(hit, most).map(|hit| hit.length), longest, "{most}");
        }
    }

    #[test]
    fn only_whole_strings_have_values() {
        let automaton = automaton(&["abc", "bc", "abc"]);
        assert_eq!(automaton.get("abc".bytes()), Some(0));
        assert_eq!(automaton.get("bc".bytes()), Some(1));
        assert_eq!(["ab", "c", "abcd", ""].map(|s| automaton.get(s.bytes())), [None; 4]);
    }
}
