//! The loops for pictures: latents → PIXELS and back. A network is recorded once for a size and kept.

use crate::error::{Error, Result};
use crate::model::image::{Autoencoder, Direction, unknown};
use crate::ops::{ImageBackend, ImageShape};
use crate::weights::{ByteSource, FloatTensors};

/// Sides of a picture, in pixels, at most: 16384² floats of 8 channels are far beyond any device.
const MAX_SIDE: u32 = 16_384;

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

/// A network recorded for one size.
struct Sized<B: ImageBackend> {
    shape: ImageShape,
    input: B::Image,
    output: B::Image,
    plan: B::Plan,
}

struct Network<B: ImageBackend> {
    layers: Autoencoder<B>,
    /// For the size of the last call.
    sized: Option<Sized<B>>,
}

/// An image autoencoder: decoder, encoder or both.
pub struct ImageModel<B: ImageBackend> {
    backend: B,
    decoder: Option<Network<B>>,
    encoder: Option<Network<B>>,
}

impl<B: ImageBackend> ImageModel<B> {
    /// Loads what the files hold: one file with both networks, or one each.
    ///
    /// # Errors
    /// [`Error::UnsupportedModel`] if no file has a network that is known; what is wrong with a file, the
    /// source or the device.
    pub async fn load(mut backend: B, sources: &mut [Box<dyn ByteSource>]) -> Result<Self> {
        let (mut decoder, mut encoder) = (None, None);
        for source in sources {
            let tensors = FloatTensors::read(source.as_mut()).await?;
            for (direction, place) in [(Direction::Decoder, &mut decoder), (Direction::Encoder, &mut encoder)]
            {
                let source = source.as_mut();
                if let Some(layers) = Autoencoder::load(&mut backend, &tensors, source, direction).await? {
                    *place = Some(Network { layers, sized: None });
                }
            }
        }
        if decoder.is_none() && encoder.is_none() {
            return Err(unknown());
        }
        Ok(ImageModel { backend, decoder, encoder })
    }

    /// Channels of the latents.
    #[must_use]
    pub fn latent_channels(&self) -> u32 {
        self.decoder.as_ref().or(self.encoder.as_ref()).map_or(0, |network| network.layers.latents)
    }

    /// Pixels for each latent position and side.
    #[must_use]
    pub fn scale(&self) -> u32 {
        self.decoder.as_ref().or(self.encoder.as_ref()).map_or(1, |network| network.layers.scale)
    }

    /// Kernel launches of the last decode.
    #[must_use]
    pub fn decode_dispatches(&self) -> u64 {
        let sized = self.decoder.as_ref().and_then(|network| network.sized.as_ref());
        sized.map_or(0, |sized| B::dispatches(&sized.plan))
    }

    /// The backend.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Latents to the decoder's own output, (height, width, 3) floats around 0 to 1, not clamped.
    ///
    /// # Errors
    /// As for [`ImageModel::decode`].
    pub async fn decode_floats(
        &mut self,
        latents: &Latents,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<f32>> {
        latents.check()?;
        let network = self.decoder.as_mut().ok_or_else(|| missing("decoder"))?;
        let shape = ImageShape { height: latents.height, width: latents.width, channels: latents.channels };
        network.check(shape, network.layers.scale)?;
        network.run(&mut self.backend, shape, &latents.interleaved(), cancelled).await
    }

    /// Latents to a picture.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for latents that are not finite or of another number of channels;
    /// [`Error::Aborted`]; out of memory, device lost.
    pub async fn decode(&mut self, latents: &Latents, cancelled: &dyn Fn() -> bool) -> Result<Picture> {
        let values = self.decode_floats(latents, cancelled).await?;
        let scale = self.scale();
        let rgba = values.chunks_exact(3).flat_map(|pixel| {
            let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8);
            [r, g, b, 255]
        });
        Ok(Picture { width: latents.width * scale, height: latents.height * scale, rgba: rgba.collect() })
    }

    /// A picture to latents. Its sides must be multiples of [`ImageModel::scale`]; alpha is not looked at.
    ///
    /// # Errors
    /// As for [`ImageModel::decode`].
    pub async fn encode(&mut self, picture: &Picture, cancelled: &dyn Fn() -> bool) -> Result<Latents> {
        let values: Vec<f32> = picture
            .rgba
            .as_chunks::<4>()
            .0
            .iter()
            .flat_map(|p| [p[0], p[1], p[2]])
            .map(|v| f32::from(v) / 255.0)
            .collect();
        self.encode_floats(picture.height, picture.width, &values, cancelled).await
    }

    /// (height, width, 3) floats of 0 to 1 to latents.
    ///
    /// # Errors
    /// As for [`ImageModel::encode`].
    pub async fn encode_floats(
        &mut self,
        height: u32,
        width: u32,
        values: &[f32],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Latents> {
        let network = self.encoder.as_mut().ok_or_else(|| missing("encoder"))?;
        let scale = network.layers.scale;
        let shape = ImageShape { height, width, channels: 3 };
        network.check(shape, 1)?;
        let fits = height.is_multiple_of(scale) && width.is_multiple_of(scale);
        if !fits || values.len() as u64 != shape.pixels() * 3 {
            return Err(Error::InvalidOption {
                option: "image",
                value: format!("{width} × {height} pixels, {} values", values.len()),
                range: "sides that are multiples of the model's scale, three values a pixel",
            });
        }
        let flat = network.run(&mut self.backend, shape, values, cancelled).await?;
        let channels = network.layers.outputs;
        Ok(Latents::from_interleaved(channels, height / scale, width / scale, &flat))
    }
}

fn missing(what: &'static str) -> Error {
    Error::UnsupportedModel { what: format!("no {what}: the file holds only the other half") }
}

impl<B: ImageBackend> Network<B> {
    fn check(&self, input: ImageShape, enlarged: u32) -> Result<()> {
        let sides = [input.height, input.width];
        let fits = sides
            .iter()
            .all(|&side| side > 0 && u64::from(side) * u64::from(enlarged) <= u64::from(MAX_SIDE));
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

impl<B: ImageBackend> Network<B> {
    async fn run(
        &mut self,
        backend: &mut B,
        shape: ImageShape,
        values: &[f32],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<f32>> {
        if self.sized.as_ref().is_none_or(|sized| sized.shape != shape) {
            // First of all the old memory: two sizes may not fit.
            self.sized = None;
            let input = backend.image(shape)?;
            let output = self.layers.forward(backend, &input)?;
            let plan = backend.finish();
            self.sized = Some(Sized { shape, input, output, plan });
        }
        let Some(sized) = &self.sized else { return Ok(Vec::new()) };
        backend.write(&sized.input, values);
        backend.run(&sized.plan, cancelled).await?;
        backend.read(&sized.output).await
    }
}

impl Latents {
    fn check(&self) -> Result<()> {
        let count = u64::from(self.channels) * u64::from(self.height) * u64::from(self.width);
        let bad = |value: String| {
            Err(Error::InvalidOption {
                option: "latents",
                value,
                range: "finite values, as many as the shape says",
            })
        };
        if count != self.values.len() as u64 {
            return bad(format!("{} values for a shape of {count}", self.values.len()));
        }
        match self.values.iter().position(|v| !v.is_finite()) {
            Some(at) => bad(format!("{} at {at}", self.values[at])),
            None => Ok(()),
        }
    }

    /// (height, width, channels).
    fn interleaved(&self) -> Vec<f32> {
        let pixels = self.height as usize * self.width as usize;
        (0..pixels).flat_map(|p| self.values.iter().skip(p).step_by(pixels.max(1)).copied()).collect()
    }

    fn from_interleaved(channels: u32, height: u32, width: u32, values: &[f32]) -> Self {
        let count = channels as usize;
        let planes = (0..count).flat_map(|c| values.iter().skip(c).step_by(count).copied());
        Latents { channels, height, width, values: planes.collect() }
    }
}
