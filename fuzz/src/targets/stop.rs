//! Stop strings in pieces of text, beside their definition on the whole text.

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

/// By definition: the stop string that is complete first ends the text; of those that end together, the longest.
fn expected(stops: &[String], text: &str) -> (String, Option<String>) {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    for end in ends {
        let complete = stops.iter().filter(|stop| !stop.is_empty() && text[..end].ends_with(stop.as_str()));
        if let Some(stop) = complete.max_by_key(|stop| stop.len()) {
            return (text[..end - stop.len()].to_owned(), Some(stop.clone()));
        }
    }
    (text.to_owned(), None)
}

fn run(data: &[u8]) {
    let Ok((stops, pieces)) = case(&mut Unstructured::new(data)) else { return };
    let Ok(mut filter) = StopFilter::new(&stops) else { return };
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
    assert_eq!((shown, ended), expected(&stops, &pieces.concat()), "stops {stops:?}, pieces {pieces:?}");
}

fn seeds() -> Vec<Vec<u8>> {
    (0..32u8).map(|i| (0..100u8).map(|j| i.wrapping_mul(113) ^ j.wrapping_mul(41)).collect()).collect()
}
