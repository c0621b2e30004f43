//! Seeded numbers, the same everywhere: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    /// Uniform in [-1, 1), now and then ten times as large: flat inputs hide mistakes.
    pub fn float(&mut self) -> f32 {
        let uniform = (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        if self.below(16) == 0 { 10.0 * uniform } else { uniform }
    }

    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }

    /// Blocks of 32 that int8 with one scale holds exactly: integers up to 127, of which one at least
    /// is 127 or -127, times a power of two. Now and then a block is all zeros.
    pub fn int8_blocks(&mut self, n: usize) -> Vec<f32> {
        let mut values = Vec::with_capacity(n);
        while values.len() < n {
            let len = (n - values.len()).min(32);
            let scale = if self.below(8) == 0 { 0.0 } else { self.power_of_two(-8, -3) };
            let largest = self.below(len as u64) as usize;
            values.extend((0..len).map(|i| {
                let integer = if i == largest { 127 } else { self.below(255) as i32 - 127 };
                integer as f32 * scale
            }));
        }
        values
    }

    /// -1, 0 and 1.
    pub fn signs(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.below(3) as f32 - 1.0).collect()
    }

    /// 2^low to 2^high, of either sign.
    pub fn power_of_two(&mut self, low: i32, high: i32) -> f32 {
        let size = 2f32.powi(low + self.below((high - low + 1) as u64) as i32);
        if self.below(2) == 0 { size } else { -size }
    }
}
