//! One stable sort for all types. The library's is code of its own, two kilobytes after compression, for each type and order.

use std::cmp::Ordering;

/// Sorts by a key; what has the same key stays in order.
pub fn sort_by_key<T, K: Ord>(items: &mut Vec<T>, key: impl Fn(&T) -> K) {
    sort_by(items, |a, b| key(a).cmp(&key(b)));
}

/// Sorts by a total order; what is equal stays in order.
pub fn sort_by<T>(items: &mut Vec<T>, order: impl Fn(&T, &T) -> Ordering) {
    let mut places: Vec<usize> = (0..items.len()).collect();
    sort_places(&mut places, &|a, b| order(&items[a], &items[b]));
    let mut unsorted: Vec<Option<T>> = std::mem::take(items).into_iter().map(Some).collect();
    items.extend(places.into_iter().filter_map(|place| unsorted[place].take()));
}

#[inline(never)]
fn sort_places(places: &mut [usize], order: &dyn Fn(usize, usize) -> Ordering) {
    places.sort_by(|a, b| order(*a, *b));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equal_stays_in_order() {
        let mut pairs: Vec<(u32, usize)> = (0..300).map(|i| ((i * 37 % 11) as u32, i)).collect();
        let mut wanted = pairs.clone();
        wanted.sort_by_key(|(key, _)| *key);
        sort_by_key(&mut pairs, |(key, _)| *key);
        assert_eq!(pairs, wanted);
        let mut words = vec!["b".to_owned(), "a".to_owned(), String::new()];
        sort_by(&mut words, |a, b| b.cmp(a));
        assert_eq!(words, ["b", "a", ""]);
        sort_by_key(&mut Vec::<u8>::new(), |byte| *byte);
    }
}
