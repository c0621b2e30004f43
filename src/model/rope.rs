//! Rotary position embedding: the table of angles.
//!
//! Su et al., "RoFormer", 2021: pair i of a head turns by `pos · base^(-2i/d)`. Linear scaling divides all angles by one
//! factor. YaRN (Peng et al., 2023) does so only for pairs that turn slowly, and makes the turned numbers larger. Llama
//! 3's and LongRoPE's scaling is in the file as one divisor per pair (`rope_freqs.weight`, `rope_factors_….weight`).
//! Names and defaults of the keys are llama.cpp's.

use std::ops::RangeInclusive;

use crate::error::{Error, Result};
use crate::graph::{Heads, RopePairs};

use super::arch_meta::ArchMeta;

/// How positions turn heads.
#[derive(Debug, Clone, Copy)]
pub(super) struct RopeTable {
    /// Of the angles.
    pub base: f32,
    /// Elements of a head that turn.
    pub dim: u32,
    /// How they pair up.
    pub pairs: RopePairs,
    /// Divides angles: all, or with YaRN those of slow pairs.
    pub factor: f32,
    /// Multiplies what is turned.
    pub magnitude: f32,
    /// Whether the divisors that a file has are for this table.
    pub scaled: bool,
    /// Whether the context that is asked for is longer than the one before scaling: LongRoPE has divisors for each.
    pub long: bool,
    /// Which pairs are slow.
    pub yarn: Option<Yarn>,
    /// A type of scaling whose divisors must be in the file.
    pub needs_divisors: Option<&'static str>,
}

/// YaRN: pairs that turn often within the original context keep their angles.
#[derive(Debug, Clone, Copy)]
pub(super) struct Yarn {
    /// How much of it: 1.
    ext: f32,
    /// Turns from which on a pair counts as fast.
    fast: f32,
    /// Turns up to which a pair counts as slow.
    slow: f32,
    /// Tokens that the model was trained on before.
    context: u32,
}

/// Factors and divisors of angles; those in use are 1 to some hundred.
pub(super) const FACTORS: RangeInclusive<f32> = 1e-4..=1e6;
/// Bases in use are 10 000 to some 100 million.
pub(super) const BASES: RangeInclusive<f32> = 1.0..=1e15;
/// Positions of one piece of the table.
const PIECE: u32 = 4096;

impl RopeTable {
    /// From the keys `rope.dimension_count`, `rope.freq_base` and `rope.scaling.…`.
    pub(super) fn read(meta: &ArchMeta<'_>, heads: Heads, pairs: RopePairs) -> Result<Self> {
        let dim = meta.count_or("rope.dimension_count", heads.dim, 2..=heads.dim)?;
        if dim % 2 != 0 {
            return Err(meta.malformed("rope.dimension_count", dim, "an even number"));
        }
        // A factor without a type is linear, as in llama.cpp; files of 2023 have another key for it.
        let kind = meta.word_or("rope.scaling.type", "linear")?;
        let factor = meta.factor("rope.scaling.factor")?;
        let old = meta.factor("rope.scale_linear")?;
        if let (Some(factor), Some(old)) = (factor, old)
            && factor != old
        {
            return Err(meta.unsupported("rope.scale_linear", "another than rope.scaling.factor"));
        }
        let scaling = factor.or(old).unwrap_or(1.0);
        let mut table = RopeTable {
            base: meta.number_if_any("rope.freq_base", BASES)?.unwrap_or(10_000.0),
            dim,
            pairs,
            factor: 1.0,
            magnitude: meta.rope_magnitude()?,
            scaled: true,
            long: false,
            yarn: None,
            needs_divisors: None,
        };
        // Tokens of the context before scaling; only YaRN and LongRoPE ask for it.
        let trained = meta.count("context_length", 1..=u32::MAX)?;
        let context = meta.count_or("rope.scaling.original_context_length", trained, 1..=u32::MAX)?;
        table.long = meta.context() > context;
        match kind {
            "linear" => table.factor = scaling,
            "none" => {}
            "llama3" => table.needs_divisors = Some("llama3"),
            "longrope" => {
                table.needs_divisors = Some("longrope");
                table.factor = scaling;
            }
            "yarn" => {
                let number = |key, default| Ok(meta.number_if_any(key, FACTORS)?.unwrap_or(default));
                let ext = number("rope.scaling.yarn_ext_factor", 1.0)?;
                let (fast, slow) = (
                    number("rope.scaling.yarn_beta_fast", 32.0)?,
                    number("rope.scaling.yarn_beta_slow", 1.0)?,
                );
                table.yarn = Some(Yarn { ext, fast, slow, context });
                table.factor = scaling;
                // Peng et al., equation 22, as a factor of what is turned.
                let usual = if scaling > 1.0 { 1.0 + 0.1 * scaling.ln() } else { 1.0 };
                // Hugging Face's `attention_factor` is in place of it. llama.cpp reads neither key.
                let key = "rope.scaling.yarn_attn_factor";
                let own = meta.number_or(key, usual, FACTORS)?;
                if own != 1.0 && (own - usual).abs() > 1e-3 * usual {
                    return Err(meta.unsupported(key, "another than 1 + 0.1 ln(rope.scaling.factor)"));
                }
                let key = "rope.scaling.yarn_log_multiplier";
                if meta.factor(key)?.is_some() {
                    return Err(meta.unsupported(key, ""));
                }
                table.magnitude *= usual;
            }
            _ => return Err(meta.unsupported("rope.scaling.type", "")),
        }
        Ok(table)
    }

    /// The table of another base, without scaling: of layers with a window, in some models.
    pub(super) fn plain(self, base: f32) -> Self {
        let plain = RopeTable { base, factor: 1.0, magnitude: 1.0, scaled: false, ..self };
        RopeTable { yarn: None, needs_divisors: None, ..plain }
    }

    /// Angles of the pairs for a step of one position.
    fn frequencies(&self, divisors: Option<&[f32]>) -> Vec<f64> {
        let dim = f64::from(self.dim);
        let base = f64::from(self.base);
        let ramp = self.yarn.map(|yarn| {
            // The pair that turns so often within the original context.
            let pair = |turns: f32| {
                let wave = f64::from(yarn.context) / (f64::from(turns) * 2.0 * std::f64::consts::PI);
                dim * wave.ln() / (2.0 * base.ln())
            };
            let low = pair(yarn.fast).floor().max(0.0);
            let high = pair(yarn.slow).ceil().min(dim - 1.0);
            (low, high, f64::from(yarn.ext))
        });
        let mut divisors = divisors.map(<[f32]>::iter);
        (0..self.dim / 2)
            .map(|i| {
                let divisor = divisors.as_mut().and_then(Iterator::next).copied().unwrap_or(1.0);
                let plain = base.powf(-2.0 * f64::from(i) / dim) / f64::from(divisor);
                let scaled = plain / f64::from(self.factor);
                let Some((low, high, ext)) = ramp else { return scaled };
                let fast = ext * (1.0 - ((f64::from(i) - low) / (high - low).max(1e-3)).clamp(0.0, 1.0));
                scaled * (1.0 - fast) + plain * fast
            })
            .collect()
    }

    /// (position, pair) → (cos, sin), positions outer, in pieces: (index of the first float, floats). Angles are f64, so
    /// that they stay exact at position 100 000.
    ///
    /// # Errors
    /// [`Error::Malformed`] for divisors that are out of range; it names their tensor.
    pub(super) fn pieces(
        self,
        positions: u32,
        divisors: Option<(&str, Vec<f32>)>,
    ) -> Result<impl Iterator<Item = (u32, Vec<f32>)>> {
        if let Some((tensor, divisors)) = &divisors
            && let Some(divisor) = divisors.iter().find(|d| !FACTORS.contains(d))
        {
            let (least, most) = (FACTORS.start(), FACTORS.end());
            let what = format!("{tensor} holds {divisor}, expected {least} to {most}");
            return Err(Error::Malformed { what });
        }
        let frequencies = self.frequencies(divisors.as_ref().map(|(_, divisors)| divisors.as_slice()));
        Ok((0..positions).step_by(PIECE as usize).map(move |first| {
            let mut turns = Vec::new();
            for pos in first..positions.min(first.saturating_add(PIECE)) {
                for frequency in &frequencies {
                    let (sin, cos) = (f64::from(pos) * frequency).sin_cos();
                    #[allow(clippy::cast_possible_truncation)] // a number of modest size, rounded
                    turns.extend([cos, sin].map(|turn| (turn * f64::from(self.magnitude)) as f32));
                }
            }
            (first * self.dim, turns)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rope: RopeTable, positions: u32, dim: u32, divisors: Option<&[f32]>) -> Vec<f32> {
        let mut whole = Vec::new();
        let divisors = divisors.map(|divisors| ("rope_freqs.weight", divisors.to_vec()));
        for (at, turns) in (RopeTable { dim, ..rope }).pieces(positions, divisors).unwrap() {
            assert_eq!(at as usize, whole.len(), "pieces follow each other");
            whole.extend(turns);
        }
        whole
    }

    const PLAIN: RopeTable = RopeTable {
        base: 100.0,
        dim: 4,
        pairs: RopePairs::Adjacent,
        factor: 1.0,
        magnitude: 1.0,
        scaled: true,
        long: false,
        yarn: None,
        needs_divisors: None,
    };

    #[test]
    fn position_zero_does_not_turn_and_divisors_slow_down() {
        let plain = table(PLAIN, 3, 4, None);
        assert_eq!(&plain[..4], &[1.0, 0.0, 1.0, 0.0]);
        // Position 1: angles 1 and 100^(-1/2) = 0.1.
        let expected = [1f64.cos(), 1f64.sin(), 0.1f64.cos(), 0.1f64.sin()].map(|v| v as f32);
        assert_eq!(&plain[4..8], &expected);
        let slowed = table(PLAIN, 3, 4, Some(&[2.0, 1.0]));
        assert_eq!(slowed[8..10], plain[4..6]);
        assert_eq!(slowed[10..12], plain[10..12]);
        let scaled = table(RopeTable { factor: 2.0, ..PLAIN }, 3, 4, None);
        assert_eq!(scaled[8..12], plain[4..8]);
        let larger = table(RopeTable { magnitude: 2.0, ..PLAIN }, 3, 4, None);
        assert_eq!(larger, plain.iter().map(|turn| 2.0 * turn).collect::<Vec<_>>());
    }

    #[test]
    fn a_long_table_comes_in_pieces() {
        let long = table(PLAIN, PIECE + 2, 2, None);
        assert_eq!(long.len(), 2 * (PIECE as usize + 2));
        let last = f64::from(PIECE + 1);
        assert_eq!(long[long.len() - 2..], [last.cos() as f32, last.sin() as f32]);
    }

    #[test]
    fn divisors_out_of_range_are_refused() {
        for bad in [f32::NAN, f32::INFINITY, 0.0, -1.0, 1e-30] {
            let error = PLAIN.pieces(1, Some(("rope_freqs.weight", vec![1.0, bad]))).err().unwrap();
            assert!(error.to_string().contains("rope_freqs.weight"), "{error}");
        }
    }
}
