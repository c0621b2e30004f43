//! Image autoencoders, one file an architecture: weights out of named tensors, and a forward pass recorded
//! for one size.

mod autoencoder_kl;
mod config;
mod names;
mod parts;
mod prior;
mod scaling;
mod taesd;
mod tape;

use std::ops::Range;

use crate::error::{Error, Result};
use crate::graph::ImageBackend;

use autoencoder_kl::AutoencoderKl;
use taesd::Taesd;

pub use config::ImageConfig;
pub use names::Named;
pub use parts::{Checked, Loaded, Parts, check};
pub use prior::Prior;
pub use scaling::{LatentNorm, Scaling};
pub use tape::{Step, Tape};

/// Families there is a file for.
pub const IMAGE_ARCHITECTURES: [&str; 2] = ["TAESD", "AutoencoderKL"];
/// Channels of a picture.
const COLOURS: u32 = 3;
/// Positions a side of sampled latents, of a network whose trained size is not known.
pub const SAMPLE: u32 = 16;
/// Positions a side of sampled latents, at most.
pub const MAX_SAMPLE: u32 = 64;

/// A family of autoencoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Bohan's tiny autoencoders; diffusers' AutoencoderTiny.
    Taesd,
    /// diffusers' AutoencoderKL.
    Kl,
}

impl Family {
    /// Its name, of [`IMAGE_ARCHITECTURES`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Family::Taesd => IMAGE_ARCHITECTURES[0],
            Family::Kl => IMAGE_ARCHITECTURES[1],
        }
    }
}

/// Direction of an autoencoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Latents to a picture.
    Decoder,
    /// A picture to latents.
    Encoder,
}

/// A decoder or an encoder.
pub struct Autoencoder<W> {
    layers: Layers<W>,
    /// Which of them.
    pub direction: Direction,
    /// Channels that go in.
    pub inputs: u32,
    /// Channels that come out. An AutoencoderKL's encoder gives mean and log-variance: twice the latents'.
    pub outputs: u32,
    /// Channels of the latents.
    pub latents: u32,
    /// Pixels for each latent position and side.
    pub scale: u32,
    /// Pictures are -1 to 1 in the network, not 0 to 1.
    pub signed: bool,
}

enum Layers<W> {
    Taesd(Taesd<W>),
    Kl(Box<AutoencoderKl<W>>),
}

impl<W> Autoencoder<W> {
    /// Puts the network of this direction together, if the file has tensors of one.
    ///
    /// # Errors
    /// Missing or misshapen tensors; a config that contradicts them.
    pub fn new(parts: &mut Parts<'_, W>, direction: Direction, config: &ImageConfig) -> Result<Option<Self>> {
        if AutoencoderKl::<W>::is_in(parts.named(), direction) {
            let network = AutoencoderKl::new(parts, direction, config)?;
            let (inputs, outputs) = (network.inputs, network.outputs);
            let latents = if direction == Direction::Decoder { inputs } else { outputs / 2 };
            let scale = network.scale;
            let layers = Layers::Kl(Box::new(network));
            return Ok(Some(Autoencoder {
                layers,
                direction,
                inputs,
                outputs,
                latents,
                scale,
                signed: true,
            }));
        }
        let Some(place) = Taesd::<W>::find(parts.named(), direction) else { return Ok(None) };
        let network = Taesd::new(parts, place, direction, config)?;
        let (inputs, outputs, scale) = (network.inputs, network.outputs, network.scale);
        let latents = if direction == Direction::Decoder { inputs } else { outputs };
        Ok(Some(Autoencoder {
            layers: Layers::Taesd(network),
            direction,
            inputs,
            outputs,
            latents,
            scale,
            signed: false,
        }))
    }

    /// Its family.
    #[must_use]
    pub fn family(&self) -> Family {
        match self.layers {
            Layers::Taesd(_) => Family::Taesd,
            Layers::Kl(_) => Family::Kl,
        }
    }

    /// Whether a decoder and its encoder have the same of the layers that a model may lack, where the config does not
    /// say which it has.
    fn check_options(&self, encoder: &Self, config: &ImageConfig) -> Result<()> {
        let (Layers::Kl(decoder), Layers::Kl(encoder)) = (&self.layers, &encoder.layers) else {
            return Ok(());
        };
        let (decoder, encoder) = (decoder.options(), encoder.options());
        for ((key, in_decoder, name), (_, in_encoder, other)) in decoder.into_iter().zip(encoder) {
            if in_decoder != in_encoder && !config.has(key) {
                let tensor = if in_decoder { other } else { name };
                return Err(Error::MissingTensor { tensor: format!("{tensor}.weight") });
            }
        }
        Ok(())
    }

    /// Scale and shift that bring the network's pictures to 0 to 1.
    #[must_use]
    pub fn to_bytes(&self) -> (f32, f32) {
        if self.signed { (0.5, 0.5) } else { (1.0, 0.0) }
    }

    /// Number of the layers: what [`Autoencoder::forward`] can begin and end with. Only one picture goes from a layer
    /// to the next.
    #[must_use]
    pub fn count(&self) -> usize {
        match &self.layers {
            Layers::Taesd(network) => network.count(),
            Layers::Kl(network) => network.count(),
        }
    }

    /// Records some layers for one size of input.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward<B: ImageBackend<Weights = W>>(
        &self,
        tape: &mut Tape<'_, B>,
        input: &B::Image,
        layers: Range<usize>,
    ) -> Result<B::Image> {
        match &self.layers {
            Layers::Taesd(network) => network.forward(tape, input, layers),
            Layers::Kl(network) => network.forward(tape, input, layers),
        }
    }
}

/// The error for a range without layers.
fn no_layers() -> Error {
    Error::Internal { what: "a part of a network without layers".to_owned() }
}

/// The networks of one or more files.
pub struct Networks<W> {
    /// Latents to a picture.
    pub decoder: Option<Autoencoder<W>>,
    /// A picture to latents.
    pub encoder: Option<Autoencoder<W>>,
    /// How latents are distributed.
    pub prior: Option<Prior>,
    norm: Option<LatentNorm>,
}

impl<W> Default for Networks<W> {
    fn default() -> Self {
        Networks { decoder: None, encoder: None, prior: None, norm: None }
    }
}

impl<W> Networks<W> {
    /// Puts together what a file holds.
    ///
    /// # Errors
    /// Missing or misshapen tensors; a config that contradicts them.
    pub fn new(parts: &mut Parts<'_, W>, config: &ImageConfig) -> Result<Self> {
        let mut networks = Networks {
            decoder: Autoencoder::new(parts, Direction::Decoder, config)?,
            encoder: Autoencoder::new(parts, Direction::Encoder, config)?,
            prior: Prior::take(parts)?,
            norm: None,
        };
        if let Some(network) = networks.any() {
            networks.norm = LatentNorm::take(parts, network.latents)?;
        }
        Ok(networks)
    }

    /// Adds those of another file.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what both files have.
    pub fn add(&mut self, other: Self) -> Result<()> {
        fn one<T>(place: &mut Option<T>, other: Option<T>, what: &str) -> Result<()> {
            if place.is_some() && other.is_some() {
                return Err(Error::Malformed {
                    what: format!("two of the files have {what}: give one of them"),
                });
            }
            *place = place.take().or(other);
            Ok(())
        }
        one(&mut self.decoder, other.decoder, "a decoder")?;
        one(&mut self.encoder, other.encoder, "an encoder")?;
        one(&mut self.prior, other.prior, "a prior")?;
        one(&mut self.norm, other.norm, "statistics of latents")
    }

    fn any(&self) -> Option<&Autoencoder<W>> {
        self.decoder.as_ref().or(self.encoder.as_ref())
    }

    /// Checks that all parts belong together and to the config. Gives how a diffusion model's latents become the
    /// decoder's, if that is known.
    ///
    /// # Errors
    /// [`Error::UnsupportedModel`] if there is no network, and for a config of another model;
    /// [`Error::Malformed`] for parts that contradict each other.
    pub fn check(&self, config: &ImageConfig) -> Result<Option<Scaling>> {
        let Some(network) = self.any() else {
            return Err(Error::UnsupportedModel {
                what: format!(
                    "no tensors of an image autoencoder ({}): give its safetensors file",
                    IMAGE_ARCHITECTURES.join(", ")
                ),
            });
        };
        config.check(network.family())?;
        if let (Some(decoder), Some(encoder)) = (&self.decoder, &self.encoder) {
            let about = |network: &Autoencoder<W>| {
                let Autoencoder { latents, scale, .. } = network;
                format!("{} with {latents} channels of latents and scale {scale}", network.family().name())
            };
            let (one, two) = (about(decoder), about(encoder));
            if one != two {
                return Err(Error::Malformed {
                    what: format!("decoder and encoder do not belong together: {one}, and {two}"),
                });
            }
            decoder.check_options(encoder, config)?;
        }
        if config.is_flux2() && self.norm.is_none() {
            return Err(Error::MissingTensor { tensor: "bn.running_mean".to_owned() });
        }
        if let Some(prior) = &self.prior {
            let side = config.sample_size.map_or(SAMPLE, |size| (size / network.scale).clamp(1, MAX_SAMPLE));
            let wanted = network.latents as usize * (side * side) as usize;
            if prior.size != wanted {
                return Err(Error::ShapeMismatch {
                    what: format!(
                        "prior.mean, for latents of {} channels and {side} × {side}",
                        network.latents
                    ),
                    found: vec![prior.size as u64],
                    expected: vec![wanted as u64],
                });
            }
        }
        Scaling::new(config, network.family(), network.latents, self.norm.as_ref())
    }
}
