//! How a model's latents are distributed, as its file says.

use crate::error::{Error, Result};
use crate::model::image::Parts;
use crate::ops::ImageBackend;

/// A Gaussian over the latents of one picture, of the file's `prior.mean` and `prior.cholesky`: mean + L·ε for
/// standard normals ε, over (channels, rows, columns).
pub(super) struct Prior {
    pub mean: Vec<f32>,
    /// Row by row; lower triangle.
    pub cholesky: Vec<f32>,
}

impl Prior {
    /// The prior, if the file has one.
    pub fn take<B: ImageBackend>(parts: &mut Parts<B>) -> Result<Option<Self>> {
        let tensors = parts.tensors();
        let (Some(mean), Some(cholesky)) = (tensors.find("prior.mean"), tensors.find("prior.cholesky"))
        else {
            return Ok(None);
        };
        let size = mean.shape.first().copied().unwrap_or(0);
        if mean.shape != [size] || cholesky.shape != [size, size] || size > 4096 {
            let wide = |shape: &[usize]| shape.iter().map(|&d| d as u64).collect();
            let (found, expected) = (wide(&cholesky.shape), wide(&[size, size]));
            return Err(Error::ShapeMismatch { what: "prior".to_owned(), found, expected });
        }
        let (mean, cholesky) = (parts.take("prior.mean"), parts.take("prior.cholesky"));
        Ok(mean.zip(cholesky).map(|(mean, cholesky)| Prior { mean, cholesky }))
    }
}
