//! One network, recorded for the size of the last call and kept.

use std::rc::Rc;

use crate::error::{Error, Result};
use crate::model::image::{Autoencoder, Direction, Half, MeasuredNorm, Norms};
use crate::ops::{ImageBackend, ImageShape};

use super::tiles::{Cut, HALO};

/// Bytes for each pixel of a picture that is put together of tiles: sums, and the bytes made of them.
const JOINED_BYTES: u64 = 12;

/// A network, or half of it, recorded for one size.
pub(super) struct Recorded<B: ImageBackend> {
    pub shape: ImageShape,
    pub input: B::Image,
    pub output: B::Image,
    /// Only of what ends in a picture.
    pub pixels: Option<Rc<B::Pixels>>,
    pub plan: B::Plan,
    pub norms: Vec<MeasuredNorm<B>>,
}

pub(super) struct Network<B: ImageBackend> {
    pub layers: Autoencoder<B::Weights>,
    pub whole: Option<Recorded<B>>,
    pub small: Option<Recorded<B>>,
    pub large: Option<Recorded<B>>,
    /// Bytes for each latent position, and channels that come out, of what was asked for so far.
    costs: Vec<(Half, u64, u32)>,
}

/// How a picture of one size is computed.
pub(super) enum Layout {
    /// At once, by [`Network::whole`].
    Whole,
    /// By [`Network::small`] at once and by [`Network::large`] in rows and columns of tiles.
    Tiles(Cut, Cut),
}

pub(super) fn no_plan() -> Error {
    Error::Internal { what: "a network that was not recorded".to_owned() }
}

impl<B: ImageBackend> Network<B> {
    pub fn new(layers: Autoencoder<B::Weights>) -> Self {
        Network { layers, whole: None, small: None, large: None, costs: Vec::new() }
    }

    fn is_decoder(&self) -> bool {
        self.layers.direction == Direction::Decoder
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
        Ok(Recorded { shape, input, output, pixels: pixels.map(Rc::new), plan, norms: norms.measured })
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
    pub fn whole(&mut self, backend: &mut B, shape: ImageShape) -> Result<&Recorded<B>> {
        if self.whole.as_ref().is_none_or(|kept| kept.shape != shape) {
            // First of all the old memory: two sizes may not fit.
            self.forget();
            let to_bytes = self.is_decoder().then(|| self.layers.to_bytes());
            self.whole = Some(self.record(backend, shape, Half::Both, to_bytes, None)?);
        }
        self.whole.as_ref().ok_or_else(no_plan)
    }

    /// Records what is needed to compute so many rows and columns of latent positions within `memory` bytes: the
    /// whole network, or its halves, the large one for tiles as large as fit.
    pub fn lay_out(&mut self, backend: &mut B, size: (u32, u32), memory: Option<u64>) -> Result<Layout> {
        let memory = memory.unwrap_or(u64::MAX);
        let positions = u64::from(size.0) * u64::from(size.1);
        let mut too_large = Error::InvalidOption {
            option: "memory",
            value: format!("{memory} bytes"),
            range: "enough for the layers at the latents' resolution and one tile of the others",
        };
        let (each, _) = self.cost(backend, Half::Both)?;
        if each.saturating_mul(positions) <= memory {
            let shape = self.input(backend, Half::Both, size)?;
            match self.whole(backend, shape) {
                Ok(_) => return Ok(Layout::Whole),
                Err(error @ Error::DeviceLimit { .. }) => too_large = error,
                Err(other) => return Err(other),
            }
        }
        let (small, _) = self.cost(backend, Half::Small)?;
        let (each, _) = self.cost(backend, Half::Large)?;
        let shape = self.input(backend, Half::Small, size)?;
        if self.small.as_ref().is_none_or(|kept| kept.shape != shape) {
            self.forget();
            self.small = Some(self.record(backend, shape, Half::Small, None, None)?);
        }
        let pixels = positions.saturating_mul(u64::from(self.layers.scale).pow(2));
        let joined = if self.is_decoder() { pixels.saturating_mul(JOINED_BYTES) } else { 0 };
        let fixed = small.saturating_mul(positions).saturating_add(joined);
        let (mut tall, mut wide) = (1, 1);
        loop {
            let (rows, columns) = (Cut::new(size.0, tall), Cut::new(size.1, wide));
            if rows.size.max(columns.size) <= 3 * HALO && tall.max(wide) > 1 {
                return Err(too_large);
            }
            let positions = u64::from(rows.size) * u64::from(columns.size);
            if fixed.saturating_add(each.saturating_mul(positions)) <= memory {
                let tile = self.input(backend, Half::Large, (rows.size, columns.size))?;
                if self.large.as_ref().is_some_and(|kept| kept.shape == tile) {
                    return Ok(Layout::Tiles(rows, columns));
                }
                self.large = None;
                match self.record(backend, tile, Half::Large, None, None) {
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

    /// What goes into a half for so many rows and columns of latent positions.
    fn input(&mut self, backend: &mut B, half: Half, (rows, columns): (u32, u32)) -> Result<ImageShape> {
        let (decoder, scale) = (self.is_decoder(), self.layers.scale);
        let side = if decoder || half == Half::Small { 1 } else { scale };
        // What the other half leaves, where it comes first.
        let channels = match (half, decoder) {
            (Half::Large, true) => self.cost(backend, Half::Small)?.1,
            (Half::Small, false) => self.cost(backend, Half::Large)?.1,
            _ => self.layers.inputs,
        };
        Ok(ImageShape { height: rows * side, width: columns * side, channels })
    }

    /// Bytes that a network takes for each latent position: all its pictures grow with them. And its output's
    /// channels.
    fn cost(&mut self, backend: &mut B, half: Half) -> Result<(u64, u32)> {
        const SIDE: u32 = 16;
        if let Some((_, bytes, channels)) = self.costs.iter().find(|(known, ..)| *known == half) {
            return Ok((*bytes, *channels));
        }
        let shape = self.input(backend, half, (SIDE, SIDE))?;
        drop(backend.finish());
        let before = backend.allocated_bytes();
        let recorded = self.record(backend, shape, half, None, None)?;
        let bytes = backend.allocated_bytes().saturating_sub(before).div_ceil(u64::from(SIDE * SIDE));
        let channels = B::shape(&recorded.output).channels;
        drop(recorded);
        drop(backend.finish());
        self.costs.push((half, bytes, channels));
        Ok((bytes, channels))
    }

    /// Forgets all sizes, and gives their memory back.
    fn forget(&mut self) {
        self.whole = None;
        self.small = None;
        self.large = None;
    }

    /// Also forgets what they cost: pictures are stored in another way from now on.
    pub fn reset(&mut self) {
        self.forget();
        self.costs.clear();
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

    /// The picture that came out.
    pub fn pixels(&self) -> Result<Rc<B::Pixels>> {
        let none = || Error::Internal { what: "a network that does not end in a picture".to_owned() };
        self.pixels.clone().ok_or_else(none)
    }
}
