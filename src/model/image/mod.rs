//! Image autoencoders, one file an architecture: weights out of named tensors, and a forward pass recorded
//! for one size.

mod autoencoder_kl;
mod config;
mod parts;
mod taesd;
mod tape;

use std::ops::Range;

use crate::error::{Error, Result};
use crate::ops::ImageBackend;

use autoencoder_kl::AutoencoderKl;
use taesd::Taesd;

pub use config::ImageConfig;
pub use parts::{Parts, wanted_bytes};
pub use tape::{Step, Tape};

/// Families there is a file for.
pub const IMAGE_ARCHITECTURES: [&str; 2] = ["TAESD", "AutoencoderKL"];

/// Direction of an autoencoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Latents to a picture.
    Decoder,
    /// A picture to latents.
    Encoder,
}

/// A decoder or an encoder.
pub struct Autoencoder<B: ImageBackend> {
    layers: Layers<B>,
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

enum Layers<B: ImageBackend> {
    Taesd(Taesd<B>),
    Kl(Box<AutoencoderKl<B>>),
}

impl<B: ImageBackend> Autoencoder<B> {
    /// Puts the network of this direction together, if the file has one of a family that is known.
    ///
    /// # Errors
    /// Missing or misshapen tensors.
    pub fn new(parts: &mut Parts<B>, direction: Direction, config: &ImageConfig) -> Result<Option<Self>> {
        if AutoencoderKl::<B>::is_in(parts.tensors(), direction) {
            let network = AutoencoderKl::new(parts, direction, config.norm_num_groups)?;
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
        let Some(prefix) = Taesd::<B>::find(parts.tensors(), direction) else { return Ok(None) };
        let network = Taesd::new(parts, prefix, direction)?;
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

    /// The family's name, of [`IMAGE_ARCHITECTURES`].
    #[must_use]
    pub fn family(&self) -> &'static str {
        match self.layers {
            Layers::Taesd(_) => IMAGE_ARCHITECTURES[0],
            Layers::Kl(_) => IMAGE_ARCHITECTURES[1],
        }
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
    pub fn forward(
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

/// The error for a file that has none of them.
#[must_use]
pub fn unknown() -> Error {
    Error::UnsupportedModel {
        what: format!("image tensors of no family that is known ({})", IMAGE_ARCHITECTURES.join(", ")),
    }
}
