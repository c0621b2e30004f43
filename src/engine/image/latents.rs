//! What goes into a decoder and comes out of an encoder.

use std::f64::consts::TAU;

use crate::error::{Error, Result};
use crate::sampling::draw::uniform_random;

/// A picture, 8 bits a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// (height, width, 4): red, green, blue, and an opaque alpha; as a canvas has them.
    pub rgba: Vec<u8>,
}

/// Latents, channels outermost as files and PyTorch have them.
#[derive(Debug, Clone, PartialEq)]
pub struct Latents {
    /// Channels.
    pub channels: u32,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// (channels, height, width).
    pub values: Vec<f32>,
}

/// Number `index` of the standard normals of a seed. Box and Muller, 1958.
#[allow(clippy::cast_possible_truncation)] // a normal number is of modest size
pub(super) fn normal(seed: u64, index: u32) -> f32 {
    let pair = index & !1;
    // Away from 0, whose logarithm is not finite.
    let radius = (-2.0 * (1.0 - f64::from(uniform_random(seed, pair))).ln()).sqrt();
    let angle = TAU * f64::from(uniform_random(seed, pair + 1));
    (radius * if index == pair { angle.cos() } else { angle.sin() }) as f32
}

impl Latents {
    /// Standard normals of a seed.
    #[must_use]
    pub fn normal(channels: u32, height: u32, width: u32, seed: u64) -> Self {
        let values = (0..channels * height * width).map(|i| normal(seed, i)).collect();
        Latents { channels, height, width, values }
    }

    /// # Errors
    /// [`Error::InvalidOption`] for values that are not finite or not as many as the shape says.
    pub(super) fn check(&self) -> Result<()> {
        // Three 32-bit numbers, whose product may have 96 bits.
        let count = [self.channels, self.height, self.width].map(u128::from).iter().product::<u128>();
        let bad = |value: String| {
            Err(Error::InvalidOption {
                option: "latents",
                value,
                range: "finite values, as many as the shape says".into(),
            })
        };
        if count != self.values.len() as u128 {
            return bad(format!("{} values for a shape of {count}", self.values.len()));
        }
        match self.values.iter().position(|v| !v.is_finite()) {
            Some(at) => bad(format!("{} at {at}", self.values[at])),
            None => Ok(()),
        }
    }

    /// (height, width, channels).
    pub(super) fn interleaved(&self) -> Vec<f32> {
        let pixels = self.height as usize * self.width as usize;
        (0..pixels).flat_map(|p| self.values.iter().skip(p).step_by(pixels.max(1)).copied()).collect()
    }

    pub(super) fn from_interleaved(channels: u32, height: u32, width: u32, values: &[f32]) -> Self {
        let count = channels as usize;
        let planes = (0..count).flat_map(|c| values.iter().skip(c).step_by(count).copied());
        Latents { channels, height, width, values: planes.collect() }
    }

    /// The means of squares of `side` × `side` positions, for a coarse preview.
    pub(super) fn shrunk(&self, side: u32) -> Latents {
        let (height, width) = (self.height.div_ceil(side), self.width.div_ceil(side));
        let mut values = Vec::with_capacity((self.channels * height * width) as usize);
        for plane in self.values.chunks_exact((self.height * self.width) as usize) {
            for y in 0..height {
                for x in 0..width {
                    let rows = y * side..((y + 1) * side).min(self.height);
                    let columns = x * side..((x + 1) * side).min(self.width);
                    let count = (rows.len() * columns.len()) as f32;
                    let sum: f32 = rows
                        .flat_map(|row| columns.clone().map(move |column| (row, column)))
                        .map(|(row, column)| plane[(row * self.width + column) as usize])
                        .sum();
                    values.push(sum / count);
                }
            }
        }
        Latents { channels: self.channels, height, width, values }
    }
}
