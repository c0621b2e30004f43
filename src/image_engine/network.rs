//! One network, recorded for the size of the last call and kept.

use crate::error::{Error, Result};
use crate::model::image::{Autoencoder, Half, MeasuredNorm, Norms};
use crate::ops::{ImageBackend, ImageShape};

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
}

impl<B: ImageBackend> Network<B> {
    pub fn new(layers: Autoencoder<B>) -> Self {
        Network { layers, whole: None, small: None, large: None }
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

    /// Bytes that a network takes for each position of its input: all its pictures grow with them.
    pub fn bytes_per_position(&self, backend: &mut B, channels: u32, half: Half) -> Result<u64> {
        const SIDE: u32 = 16;
        drop(backend.finish());
        let before = backend.allocated_bytes();
        let shape = ImageShape { height: SIDE, width: SIDE, channels };
        let recorded = self.record(backend, shape, half, None, None)?;
        let bytes = backend.allocated_bytes().saturating_sub(before);
        drop(recorded);
        drop(backend.finish());
        Ok(bytes.div_ceil(u64::from(SIDE * SIDE)))
    }

    /// Forgets all sizes, and gives their memory back.
    pub fn forget(&mut self) {
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
