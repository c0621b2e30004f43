//! A diffusion model's latents and the autoencoder's: the same but for a factor and a shift.

use crate::error::{Error, Result};

use super::Family;
use super::config::ImageConfig;
use super::names::Named;
use super::parts::Parts;

/// diffusers' default for `scaling_factor` of an AutoencoderKL.
const KL_SCALING: f32 = 0.18215;
/// diffusers' default for `batch_norm_eps`.
const EPS: f32 = 1e-4;
/// FLUX.2's statistics are over 2 × 2 positions.
const PATCH: u32 = 2;

/// FLUX.2's statistics of its latents: a mean and a variance of each channel and each place in 2 × 2 positions.
pub struct LatentNorm {
    mean: Vec<f32>,
    variance: Vec<f32>,
}

impl LatentNorm {
    /// The statistics, if the file has them.
    ///
    /// # Errors
    /// Missing or misshapen tensors.
    pub(super) fn take<W>(parts: &mut Parts<'_, W>, latents: u32) -> Result<Option<Self>> {
        if !Self::is_in(parts.named()) {
            return Ok(None);
        }
        let mut values = |name| parts.values(name, &[(latents * PATCH * PATCH) as usize]);
        Ok(Some(LatentNorm { mean: values("bn.running_mean")?, variance: values("bn.running_var")? }))
    }

    fn is_in(named: &Named) -> bool {
        named.any("bn.")
    }
}

/// How an autoencoder's latents are made of a diffusion model's: `z · factor + shift`.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    /// Of each channel, or of each channel and place in a patch: (channels, patch, patch).
    factors: Vec<f32>,
    shifts: Vec<f32>,
    patch: u32,
}

impl Scaling {
    /// What config and statistics say. `None` for an AutoencoderKL without either: its factor is not known.
    ///
    /// # Errors
    /// [`Error::Malformed`] for factors that contradict each other, or are not as many as the latents' channels.
    pub fn new(
        config: &ImageConfig,
        family: Family,
        latents: u32,
        norm: Option<&LatentNorm>,
    ) -> Result<Option<Self>> {
        let both =
            |one: &str, two: &str| Err(Error::Malformed { what: format!("the model has {one} and {two}") });
        let (mean, std) = (&config.latents_mean, &config.latents_std);
        if let Some(norm) = norm {
            let other = [
                config.scaling_factor.is_some(),
                config.shift_factor.is_some(),
                mean.is_some(),
                std.is_some(),
            ];
            if other.contains(&true) {
                return both("statistics of its latents (bn.running_mean)", "a scaling factor in its config");
            }
            let eps = config.batch_norm_eps.unwrap_or(EPS);
            if norm.variance.iter().any(|v| v + eps <= 0.0) {
                return Err(Error::Malformed { what: "bn.running_var has a variance below 0".to_owned() });
            }
            let factors = norm.variance.iter().map(|v| (v + eps).sqrt()).collect();
            return Ok(Some(Scaling { factors, shifts: norm.mean.clone(), patch: PATCH }));
        }
        let default = match family {
            Family::Taesd => Some(1.0),
            Family::Kl => config.is_given().then_some(KL_SCALING),
        };
        let Some(scaling) = config.scaling_factor.or(default) else { return Ok(None) };
        let count = latents as usize;
        match (mean, std) {
            (None, None) => {
                let shift = config.shift_factor.unwrap_or(0.0);
                Ok(Some(Scaling {
                    factors: vec![1.0 / scaling; count],
                    shifts: vec![shift; count],
                    patch: 1,
                }))
            }
            (Some(mean), Some(std)) if (mean.len(), std.len()) == (count, count) => {
                if config.shift_factor.is_some_and(|shift| shift != 0.0) {
                    return both("latents_mean", "a shift_factor");
                }
                let factors = std.iter().map(|std| std / scaling).collect();
                Ok(Some(Scaling { factors, shifts: mean.clone(), patch: 1 }))
            }
            _ => {
                let len = |list: &Option<Vec<f32>>| list.as_ref().map_or(0, Vec::len);
                let (means, stds) = (len(mean), len(std));
                Err(Error::Malformed {
                    what: format!("config: {means} latents_mean and {stds} latents_std for {count} channels"),
                })
            }
        }
    }

    /// Applies it to latents of so many rows and columns, channels outermost.
    #[must_use]
    pub fn apply(&self, (rows, columns): (u32, u32), values: &[f32]) -> Vec<f32> {
        let (width, plane, patch) = (columns as usize, rows as usize * columns as usize, self.patch as usize);
        let at = |i: usize| {
            let (channel, y, x) = (i / plane.max(1), i % plane.max(1) / width.max(1), i % width.max(1));
            (channel * patch + y % patch) * patch + x % patch
        };
        let scaled = values.iter().enumerate().map(|(i, v)| {
            let at = at(i);
            let (factor, shift) = (self.factors.get(at).copied(), self.shifts.get(at).copied());
            v * factor.unwrap_or(1.0) + shift.unwrap_or(0.0)
        });
        scaled.collect()
    }
}
