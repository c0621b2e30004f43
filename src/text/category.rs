//! General categories of Unicode, as far as word cutting asks: letters, marks, numbers, punctuation,
//! symbols.
//!
//! `categories.txt` has them for all code points in order, as runs: a length (hexadecimal, 1 if left
//! out) and `L`, `M`, `N`, `P`, `S` or `_`. It is made of the tables of `tokenizers`' regular expressions,
//! and a test compares the two.

use std::sync::LazyLock;

/// Of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Category {
    /// `\p{L}`
    Letter,
    /// `\p{M}`
    Mark,
    /// `\p{N}`
    Number,
    /// `\p{P}`
    Punctuation,
    /// `\p{S}`
    Symbol,
    Other,
}

/// The first code point of every run, ascending.
static RUNS: LazyLock<Vec<(u32, Category)>> = LazyLock::new(|| runs(include_str!("categories.txt")));

/// The category of `c`.
pub(crate) fn of(c: char) -> Category {
    if c.is_ascii_alphabetic() {
        return Category::Letter;
    }
    let after = RUNS.partition_point(|&(first, _)| first <= u32::from(c));
    after.checked_sub(1).and_then(|at| RUNS.get(at)).map_or(Category::Other, |&(_, category)| category)
}

fn runs(text: &str) -> Vec<(u32, Category)> {
    let mut runs = Vec::new();
    let (mut first, mut length) = (0, 0);
    for c in text.chars() {
        if let Some(digit) = c.to_digit(16) {
            length = length * 16 + digit;
            continue;
        }
        let category = match c {
            'L' => Category::Letter,
            'M' => Category::Mark,
            'N' => Category::Number,
            'P' => Category::Punctuation,
            'S' => Category::Symbol,
            '_' => Category::Other,
            _ => continue,
        };
        runs.push((first, category));
        first += length.max(1);
        length = 0;
    }
    runs
}

#[cfg(test)]
mod tests {
    use tokenizers::utils::SysRegex;

    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/text/categories.txt");

    /// What the file should be.
    fn by_regex() -> String {
        let all: String = ('\0'..=char::MAX).collect();
        // Surrogates are in the table, as others: a run does not end there.
        let mut letters = vec!['_'; 0x11_0000];
        for letter in ['L', 'M', 'N', 'P', 'S'] {
            let regex = SysRegex::new(&format!(r"\p{{{letter}}}+")).unwrap();
            for (from, to) in regex.find_iter(&all) {
                for c in all[from..to].chars() {
                    letters[c as usize] = letter;
                }
            }
        }
        let run = |run: &[char]| match run.len() {
            1 => run[0].to_string(),
            length => format!("{length:x}{}", run[0]),
        };
        let line: Vec<char> =
            letters.chunk_by(|a, b| a == b).flat_map(|r| run(r).into_bytes()).map(char::from).collect();
        line.chunks(120).map(|part| part.iter().collect::<String>() + "\n").collect()
    }

    #[test]
    fn the_file_is_what_the_regular_expressions_say() {
        let file = include_str!("categories.txt");
        assert!(
            by_regex() == file,
            "run `cargo test --lib write_categories -- --ignored` and look at the change"
        );
    }

    #[test]
    #[ignore = "writes src/text/categories.txt"]
    fn write_categories() {
        std::fs::write(FILE, by_regex()).unwrap();
    }

    #[test]
    fn characters_have_their_categories() {
        let expected = [
            ('a', Category::Letter),
            ('\0', Category::Other),
            (' ', Category::Other),
            ('7', Category::Number),
            ('!', Category::Punctuation),
            ('+', Category::Symbol),
            ('é', Category::Letter),
            ('漢', Category::Letter),
            ('½', Category::Number),
            ('\u{301}', Category::Mark),
            ('\u{1F680}', Category::Symbol),
            (char::MAX, Category::Other),
        ];
        for (c, category) in expected {
            assert_eq!(of(c), category, "{c:?}");
        }
    }
}
