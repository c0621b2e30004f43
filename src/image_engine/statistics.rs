//! Norms over a picture that is computed in tiles: what the tiles measured, merged.

use crate::error::Result;
use crate::model::image::MeasuredNorm;
use crate::ops::ImageBackend;

/// Mean and variance of one group of a norm, weighted by what was measured.
#[derive(Clone, Copy, Default)]
struct Moments {
    mean: f64,
    /// Of the variance (and the norm's epsilon) plus the squared mean.
    square: f64,
}

/// Sums over tiles: for each norm, for each of its groups.
#[derive(Default)]
pub(super) struct Statistics {
    weight: f64,
    norms: Vec<Vec<Moments>>,
}

impl Statistics {
    /// Adds what the last run measured. A scale is gain / deviation and a shift is bias - mean · scale, so both
    /// moments follow from the channel of a group whose gain is largest.
    /// `weight` is the number of positions that were measured.
    pub async fn add<B: ImageBackend>(
        &mut self,
        backend: &mut B,
        norms: &[MeasuredNorm<B>],
        weight: f64,
    ) -> Result<()> {
        self.weight += weight;
        self.norms.resize_with(norms.len(), Vec::new);
        for (norm, sums) in norms.iter().zip(&mut self.norms) {
            let channels = norm.gain.len();
            #[allow(clippy::cast_possible_truncation)] // a norm's channels
            let count = channels as u32;
            let (scales, shifts) = backend.read_norm(&norm.norm, count).await?;
            let size = (channels / norm.groups as usize).max(1);
            sums.resize(channels.div_ceil(size), Moments::default());
            for (group, sum) in sums.iter_mut().enumerate() {
                let members = group * size..((group + 1) * size).min(channels);
                let best = members.max_by(|&a, &b| norm.gain[a].abs().total_cmp(&norm.gain[b].abs()));
                let Some(c) = best.filter(|&c| norm.gain[c] != 0.0 && scales[c] != 0.0) else { continue };
                let deviation = f64::from(norm.gain[c]) / f64::from(scales[c]);
                let mean = (f64::from(norm.bias[c]) - f64::from(shifts[c])) / f64::from(scales[c]);
                sum.mean += weight * mean;
                sum.square += weight * (deviation * deviation + mean * mean);
            }
        }
        Ok(())
    }

    /// Writes the merged statistics as scales and shifts.
    pub fn write<B: ImageBackend>(&self, backend: &mut B, norms: &[MeasuredNorm<B>], to: &[B::Norm]) {
        for ((norm, sums), to) in norms.iter().zip(&self.norms).zip(to) {
            let channels = norm.gain.len();
            let size = (channels / norm.groups as usize).max(1);
            let (mut scales, mut shifts) = (vec![0.0; channels], norm.bias.clone());
            for c in 0..channels {
                let Some(sum) = sums.get(c / size) else { continue };
                let mean = sum.mean / self.weight;
                let variance = sum.square / self.weight - mean * mean;
                if variance > 0.0 {
                    let scale = f64::from(norm.gain[c]) / variance.sqrt();
                    #[allow(clippy::cast_possible_truncation)] // rounded
                    let (scale, shift) = (scale as f32, (f64::from(norm.bias[c]) - mean * scale) as f32);
                    (scales[c], shifts[c]) = (scale, shift);
                }
            }
            backend.write_norm(to, &scales, &shifts);
        }
    }
}
