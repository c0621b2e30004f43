//! Image autoencoders, one file an architecture: weights out of named tensors, and a forward pass recorded
//! for one size.

mod autoencoder_kl;
mod config;
mod parts;
mod taesd;

use crate::error::{Error, Result};
use crate::ops::ImageBackend;

use autoencoder_kl::AutoencoderKl;
use taesd::Taesd;

pub use config::ImageConfig;
pub use parts::{Parts, wanted_bytes};

/// Families there is a file for.
pub const IMAGE_ARCHITECTURES: [&str; 2] = ["TAESD", "AutoencoderKL"];

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Latents to a picture.
    Decoder,
    /// A picture to latents.
    Encoder,
}

/// How much of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Half {
    /// All of it.
    Both,
    /// The layers that work on as many positions as the latents have: first in a decoder, last in an encoder. All
    /// attention is among them.
    Small,
    /// The rest: it only ever looks at neighbours, but for norms, whose statistics can be given.
    Large,
}

/// A norm that was recorded: where its scales and shifts are, and what they are made of.
pub struct MeasuredNorm<B: ImageBackend> {
    /// Scales and shifts of the last run.
    pub norm: B::Norm,
    /// A gain for each channel.
    pub gain: Vec<f32>,
    /// A bias for each channel.
    pub bias: Vec<f32>,
    /// Groups of channels.
    pub groups: u32,
}

/// The norms of a network in the order in which they are recorded.
pub struct Norms<'a, B: ImageBackend> {
    /// Instead of what is measured.
    given: Option<&'a [B::Norm]>,
    /// What is measured.
    pub measured: Vec<MeasuredNorm<B>>,
}

impl<'a, B: ImageBackend> Norms<'a, B> {
    /// Each norm is applied as measured, or as `given`; it is measured all the same.
    #[must_use]
    pub fn new(given: Option<&'a [B::Norm]>) -> Self {
        Norms { given, measured: Vec::new() }
    }

    /// Notes what was measured; gives what to apply.
    fn choose(&mut self, measured: MeasuredNorm<B>) -> B::Norm {
        let given = self.given.and_then(|given| given.get(self.measured.len()));
        let norm = given.unwrap_or(&measured.norm).clone();
        self.measured.push(measured);
        norm
    }
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

    /// Records the network, or half of it, for one size of input.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward(
        &self,
        backend: &mut B,
        input: &B::Image,
        half: Half,
        norms: &mut Norms<'_, B>,
    ) -> Result<B::Image> {
        match &self.layers {
            Layers::Taesd(network) => network.forward(backend, input, half),
            Layers::Kl(network) => network.forward(backend, input, half, norms),
        }
    }
}

/// The error for a file that has none of them.
#[must_use]
pub fn unknown() -> Error {
    Error::UnsupportedModel {
        what: format!("image tensors of no family that is known ({})", IMAGE_ARCHITECTURES.join(", ")),
    }
}
