//! How a model's latents are distributed, as its file says.

use crate::error::{Error, Result};

use super::parts::Parts;

/// More values than the latents of any picture with such a prior have.
const MAX_SIZE: usize = 4096;

/// A Gaussian over the latents of one picture, of the file's `prior.mean` and `prior.cholesky`: mean + L·ε for
/// standard normals ε, over (channels, rows, columns).
pub struct Prior {
    mean: Vec<f32>,
    /// Row by row; lower triangle.
    cholesky: Vec<f32>,
    /// Values of a picture's latents.
    pub size: usize,
}

impl Prior {
    /// The prior, if the file has one.
    ///
    /// # Errors
    /// Missing or misshapen tensors.
    pub(super) fn take<W>(parts: &mut Parts<'_, W>) -> Result<Option<Self>> {
        if !parts.named().any("prior.") {
            return Ok(None);
        }
        let size = parts.shape("prior.mean")?.first().copied().unwrap_or(0);
        if size == 0 || size > MAX_SIZE {
            return Err(Error::UnsupportedModel {
                what: format!("a prior over {size} values (1 to {MAX_SIZE} are)"),
            });
        }
        let mean = parts.values("prior.mean", &[size])?;
        let cholesky = parts.values("prior.cholesky", &[size, size])?;
        Ok(Some(Prior { mean, cholesky, size }))
    }

    /// Latents made of as many standard normals.
    #[must_use]
    pub fn shape(&self, noise: &[f32]) -> Vec<f32> {
        let rows = self.cholesky.chunks_exact(self.size).zip(&self.mean);
        rows.map(|(row, mean)| mean + row.iter().zip(noise).map(|(l, e)| l * e).sum::<f32>()).collect()
    }
}
