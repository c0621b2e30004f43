//! One network, recorded for the size of the last call and kept.

use crate::error::{Error, Result};
use crate::model::image::{Autoencoder, Half, MeasuredNorm, Norms};
use crate::ops::{ImageBackend, ImageShape};

use super::tiles::{Cut, HALO};

/// Half a network recorded for one size.
pub(super) struct Recorded<B: ImageBackend> {
    pub shape: ImageShape,
    pub input: B::Image,
    pub output: B::Image,
    /// Only of what ends in a picture.
    pub pixels: Option<B::Pixels>,
    pub plan: B::Plan,
    pub norms: Vec<MeasuredNorm<B>>,
}

pub(super) struct Network<B: ImageBackend> {
    pub layers: Autoencoder<B>,
    pub whole: Option<Recorded<B>>,
    pub small: Option<Recorded<B>>,
    pub large: Option<Recorded<B>>,
    /// Bytes for each position of the input, of what was asked for so far.
    costs: Vec<(Half, u64)>,
}

/// How a picture of one size is computed.
pub(super) enum Layout {
    /// At once, by [`Network::whole`].
    Whole,
    /// By [`Network::small`], then by [`Network::large`] in rows and columns of tiles.
    Tiles(Cut, Cut),
}

pub(super) fn no_plan() -> Error {
    Error::Internal { what: "a network that was not recorded".to_owned() }
}

impl<B: ImageBackend> Network<B> {
    pub fn new(layers: Autoencoder<B>) -> Self {
        Network { layers, whole: None, small: None, large: None, costs: Vec::new() }
    }

    /// Records for a size. `to_bytes` is the scale and shift of the picture that comes out; `given` are the
    /// norms to apply instead of those that are measured.
    pub fn record(
        &self,
        backend: &mut B,
        shape: ImageShape,
        half: Half,
        to_bytes: Option<(f32, f32)>,
        given: Option<&[B::Norm]>,
    ) -> Result<Recorded<B>> {
        // What is left of earlier sizes goes first.
        drop(backend.finish());
        let mut norms = Norms::new(given);
        let recorded = self.try_record(backend, shape, half, to_bytes, &mut norms);
        // After an error too: what was recorded so far must not run with the next plan.
        let plan = backend.finish();
        let (input, output, pixels) = recorded?;
        Ok(Recorded { shape, input, output, pixels, plan, norms: norms.measured })
    }

    #[allow(clippy::type_complexity)] // the three pictures of `Recorded`
    fn try_record(
        &self,
        backend: &mut B,
        shape: ImageShape,
        half: Half,
        to_bytes: Option<(f32, f32)>,
        norms: &mut Norms<'_, B>,
    ) -> Result<(B::Image, B::Image, Option<B::Pixels>)> {
        let input = backend.image(shape)?;
        let output = self.layers.forward(backend, &input, half, norms)?;
        let pixels = match to_bytes {
            Some((scale, shift)) => Some(backend.pixels(&output, scale, shift)?),
            None => None,
        };
        Ok((input, output, pixels))
    }

    /// Records the whole network for a size, if it is not yet.
    pub fn whole(&mut self, backend: &mut B, shape: ImageShape, decoder: bool) -> Result<&Recorded<B>> {
        if self.whole.as_ref().is_none_or(|kept| kept.shape != shape) {
            // First of all the old memory: two sizes may not fit.
            self.forget();
            let to_bytes = decoder.then(|| self.layers.to_bytes());
            self.whole = Some(self.record(backend, shape, Half::Both, to_bytes, None)?);
        }
        self.whole.as_ref().ok_or_else(no_plan)
    }

    /// Records what a decode of this size needs to keep within `memory` bytes: the whole network, or its halves,
    /// the large one for tiles as large as fit.
    pub fn lay_out(&mut self, backend: &mut B, shape: ImageShape, memory: Option<u64>) -> Result<Layout> {
        let memory = memory.unwrap_or(u64::MAX);
        let mut too_large = Error::InvalidOption {
            option: "memory",
            value: format!("{memory} bytes"),
            range: "enough for the layers at the latents' resolution and one tile of the others",
        };
        let each = self.bytes_per_position(backend, Half::Both, shape.channels)?;
        if each.saturating_mul(shape.pixels()) <= memory {
            match self.whole(backend, shape, true) {
                Ok(_) => return Ok(Layout::Whole),
                Err(error @ Error::DeviceLimit { .. }) => too_large = error,
                Err(other) => return Err(other),
            }
        }
        if self.small.as_ref().is_none_or(|kept| kept.shape != shape) {
            self.forget();
            self.small = Some(self.record(backend, shape, Half::Small, None, None)?);
        }
        let channels = self.small.as_ref().map_or(0, |small| B::shape(&small.output).channels);
        let small = self.bytes_per_position(backend, Half::Small, shape.channels)?;
        let small = small.saturating_mul(shape.pixels());
        let each = self.bytes_per_position(backend, Half::Large, channels)?;
        let (mut tall, mut wide) = (1, 1);
        loop {
            let (rows, columns) = (Cut::new(shape.height, tall), Cut::new(shape.width, wide));
            if rows.size.max(columns.size) <= 3 * HALO && tall.max(wide) > 1 {
                return Err(too_large);
            }
            let tile = ImageShape { height: rows.size, width: columns.size, channels };
            if small.saturating_add(each.saturating_mul(tile.pixels())) <= memory {
                if self.large.as_ref().is_some_and(|kept| kept.shape == tile) {
                    return Ok(Layout::Tiles(rows, columns));
                }
                self.large = None;
                let to_bytes = Some(self.layers.to_bytes());
                match self.record(backend, tile, Half::Large, to_bytes, None) {
                    Ok(recorded) => {
                        self.large = Some(recorded);
                        return Ok(Layout::Tiles(rows, columns));
                    }
                    Err(error @ Error::DeviceLimit { .. }) => too_large = error,
                    Err(other) => return Err(other),
                }
            }
            if rows.size >= columns.size {
                tall += 1;
            } else {
                wide += 1;
            }
        }
    }

    /// Bytes that a network takes for each position of its input: all its pictures grow with them.
    fn bytes_per_position(&mut self, backend: &mut B, half: Half, channels: u32) -> Result<u64> {
        const SIDE: u32 = 16;
        if let Some((_, bytes)) = self.costs.iter().find(|(known, _)| *known == half) {
            return Ok(*bytes);
        }
        drop(backend.finish());
        let before = backend.allocated_bytes();
        let shape = ImageShape { height: SIDE, width: SIDE, channels };
        let recorded = self.record(backend, shape, half, None, None)?;
        let bytes = backend.allocated_bytes().saturating_sub(before);
        drop(recorded);
        drop(backend.finish());
        let bytes = bytes.div_ceil(u64::from(SIDE * SIDE));
        self.costs.push((half, bytes));
        Ok(bytes)
    }

    /// Forgets all sizes, and gives their memory back.
    fn forget(&mut self) {
        self.whole = None;
        self.small = None;
        self.large = None;
    }

    pub fn check(&self, input: ImageShape, enlarged: u32, most: u32) -> Result<()> {
        let sides = [input.height, input.width];
        let fits =
            sides.iter().all(|&side| side > 0 && u64::from(side) * u64::from(enlarged) <= u64::from(most));
        if fits && input.channels == self.layers.inputs {
            return Ok(());
        }
        Err(Error::InvalidOption {
            option: "shape",
            value: format!("{} channels, {} × {}", input.channels, input.height, input.width),
            range: "the model's channels, and pictures of at most 16384 pixels a side",
        })
    }
}

impl<B: ImageBackend> Recorded<B> {
    /// Runs it on new values.
    pub async fn run(&self, backend: &mut B, values: &[f32], cancelled: &dyn Fn() -> bool) -> Result<()> {
        backend.write(&self.input, values);
        backend.run(&self.plan, cancelled).await
    }

    /// The bytes that came out.
    pub async fn bytes(&self, backend: &mut B) -> Result<Vec<u8>> {
        match &self.pixels {
            Some(pixels) => backend.read_pixels(pixels).await,
            None => Err(Error::Internal { what: "a network that does not end in a picture".to_owned() }),
        }
    }
}
