//! Stop strings in pieces of text, beside a search in the whole text.

use arbitrary::{Result, Unstructured};
use emberglass::text::StopFilter;

use super::Target;

pub const TARGET: Target = Target { name: "stop", about: "stop strings in a stream", run, seeds, words: &[] };

/// Letters of a small alphabet, so that strings repeat; some take two and three bytes.
fn text(u: &mut Unstructured, most: usize) -> Result<String> {
    (0..u.int_in_range(0..=most)?).map(|_| u.choose(&['a', 'a', 'b', 'é', '中']).copied()).collect()
}

fn case(u: &mut Unstructured) -> Result<(Vec<String>, Vec<String>)> {
    let stops: Result<Vec<_>> = (0..u.int_in_range(0..=4)?).map(|_| text(u, 6)).collect();
    let pieces: Result<Vec<_>> = (0..u.int_in_range(0..=12)?).map(|_| text(u, 8)).collect();
    Ok((stops?, pieces?))
}

/// What is shown and the stop string that ended it, by a search in all text so far after every piece.
fn expected(stops: &[String], pieces: &[String]) -> (String, Option<String>) {
    let mut all = String::new();
    for piece in pieces {
        all.push_str(piece);
        let found =
            stops.iter().filter(|s| !s.is_empty()).filter_map(|s| Some((all.find(s.as_str())?, s))).min();
        if let Some((at, stop)) = found {
            return (all[..at].to_owned(), Some(stop.clone()));
        }
    }
    (all, None)
}

fn run(data: &[u8]) {
    let Ok((stops, pieces)) = case(&mut Unstructured::new(data)) else { return };
    let mut filter = StopFilter::new(&stops);
    let (mut shown, mut ended) = (String::new(), None);
    for piece in &pieces {
        let passed = filter.push(piece);
        shown += &passed.text;
        ended = passed.stop;
        if ended.is_some() {
            break;
        }
    }
    if ended.is_none() {
        shown += &filter.finish();
    }
    assert_eq!((shown, ended), expected(&stops, &pieces), "stops {stops:?}, pieces {pieces:?}");
}

fn seeds() -> Vec<Vec<u8>> {
    (0..32u8).map(|i| (0..100u8).map(|j| i.wrapping_mul(113) ^ j.wrapping_mul(41)).collect()).collect()
}
