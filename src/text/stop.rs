//! Stop strings in a stream: text is held back while it could still become one.

/// Passes text on until a stop string appears.
#[derive(Debug, Default)]
pub struct StopFilter {
    stops: Vec<String>,
    held: String,
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
    /// Looks for these strings; empty ones are ignored.
    #[must_use]
    pub fn new(stops: &[String]) -> Self {
        StopFilter { stops: stops.iter().filter(|s| !s.is_empty()).cloned().collect(), held: String::new() }
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: &str) -> Passed {
        self.held.push_str(piece);
        let found = self.stops.iter().filter_map(|s| self.held.find(s.as_str()).map(|at| (at, s))).min();
        if let Some((at, stop)) = found {
            let stop = stop.clone();
            let text = self.held[..at].to_owned();
            self.held.clear();
            return Passed { text, stop: Some(stop) };
        }
        // Keep the longest end that begins some stop string.
        let keep = self
            .held
            .char_indices()
            .map(|(at, _)| at)
            .find(|&at| self.stops.iter().any(|s| s.starts_with(&self.held[at..])))
            .unwrap_or(self.held.len());
        let rest = self.held.split_off(keep);
        Passed { text: std::mem::replace(&mut self.held, rest), stop: None }
    }

    /// What was held back when the stream ends without a stop string.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_string_across_pieces_is_never_shown() {
        let mut filter = StopFilter::new(&["###".into(), "END".into()]);
        assert_eq!(filter.push("a #"), Passed { text: "a ".into(), stop: None });
        assert_eq!(filter.push("# b"), Passed { text: "## b".into(), stop: None });
        assert_eq!(filter.push(" E"), Passed { text: " ".into(), stop: None });
        assert_eq!(filter.push("NDless"), Passed { text: String::new(), stop: Some("END".into()) });
    }

    #[test]
    fn what_was_held_comes_out_at_the_end() {
        let mut filter = StopFilter::new(&["é!".into()]);
        assert_eq!(filter.push("caf\u{e9}"), Passed { text: "caf".into(), stop: None });
        assert_eq!(filter.finish(), "é");
    }
}
