//! Stop strings in a stream: text is held back while it could still become one.

use crate::error::{Error, Result};
use crate::text::automaton::{Automaton, State};

/// The most stop strings of one request.
const MAX_STOPS: usize = 1024;
/// The most bytes of all of them together.
const MAX_STOP_BYTES: usize = 4 << 20;

/// Passes text on until a stop string appears.
#[derive(Debug)]
pub struct StopFilter {
    stops: Vec<String>,
    automaton: Automaton,
    state: State,
    /// Text from `passed` on is held back: some stop string begins with it.
    held: String,
    passed: usize,
}

/// What came out of a piece of text.
#[derive(Debug, PartialEq, Eq)]
pub struct Passed {
    /// Text that is safe to show.
    pub text: String,
    /// The stop string that ended it, if one did.
    pub stop: Option<String>,
}

impl StopFilter {
    /// Looks for these strings. Whichever is complete first ends the text, and of
    /// those that end together the longest.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for more than 1024 strings or 4 MiB of them, and for an empty one.
    pub fn new(stops: &[String]) -> Result<Self> {
        let bytes: usize = stops.iter().map(String::len).sum();
        if stops.len() > MAX_STOPS || bytes > MAX_STOP_BYTES {
            return Err(Error::InvalidOption {
                option: "stop",
                value: format!("{} strings of {bytes} bytes", stops.len()),
                range: "at most 1024 strings of together 4194304 bytes".into(),
            });
        }
        // An empty string stands everywhere: the text would end before it begins.
        if stops.iter().any(String::is_empty) {
            return Err(Error::InvalidOption {
                option: "stop",
                value: "an empty string".to_owned(),
                range: "strings of at least one character".into(),
            });
        }
        Ok(StopFilter {
            stops: stops.to_vec(),
            automaton: Automaton::new(stops.iter().map(|stop| stop.bytes()).zip(0..)),
            state: State::default(),
            held: String::new(),
            passed: 0,
        })
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: &str) -> Passed {
        for (at, byte) in piece.bytes().enumerate() {
            self.state = self.automaton.step(self.state, byte);
            if let Some(hit) = self.automaton.hit(self.state) {
                self.held.push_str(piece.get(..=at).unwrap_or(piece));
                self.held.truncate(self.held.len() - hit.length);
                return Passed { text: self.finish(), stop: self.stops.get(hit.value as usize).cloned() };
            }
        }
        self.held.push_str(piece);
        let end = self.held.len() - self.automaton.pending(self.state);
        let text = self.held[self.passed..end].to_owned();
        self.passed = end;
        // Not for every piece: what is held may be long.
        if self.passed > self.held.len() / 2 {
            self.held.drain(..self.passed);
            self.passed = 0;
        }
        Passed { text, stop: None }
    }

    /// What was held back when the stream ends without a stop string.
    pub fn finish(&mut self) -> String {
        self.state = State::default();
        let held = std::mem::take(&mut self.held);
        held.get(std::mem::take(&mut self.passed)..).unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(stops: &[&str]) -> StopFilter {
        StopFilter::new(&stops.iter().map(|stop| (*stop).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_stop_string_across_pieces_is_never_shown() {
        let mut filter = filter(&["###", "END"]);
        assert_eq!(filter.push("a #"), Passed { text: "a ".into(), stop: None });
        assert_eq!(filter.push("# b"), Passed { text: "## b".into(), stop: None });
        assert_eq!(filter.push(" E"), Passed { text: " ".into(), stop: None });
        assert_eq!(filter.push("NDless"), Passed { text: String::new(), stop: Some("END".into()) });
    }

    #[test]
    fn what_was_held_comes_out_at_the_end() {
        let mut filter = filter(&["é!"]);
        assert_eq!(filter.push("caf\u{e9}"), Passed { text: "caf".into(), stop: None });
        assert_eq!(filter.finish(), "é");
    }

    /// By trying every end of the text: what is shown, and the string that ends it.
    fn by_definition<'s>(stops: &[&'s str], text: &str) -> (String, Option<&'s str>) {
        for end in 0..=text.len() {
            let ended = stops.iter().filter(|s| text.as_bytes()[..end].ends_with(s.as_bytes()));
            if let Some(stop) = ended.max_by_key(|s| s.len()) {
                return (text[..end - stop.len()].to_owned(), Some(stop));
            }
        }
        (text.to_owned(), None)
    }

    #[test]
    fn the_pieces_do_not_matter() {
        let lists: [&[&str]; 6] =
            [&["aab", "ba"], &["abab", "bb", "bbb"], &["é", "bé"], &["aaaa"], &["cab", "a", "abc"], &[]];
        let letters = ["a", "b", "c", "é"];
        let mut texts = vec![String::new()];
        for length in 0..6 {
            let longest: Vec<String> =
                texts.iter().filter(|t| t.chars().count() == length).cloned().collect();
            texts.extend(longest.iter().flat_map(|text| letters.map(|letter| format!("{text}{letter}"))));
        }
        for stops in lists {
            for text in &texts {
                let (shown, stop) = by_definition(stops, text);
                for size in [1, 2, 3, 6] {
                    let mut filter = filter(stops);
                    let mut out = String::new();
                    let mut found = None;
                    let characters: Vec<char> = text.chars().collect();
                    for piece in characters.chunks(size) {
                        let passed = filter.push(&piece.iter().collect::<String>());
                        out.push_str(&passed.text);
                        // Nothing that is shown may have to be taken back.
                        assert!(shown.starts_with(&out), "{stops:?} {text:?} {size}");
                        found = passed.stop;
                        if found.is_some() {
                            break;
                        }
                    }
                    if found.is_none() {
                        out.push_str(&filter.finish());
                    }
                    assert_eq!(
                        (out.as_str(), found.as_deref()),
                        (shown.as_str(), stop),
                        "{stops:?} {text:?} {size}"
                    );
                }
            }
        }
    }

    #[test]
    fn long_stop_strings_that_keep_matching_take_no_time() {
        // In time like the product of the lengths these would take hours.
        let mut filter = filter(&[&("a".repeat(1_000_000) + "b"), &("a".repeat(999_999) + "c")]);
        let mut shown = 0;
        for _ in 0..1_100_000 {
            let passed = filter.push("a");
            assert_eq!(passed.stop, None);
            shown += passed.text.len();
        }
        assert_eq!(shown, 100_000);
        assert_eq!(filter.push("c"), Passed { text: "a".into(), stop: Some("a".repeat(999_999) + "c") });
    }

    #[test]
    fn too_many_stop_strings_and_empty_ones_are_refused() {
        let refused = |stops: Vec<String>| StopFilter::new(&stops).unwrap_err().to_string();
        assert!(refused(vec!["x".into(), String::new()]).contains("an empty string"));
        assert!(refused(vec!["x".into(); 1025]).contains("stop"));
        assert!(refused(vec!["x".repeat(4 << 20), "y".into()]).contains("4194305 bytes"));
        assert!(StopFilter::new(&vec!["x".repeat(4096); 1024]).is_ok());
    }
}
