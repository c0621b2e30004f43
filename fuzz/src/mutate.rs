//! Random changes of an input, for the runner without coverage.

/// SplitMix64 (Steele, Lea and Flood, 2014): the same seed gives the same cases on every machine.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % (end.max(1) as u64)) as usize
    }
}

/// Numbers at which code goes wrong.
const NUMBERS: [u64; 14] = [
    0,
    1,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    0x1_0000_0000,
    0x7FFF_FFFF_FFFF_FFFF,
    u64::MAX,
    0x7FC0_0000, // NaN
    0x7F80_0000, // infinity
];

/// A position in `length` bytes. Headers stand first, so half of the positions fall into the first 1024 bytes.
fn place(random: &mut Random, length: usize) -> usize {
    let end = if random.below(2) == 0 { length.min(1024) } else { length };
    random.below(end)
}

/// Changes `input` in one to four places. `other` is spliced in at times; `words` are inserted at times.
pub fn mutate(random: &mut Random, input: &mut Vec<u8>, other: &[u8], words: &[&str]) {
    for _ in 0..=random.below(4) {
        let at = place(random, input.len());
        match random.below(9) {
            0 if !input.is_empty() => input[at] ^= 1 << random.below(8),
            1 if !input.is_empty() => input[at] = random.bits() as u8,
            2 | 3 => {
                let width = [1, 2, 4, 8][random.below(4)];
                let number = NUMBERS[random.below(NUMBERS.len())].to_le_bytes();
                for (byte, new) in input.iter_mut().skip(at).zip(&number[..width]) {
                    *byte = *new;
                }
            }
            4 => input.truncate(at),
            5 => {
                let end = (at + random.below(64)).min(input.len());
                input.drain(at..end);
            }
            6 => {
                let end = (at + random.below(256)).min(input.len());
                let part = input[at..end].to_vec();
                let times = 1 + random.below(4);
                input.splice(at..at, part.repeat(times));
            }
            7 if !other.is_empty() => {
                let from = place(random, other.len());
                let end = (from + random.below(256)).min(other.len());
                input.splice(at..at, other[from..end].iter().copied());
            }
            _ if !words.is_empty() => {
                let word = words[random.below(words.len())];
                input.splice(at..at, word.bytes());
            }
            _ => {}
        }
    }
}
