//! Rotary position embedding: the table of angles.
//!
//! Su et al., "RoFormer", 2021: pair i of a head turns by `pos · base^(-2i/d)`. Llama 3's scaling is
//! in the file as one divisor per pair (`rope_freqs.weight`, llama.cpp's convention); linear scaling
//! divides all angles by one factor.

use std::ops::RangeInclusive;

use crate::error::{Error, Result};

use super::arch_meta::ArchMeta;

/// How positions turn heads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rope {
    /// Of the angles.
    pub base: f32,
    /// Divides all angles.
    pub factor: f32,
    /// Multiplies what is turned.
    pub magnitude: f32,
}

/// Factors and divisors of angles; those in use are 1 to some hundred.
const FACTORS: RangeInclusive<f32> = 1e-3..=1e6;
/// Bases in use are 10 000 to some 100 million.
const BASES: RangeInclusive<f32> = 1.0..=1e15;
/// Positions of one piece of the table.
const PIECE: u32 = 4096;

impl Rope {
    /// From the keys `rope.freq_base` and `rope.scaling.…`. `divisors`: whether the file has a divisor for each pair.
    pub(super) fn read(meta: &ArchMeta<'_>, divisors: bool) -> Result<Self> {
        // A factor without a type is linear, as in llama.cpp; files of 2023 have another key for it.
        let kind = meta.word_or("rope.scaling.type", "linear")?;
        let factor = meta.number_if_any("rope.scaling.factor", FACTORS)?;
        let old = meta.number_if_any("rope.scale_linear", FACTORS)?;
        if let (Some(factor), Some(old)) = (factor, old)
            && factor != old
        {
            return Err(meta.unsupported("rope.scale_linear", "another than rope.scaling.factor"));
        }
        let factor = match kind {
            "linear" => factor.or(old).unwrap_or(1.0),
            "none" => 1.0,
            // The divisors are all there is to it.
            "llama3" if divisors => 1.0,
            _ => return Err(meta.unsupported("rope.scaling.type", "")),
        };
        Ok(Rope {
            base: meta.number_if_any("rope.freq_base", BASES)?.unwrap_or(10_000.0),
            factor,
            magnitude: meta.number_if_any("rope.scaling.attn_factor", FACTORS)?.unwrap_or(1.0),
        })
    }

    /// (position, pair) → (cos, sin), positions outer, in pieces: (index of the first float, floats). Angles are f64, so
    /// that they stay exact at position 100 000.
    ///
    /// # Errors
    /// [`Error::Malformed`] for divisors that are out of range.
    pub(super) fn table(
        self,
        positions: u32,
        dim: u32,
        divisors: Option<&[f32]>,
    ) -> Result<impl Iterator<Item = (u32, Vec<f32>)>> {
        let pairs = dim / 2;
        if let Some(divisor) = divisors.unwrap_or_default().iter().find(|d| !FACTORS.contains(d)) {
            let (least, most) = (FACTORS.start(), FACTORS.end());
            let what = format!("rope_freqs.weight holds {divisor}, expected {least} to {most}");
            return Err(Error::Malformed { what });
        }
        let mut divisors = divisors.map(<[f32]>::iter);
        let frequencies: Vec<f64> = (0..pairs)
            .map(|i| {
                let plain = f64::from(self.base).powf(-2.0 * f64::from(i) / f64::from(dim));
                let divisor = divisors.as_mut().and_then(Iterator::next).copied().unwrap_or(1.0);
                plain / f64::from(divisor) / f64::from(self.factor)
            })
            .collect();
        Ok((0..positions).step_by(PIECE as usize).map(move |first| {
            let mut turns = Vec::new();
            for pos in first..positions.min(first.saturating_add(PIECE)) {
                for frequency in &frequencies {
                    let (sin, cos) = (f64::from(pos) * frequency).sin_cos();
                    #[allow(clippy::cast_possible_truncation)] // a number of modest size, rounded
                    turns.extend([cos, sin].map(|turn| (turn * f64::from(self.magnitude)) as f32));
                }
            }
            (first * dim, turns)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rope: Rope, positions: u32, dim: u32, divisors: Option<&[f32]>) -> Vec<f32> {
        let mut whole = Vec::new();
        for (at, turns) in rope.table(positions, dim, divisors).unwrap() {
            assert_eq!(at as usize, whole.len(), "pieces follow each other");
            whole.extend(turns);
        }
        whole
    }

    const PLAIN: Rope = Rope { base: 100.0, factor: 1.0, magnitude: 1.0 };

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
        let scaled = table(Rope { factor: 2.0, ..PLAIN }, 3, 4, None);
        assert_eq!(scaled[8..12], plain[4..8]);
        let larger = table(Rope { magnitude: 2.0, ..PLAIN }, 3, 4, None);
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
            let error = PLAIN.table(1, 4, Some(&[1.0, bad])).err().unwrap();
            assert!(error.to_string().contains("rope_freqs.weight"), "{error}");
        }
    }
}
