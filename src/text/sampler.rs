//! Sampling: the options, and the CPU's version of the draw.
//!
//! In ordinary decoding the draw happens on the GPU (`shaders/sample_*.wgsl`). This version is used
//! when a request wants all of the vocabulary (`top_k` 0 or above [`MAX_TOP_K`]). The order is
//! llama.cpp's: logit bias, penalties, top-k, top-p, min-p, temperature, draw.

use crate::error::{Error, Result};
use crate::ops::{MAX_TOP_K, SampleParams};

/// How tokens are chosen. The defaults are llama.cpp's.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 is greedy: always the most probable token.
    pub temperature: f32,
    /// Keep the `top_k` most probable tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set whose probabilities reach this sum; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens at least this probable relative to the best; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of recent tokens; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted once from the logits of recent tokens; 0 is off.
    pub presence_penalty: f32,
    /// Subtracted once for every recent occurrence; 0 is off.
    pub frequency_penalty: f32,
    /// How many tokens are "recent", prompt included.
    pub penalty_window: u32,
    /// Added to the logits of single tokens: (id, bias).
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same text.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_window: 64,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

fn check(option: &'static str, value: f32, range: &'static str, ok: bool) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(Error::InvalidOption { option, value: value.to_string(), range })
}

impl Sampling {
    /// Checks every option.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] naming the first one out of range.
    pub fn validate(&self) -> Result<()> {
        let t = self.temperature;
        check("temperature", t, "0 to 100", (0.0..=100.0).contains(&t))?;
        check("topP", self.top_p, "0 to 1", (0.0..=1.0).contains(&self.top_p))?;
        check("minP", self.min_p, "0 to 1", (0.0..=1.0).contains(&self.min_p))?;
        let r = self.repetition_penalty;
        check("repetitionPenalty", r, "above 0, at most 100", r > 0.0 && r <= 100.0)?;
        for (option, value) in
            [("presencePenalty", self.presence_penalty), ("frequencyPenalty", self.frequency_penalty)]
        {
            check(option, value, "-100 to 100", (-100.0..=100.0).contains(&value))?;
        }
        for &(_, bias) in &self.logit_bias {
            check("logitBias", bias, "a number, or -Infinity to forbid the token", bias < f32::INFINITY)?;
        }
        Ok(())
    }

    /// Whether the most probable token is taken without a draw.
    #[must_use]
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0 || self.top_k == 1
    }

    /// Whether bias or penalties change the logits.
    #[must_use]
    pub fn adjusts(&self) -> bool {
        !self.logit_bias.is_empty() || self.penalizes()
    }

    fn penalizes(&self) -> bool {
        self.penalty_window > 0
            && (self.repetition_penalty != 1.0
                || self.presence_penalty != 0.0
                || self.frequency_penalty != 0.0)
    }

    /// Whether the draw needs more candidates than the GPU keeps, so that the logits have to come to
    /// the CPU.
    #[must_use]
    pub fn needs_all_logits(&self) -> bool {
        !self.is_greedy() && (self.top_k == 0 || self.top_k > MAX_TOP_K)
    }

    /// For the GPU; `longest_window` is the size of its history.
    #[must_use]
    pub fn params(&self, longest_window: u32) -> SampleParams {
        SampleParams {
            top_k: if self.is_greedy() { 1 } else { self.top_k.clamp(1, MAX_TOP_K) },
            top_p: self.top_p,
            min_p: self.min_p,
            temperature: self.temperature,
            seed: self.seed,
            repetition: self.repetition_penalty,
            presence: self.presence_penalty,
            frequency: self.frequency_penalty,
            window: if self.penalizes() { self.penalty_window.min(longest_window) } else { 0 },
        }
    }

    /// Draws token number `counter` of a generation from all logits. `recent` are the tokens so far.
    #[must_use]
    pub fn draw(&self, logits: &mut [f32], recent: &[u32], counter: u32) -> u32 {
        self.adjust(logits, recent);
        // Highest logit first, lowest id first among equals; NaN never wins.
        let mut order: Vec<u32> =
            (0..logits.len() as u32).filter(|&i| !logits[i as usize].is_nan()).collect();
        let by_logit = |&a: &u32, &b: &u32| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b));
        if self.is_greedy() {
            return order.into_iter().min_by(by_logit).unwrap_or(0);
        }
        order.sort_unstable_by(by_logit);
        if self.top_k > 0 {
            order.truncate(self.top_k as usize);
        }
        let Some(&best) = order.first() else { return 0 };
        let highest = logits[best as usize];
        let weight = |id: u32| f64::from(logits[id as usize] - highest).exp();
        if self.top_p < 1.0 {
            let total: f64 = order.iter().map(|&id| weight(id)).sum();
            let mut sum = 0.0;
            let kept = order.iter().position(|&id| {
                sum += weight(id);
                sum >= f64::from(self.top_p) * total
            });
            order.truncate(kept.map_or(order.len(), |k| k + 1));
        }
        if self.min_p > 0.0 {
            let floor = highest + self.min_p.ln();
            let kept = order.iter().skip(1).position(|&id| logits[id as usize] < floor);
            order.truncate(kept.map_or(order.len(), |k| k + 1));
        }
        let hot = |id: u32| (f64::from(logits[id as usize] - highest) / f64::from(self.temperature)).exp();
        let total: f64 = order.iter().map(|&id| hot(id)).sum();
        let target = f64::from(uniform_random(self.seed, counter)) * total;
        let mut sum = 0.0;
        for &id in &order {
            sum += hot(id);
            if target < sum {
                return id;
            }
        }
        order.last().copied().unwrap_or(best)
    }

    fn adjust(&self, logits: &mut [f32], recent: &[u32]) {
        for &(id, bias) in &self.logit_bias {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit += bias;
            }
        }
        if !self.penalizes() {
            return;
        }
        let window = &recent[recent.len().saturating_sub(self.penalty_window as usize)..];
        let mut counts = std::collections::BTreeMap::new();
        for &id in window {
            *counts.entry(id).or_insert(0u32) += 1;
        }
        for (id, count) in counts {
            if let Some(logit) = logits.get_mut(id as usize) {
                if *logit <= 0.0 {
                    *logit *= self.repetition_penalty;
                } else {
                    *logit /= self.repetition_penalty;
                }
                *logit -= count as f32 * self.frequency_penalty + self.presence_penalty;
            }
        }
    }
}

/// Uniform in \[0, 1), a hash of seed and counter: PCG3D, Jarzynski and Olano, JCGT 9(3), 2020.
/// `shaders/shared/random.wgsl` has the same function.
fn uniform_random(seed: u64, counter: u32) -> f32 {
    let mix = |v: u32| v.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    let (mut x, mut y, mut z) = (mix(seed as u32), mix((seed >> 32) as u32), mix(counter));
    x = x.wrapping_add(y.wrapping_mul(z));
    y = y.wrapping_add(z.wrapping_mul(x));
    z = z.wrapping_add(x.wrapping_mul(y));
    x ^= x >> 16;
    y ^= y >> 16;
    z ^= z >> 16;
    x = x.wrapping_add(y.wrapping_mul(z));
    y = y.wrapping_add(z.wrapping_mul(x));
    z = z.wrapping_add(x.wrapping_mul(y));
    (z >> 8) as f32 / 16_777_216.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(sampling: &Sampling, logits: &[f32], counters: u32) -> Vec<u32> {
        (0..counters).map(|c| sampling.draw(&mut logits.to_vec(), &[], c)).collect()
    }

    #[test]
    fn greedy_takes_the_first_of_the_best() {
        let sampling = Sampling { temperature: 0.0, ..Default::default() };
        assert_eq!(drawn(&sampling, &[1.0, 3.0, f32::NAN, 3.0], 1), [1]);
    }

    #[test]
    fn a_draw_follows_the_probabilities() {
        let open =
            Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 7, ..Default::default() };
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let ids = drawn(&open, &logits, 20_000);
        for (id, p) in [(0, 0.5), (1, 0.3), (2, 0.2)] {
            let share = ids.iter().filter(|&&i| i == id).count() as f64 / 20_000.0;
            // Five standard deviations of a binomial share with n = 20 000.
            assert!((share - p).abs() < 5.0 * (p * (1.0 - p) / 20_000.0).sqrt(), "{id}: {share}");
        }
        assert_eq!(ids, drawn(&open, &logits, 20_000));
        assert_ne!(ids, drawn(&Sampling { seed: 8, ..open }, &logits, 20_000));
    }

    #[test]
    fn each_cut_cuts() {
        let base = Sampling { temperature: 5.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..Default::default() };
        let logits = [0.4f32.ln(), 0.3f32.ln(), 0.2f32.ln(), 0.1f32.ln()];
        let most = |s: &Sampling| drawn(s, &logits, 500).into_iter().max().unwrap();
        assert_eq!(most(&base), 3);
        assert_eq!(most(&Sampling { top_k: 2, ..base.clone() }), 1);
        assert_eq!(most(&Sampling { top_p: 0.65, ..base.clone() }), 1);
        assert_eq!(most(&Sampling { min_p: 0.4, ..base.clone() }), 2);
        // top-p is computed before the temperature flattens the probabilities, as llama.cpp does.
        assert_eq!(most(&Sampling { top_p: 0.39, ..base }), 0);
    }

    #[test]
    fn penalties_use_llama_cpp_formulas() {
        let s = Sampling {
            repetition_penalty: 2.0,
            presence_penalty: 0.25,
            frequency_penalty: 0.5,
            penalty_window: 3,
            logit_bias: vec![(3, 1.0)],
            ..Default::default()
        };
        let mut logits = vec![4.0, -4.0, 1.0, 1.0];
        // Window of three: 1, 0, 0; the older 2 is forgotten.
        s.adjust(&mut logits, &[2, 1, 0, 0]);
        assert_eq!(logits, [4.0 / 2.0 - 2.0 * 0.5 - 0.25, -8.0 - 0.5 - 0.25, 1.0, 2.0]);
    }

    #[test]
    fn bad_options_are_named() {
        let bad = Sampling { top_p: f32::NAN, ..Default::default() };
        assert!(matches!(bad.validate(), Err(Error::InvalidOption { option: "topP", .. })));
        let bad = Sampling { temperature: -1.0, ..Default::default() };
        assert_eq!(bad.validate().unwrap_err().code(), "invalid-option");
    }
}
