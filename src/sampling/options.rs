//! The sampling options, and what they mean for the draw.
//!
//! The backend draws the tokens. Only with `top_k` 0 or above [`MAX_TOP_K`] the logits are copied to the CPU, which draws.

use super::draw::{self, MAX_TOP_K, SampleParams};
use crate::error::{Error, Result, spelled};

/// How tokens are chosen. The defaults are llama.cpp's; a model may have its own (`engine/sampling_defaults.rs`).
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

/// The sampling options that somebody gave; `None` is not given. Seed and logit bias are missing: they belong to one request.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SamplingOverrides {
    /// [`Sampling::temperature`].
    pub temperature: Option<f32>,
    /// [`Sampling::top_k`].
    pub top_k: Option<u32>,
    /// [`Sampling::top_p`].
    pub top_p: Option<f32>,
    /// [`Sampling::min_p`].
    pub min_p: Option<f32>,
    /// [`Sampling::repetition_penalty`].
    pub repetition_penalty: Option<f32>,
    /// [`Sampling::presence_penalty`].
    pub presence_penalty: Option<f32>,
    /// [`Sampling::frequency_penalty`].
    pub frequency_penalty: Option<f32>,
    /// [`Sampling::penalty_window`].
    pub penalty_window: Option<u32>,
}

impl SamplingOverrides {
    /// The options that were given, and `defaults` for the others.
    #[must_use]
    pub fn over(&self, defaults: Sampling) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(defaults.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(defaults.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(defaults.frequency_penalty),
            penalty_window: self.penalty_window.unwrap_or(defaults.penalty_window),
            ..defaults
        }
    }
}

fn check(option: &'static str, value: f32, range: &'static str, ok: bool) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(Error::InvalidOption { option, value: spelled(value), range: range.into() })
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
        check("repetitionPenalty", r, "above 0, at most 100", (f32::MIN_POSITIVE..=100.0).contains(&r))?;
        for (option, value) in
            [("presencePenalty", self.presence_penalty), ("frequencyPenalty", self.frequency_penalty)]
        {
            check(option, value, "-100 to 100", (-100.0..=100.0).contains(&value))?;
        }
        for &(id, bias) in &self.logit_bias {
            // NaN is not below.
            if bias < f32::INFINITY {
                continue;
            }
            return Err(Error::InvalidOption {
                option: "logitBias",
                value: format!("{} for token {id}", spelled(bias)),
                range: "a finite number, or -Infinity to forbid the token".into(),
            });
        }
        Ok(())
    }

    /// Checks the options that depend on the number of tokens.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a bias of a token that there is not, or that forbids every token.
    pub fn check_vocabulary(&self, tokens: usize) -> Result<()> {
        let bad = |value: String, range: String| {
            Err(Error::InvalidOption { option: "logitBias", value, range: range.into() })
        };
        if let Some((id, _)) = self.logit_bias.iter().find(|(id, _)| *id as usize >= tokens) {
            return bad(
                format!("a bias for token {id}"),
                format!("token ids from 0 to {}", tokens.saturating_sub(1)),
            );
        }
        let forbidden = self.logit_bias.iter().filter(|(_, bias)| *bias == f32::NEG_INFINITY);
        let forbidden: std::collections::BTreeSet<u32> = forbidden.map(|(id, _)| *id).collect();
        if forbidden.len() == tokens {
            return bad(
                "-Infinity for every token".to_owned(),
                "at least one token must stay allowed".to_owned(),
            );
        }
        Ok(())
    }

    /// Whether the most probable token is taken without a draw. A temperature too small for a normal
    /// number counts as 0: GPUs take it for that.
    #[must_use]
    pub fn is_greedy(&self) -> bool {
        self.temperature < f32::MIN_POSITIVE || self.top_k == 1
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

    /// Whether the draw needs more candidates than the GPU keeps, so that the CPU has to draw.
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
            temperature: if self.is_greedy() { 0.0 } else { self.temperature },
            seed: self.seed,
            repetition: self.repetition_penalty,
            presence: self.presence_penalty,
            frequency: self.frequency_penalty,
            window: if self.penalizes() { self.penalty_window.min(longest_window) } else { 0 },
        }
    }

    /// Draws token number `counter` of a generation from all logits, on the CPU. `recent` are the
    /// tokens so far. [`crate::sampling::NO_TOKEN`] if there is no candidate.
    #[must_use]
    pub fn draw(&self, logits: &mut [f32], recent: &[u32], counter: u32) -> u32 {
        let params = SampleParams { top_k: self.top_k, ..self.params(u32::MAX) };
        draw::adjust(logits, &params, &self.logit_bias, recent);
        draw::draw(logits, &params, counter)
    }
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
        draw::adjust(&mut logits, &s.params(64), &s.logit_bias, &[2, 1, 0, 0]);
        assert_eq!(logits, [4.0 / 2.0 - 2.0 * 0.5 - 0.25, -8.0 - 0.5 - 0.25, 1.0, 2.0]);
    }

    #[test]
    fn bad_options_are_named() {
        let bad = Sampling { top_p: f32::NAN, ..Default::default() };
        assert!(matches!(bad.validate(), Err(Error::InvalidOption { option: "topP", .. })));
        let bad = Sampling { temperature: -1.0, ..Default::default() };
        assert_eq!(bad.validate().unwrap_err().code(), "invalid-option");
        // Every option of a number, with each that is out of its range.
        type Set = fn(&mut Sampling, f32);
        let options: [(&str, Set, &[f32]); 7] = [
            ("temperature", |s, v| s.temperature = v, &[-1e-9, 101.0]),
            ("topP", |s, v| s.top_p = v, &[-0.1, 1.1]),
            ("minP", |s, v| s.min_p = v, &[-0.1, 1.1]),
            ("repetitionPenalty", |s, v| s.repetition_penalty = v, &[0.0, 1e-40, -1.0, 101.0]),
            ("presencePenalty", |s, v| s.presence_penalty = v, &[-101.0, 101.0]),
            ("frequencyPenalty", |s, v| s.frequency_penalty = v, &[-101.0, 101.0]),
            ("logitBias", |s, v| s.logit_bias = vec![(3, v)], &[]),
        ];
        for (name, set, values) in options {
            let nonsense: &[f32] = if name == "logitBias" {
                &[f32::NAN, f32::INFINITY]
            } else {
                &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]
            };
            for &value in values.iter().chain(nonsense) {
                let mut sampling = Sampling::default();
                set(&mut sampling, value);
                let error = sampling.validate().unwrap_err();
                assert!(matches!(error, Error::InvalidOption { option, .. } if option == name), "{error}");
            }
        }
    }

    #[test]
    fn biases_fit_the_vocabulary() {
        let of = |logit_bias| Sampling { logit_bias, ..Default::default() }.check_vocabulary(3);
        let forbid = |ids: &[u32]| ids.iter().map(|&id| (id, f32::NEG_INFINITY)).collect::<Vec<_>>();
        assert!(of(vec![(2, 1.0)]).is_ok());
        assert!(of(forbid(&[0, 2, 2])).is_ok());
        assert!(of(vec![(3, 1.0)]).unwrap_err().to_string().contains("token 3"));
        assert!(of(forbid(&[2, 1, 0])).unwrap_err().to_string().contains("every token"));
    }

    #[test]
    fn all_of_the_vocabulary_is_drawn_from_with_infinite_logits() {
        // `top_k` 0 has no twin on the GPU; tests/common/cases/sample.rs has the rest.
        for (temperature, top_p, min_p) in [(1.0, 1.0, 0.0), (0.5, 0.9, 0.1), (100.0, 1.0, 1.0)] {
            let open = Sampling { temperature, top_k: 0, top_p, min_p, seed: 3, ..Default::default() };
            let (inf, nan) = (f32::INFINITY, f32::NAN);
            assert_eq!(drawn(&open, &[1.0, inf, nan, 3e38, -inf], 50), [1; 50]);
            let twice = drawn(&open, &[1.0, inf, nan, inf, -inf], 400);
            let share = twice.iter().filter(|&&id| id == 1).count();
            // Ten standard deviations of 400 fair draws.
            assert!(twice.iter().all(|id| [1, 3].contains(id)) && (100..=300).contains(&share), "{share}");
            assert_eq!(drawn(&open, &[nan, -inf, -5.0, nan], 50), [2; 50]);
            assert_eq!(drawn(&open, &[nan, -inf], 1), [crate::sampling::NO_TOKEN]);
        }
    }
}
