//! The loops for pictures: latents → PIXELS and back. A network is recorded once for a size and kept.

// A number of a file may have 64 bits, and `usize` has 32 in a browser. Tests run natively.
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

mod latents;
mod network;
mod prior;
mod statistics;
mod tiled;
mod tiles;

use std::rc::Rc;

use crate::error::{Error, Result};
use crate::model::Progress;
use crate::model::image::{Autoencoder, Direction, Half, ImageConfig, Parts, unknown, wanted_bytes};
use crate::ops::{ImageBackend, ImageShape, Precision};
use crate::weights::{ByteSource, FloatTensors, read_growing};

pub use latents::{Latents, Picture};
use network::{Layout, Network, no_plan};
use prior::Prior;
use tiled::Tiled;

/// Sides of a picture, in pixels, at most: 16384² floats of 8 channels are far beyond any device.
const MAX_SIDE: u32 = 16_384;
/// Positions of the latents along the longer side of a preview.
const PREVIEW: u32 = 16;
/// A network without a trained size is sampled at so many positions a side.
const SAMPLE: u32 = 16;

/// How to decode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Bytes that the pictures inside the network may take; larger ones are computed in tiles. `None` for
    /// all that the device gives.
    pub memory: Option<u64>,
    /// The latents are a diffusion model's, so that the config's scaling and shift are undone first.
    pub scaled: bool,
    /// Report a coarse picture first, of latents that are too large to be quick.
    pub preview: bool,
}

/// What a decode reports on its way.
#[derive(Debug)]
pub enum DecodeEvent<'a> {
    /// A coarse picture, smaller than the one to come.
    Preview(&'a Picture),
    /// Tiles done, and of how many; a network with norms runs each several times.
    Tile(u32, u32),
}

/// What an encoder gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoding {
    /// The latents, or their mean.
    pub mean: Latents,
    /// Of an AutoencoderKL: the logarithm of the latents' variance.
    pub log_variance: Option<Latents>,
}

impl Encoding {
    /// Latents drawn from the Gaussian that the encoder gave; the mean where it gives none. diffusers'
    /// `DiagonalGaussianDistribution.sample`, with its bounds.
    #[must_use]
    pub fn sample(&self, seed: u64) -> Latents {
        let mut drawn = self.mean.clone();
        if let Some(log_variance) = &self.log_variance {
            for (i, (value, log)) in (0..).zip(drawn.values.iter_mut().zip(&log_variance.values)) {
                *value += (0.5 * log.clamp(-30.0, 20.0)).exp() * latents::normal(seed, i);
            }
        }
        drawn
    }
}

/// An image autoencoder: decoder, encoder or both.
pub struct ImageModel<B: ImageBackend> {
    backend: B,
    decoder: Option<Network<B>>,
    encoder: Option<Network<B>>,
    config: ImageConfig,
    prior: Option<Prior>,
    weight_bytes: u64,
    dispatches: u64,
}

impl<B: ImageBackend> ImageModel<B> {
    /// Loads what the files hold: one file with both networks, or one each; and a `config.json`, told by its
    /// name, where there is one. Each file is read once from its start to its end. An error of `progress` ends
    /// the loading.
    ///
    /// # Errors
    /// [`Error::UnsupportedModel`] if no file has a network that is known; what is wrong with a file, the
    /// source or the device.
    pub async fn load(
        mut backend: B,
        sources: &mut [Box<dyn ByteSource>],
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<Self> {
        let before = backend.allocated_bytes();
        let mut config = None;
        let mut files = Vec::new();
        for source in &mut *sources {
            if ImageConfig::is_named(source.name()) {
                config = Some(read_config(source.as_mut()).await?);
            } else {
                files.push((FloatTensors::read(source.as_mut()).await?, source));
            }
        }
        if config.is_none() {
            let note = files.iter().find_map(|(tensors, _)| tensors.config());
            config = note.map(ImageConfig::parse).transpose()?;
        }
        let config = config.unwrap_or_default();
        let total_bytes = files.iter().map(|(tensors, _)| wanted_bytes(tensors)).sum();
        let mut loaded_bytes = 0;
        progress(Progress { loaded_bytes, total_bytes })?;
        let (mut decoder, mut encoder, mut prior) = (None, None, None);
        for (tensors, source) in files {
            let mut read = |bytes| {
                loaded_bytes += bytes;
                progress(Progress { loaded_bytes, total_bytes })
            };
            let mut parts = Parts::read(&mut backend, tensors, source.as_mut(), &mut read).await?;
            for (direction, place) in [(Direction::Decoder, &mut decoder), (Direction::Encoder, &mut encoder)]
            {
                if let Some(layers) = Autoencoder::new(&mut parts, direction, &config)? {
                    *place = Some(Network::new(layers));
                }
            }
            if let Some(found) = Prior::take(&mut parts)? {
                prior = Some(found);
            }
        }
        if decoder.is_none() && encoder.is_none() {
            return Err(unknown());
        }
        let weight_bytes = backend.allocated_bytes().saturating_sub(before);
        let model = ImageModel { backend, decoder, encoder, config, prior, weight_bytes, dispatches: 0 };
        if let (Some(decoder), Some(encoder)) = (&model.decoder, &model.encoder)
            && (decoder.layers.latents, decoder.layers.scale)
                != (encoder.layers.latents, encoder.layers.scale)
        {
            return Err(Error::UnsupportedModel {
                what: "an encoder and a decoder that do not belong together".to_owned(),
            });
        }
        Ok(model)
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

    /// Whether it decodes, and whether it encodes.
    #[must_use]
    pub fn directions(&self) -> (bool, bool) {
        (self.decoder.is_some(), self.encoder.is_some())
    }

    /// The family's name.
    #[must_use]
    pub fn architecture(&self) -> &'static str {
        self.decoder.as_ref().or(self.encoder.as_ref()).map_or("", |network| network.layers.family())
    }

    /// What the config says.
    #[must_use]
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Bytes of the weights as the backend holds them.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Kernel launches of the last decode, tiles and all, without its preview.
    #[must_use]
    pub fn decode_dispatches(&self) -> u64 {
        self.dispatches
    }

    /// The backend.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Gives the backend back; the weights and all sizes are freed.
    #[must_use]
    pub fn into_backend(self) -> B {
        self.backend
    }

    /// Whether [`ImageModel::sample`] knows how latents are distributed.
    #[must_use]
    pub fn has_prior(&self) -> bool {
        self.prior.is_some()
    }

    /// Latents drawn for a picture of the size that the model was trained on: from the file's prior, or
    /// standard normals brought back by the config's scaling. `spread` multiplies the noise: 0 for the mean.
    #[must_use]
    pub fn sample(&self, seed: u64, spread: f32) -> Latents {
        let trained = self.config.sample_size.map(|size| (size / self.scale()).clamp(1, 64));
        let side = trained.unwrap_or(SAMPLE);
        let mut latents = Latents::normal(self.latent_channels(), side, side, seed);
        latents.values.iter_mut().for_each(|v| *v *= spread);
        match &self.prior {
            Some(prior) if prior.mean.len() == latents.values.len() => {
                let noise = std::mem::take(&mut latents.values);
                let rows = prior.cholesky.chunks_exact(noise.len()).zip(&prior.mean);
                latents.values = rows
                    .map(|(row, mean)| mean + row.iter().zip(&noise).map(|(l, e)| l * e).sum::<f32>())
                    .collect();
                latents
            }
            _ => self.unscaled(&latents),
        }
    }

    /// A diffusion model's latents as the decoder wants them: z / scaling + shift.
    fn unscaled(&self, latents: &Latents) -> Latents {
        let scaling = self.config.scaling_factor.unwrap_or(1.0);
        let shift = self.config.shift_factor.unwrap_or(0.0);
        let values = latents.values.iter().map(|v| v / scaling + shift).collect();
        Latents { values, ..*latents }
    }

    /// How pictures inside the network are stored: as asked for, or f32 once a value did not fit.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.backend.precision()
    }

    /// Whether what was computed has to be computed again, with pictures that hold every value.
    async fn widened(&mut self) -> Result<bool> {
        if !self.backend.overflowed().await? {
            return Ok(false);
        }
        self.backend.widen();
        [&mut self.decoder, &mut self.encoder].into_iter().flatten().for_each(Network::reset);
        Ok(true)
    }

    /// Latents to the decoder's own output, (height, width, 3) floats, not clamped: around 0 to 1 for the TAESD
    /// family, around -1 to 1 for an AutoencoderKL.
    ///
    /// # Errors
    /// As for [`ImageModel::decode`].
    pub async fn decode_floats(
        &mut self,
        latents: &Latents,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<f32>> {
        latents.check()?;
        loop {
            let network = self.decoder.as_mut().ok_or_else(|| missing("decoder"))?;
            let shape = shape_of(latents);
            network.check(shape, network.layers.scale, MAX_SIDE)?;
            let recorded = network.whole(&mut self.backend, shape)?;
            recorded.run(&mut self.backend, &latents.interleaved(), cancelled).await?;
            let values = self.backend.read(&recorded.output).await?;
            if !self.widened().await? {
                return Ok(values);
            }
        }
    }

    /// Latents to a picture.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for latents that are not finite or of another number of channels, and for a
    /// memory budget in which nothing fits; [`Error::Aborted`]; out of memory, device lost.
    pub async fn decode(
        &mut self,
        latents: &Latents,
        options: &DecodeOptions,
        on_event: &mut dyn FnMut(DecodeEvent<'_>),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Picture> {
        let Decoded { width, height, pixels } = self.compute(latents, options, on_event, cancelled).await?;
        let rgba = self.backend.read_pixels(&pixels).await?;
        Ok(Picture { width, height, rgba })
    }

    /// [`ImageModel::decode`], but the picture stays on the device.
    ///
    /// # Errors
    /// As for [`ImageModel::decode`].
    pub async fn compute(
        &mut self,
        latents: &Latents,
        options: &DecodeOptions,
        on_event: &mut dyn FnMut(DecodeEvent<'_>),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Decoded<B>> {
        latents.check()?;
        let unscaled;
        let latents = if options.scaled {
            unscaled = self.unscaled(latents);
            &unscaled
        } else {
            latents
        };
        loop {
            let decoded = self.try_compute(latents, options, on_event, cancelled).await?;
            if !self.widened().await? {
                return Ok(decoded);
            }
        }
    }

    async fn try_compute(
        &mut self,
        latents: &Latents,
        options: &DecodeOptions,
        on_event: &mut dyn FnMut(DecodeEvent<'_>),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Decoded<B>> {
        let network = self.decoder.as_mut().ok_or_else(|| missing("decoder"))?;
        let scale = network.layers.scale;
        network.check(shape_of(latents), scale, MAX_SIDE)?;
        if options.preview && latents.height.max(latents.width) >= 2 * PREVIEW {
            let coarse = preview(network, &mut self.backend, latents, cancelled).await?;
            on_event(DecodeEvent::Preview(&coarse));
        }
        let backend = &mut self.backend;
        let pixels = match network.lay_out(backend, (latents.height, latents.width), options.memory)? {
            Layout::Whole => {
                let recorded = network.whole.as_ref().ok_or_else(no_plan)?;
                recorded.run(backend, &latents.interleaved(), cancelled).await?;
                self.dispatches = B::dispatches(&recorded.plan);
                on_event(DecodeEvent::Tile(1, 1));
                recorded.pixels()?
            }
            Layout::Tiles(rows, columns) => {
                let mut on_tile = |done, all| on_event(DecodeEvent::Tile(done, all));
                let tiled = Tiled::new(network, backend, (rows, columns), &mut on_tile, cancelled);
                let (pixels, dispatches) = tiled.decode(latents).await?;
                self.dispatches = dispatches;
                Rc::new(pixels)
            }
        };
        Ok(Decoded { width: latents.width * scale, height: latents.height * scale, pixels })
    }

    /// A picture to latents. Its sides must be multiples of [`ImageModel::scale`]; alpha is not looked at.
    ///
    /// # Errors
    /// As for [`ImageModel::decode`].
    pub async fn encode(
        &mut self,
        picture: &Picture,
        memory: Option<u64>,
        on_tile: &mut dyn FnMut(u32, u32),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Encoding> {
        let (scale, shift) = self.encoder.as_ref().map_or((1.0, 0.0), |network| network.layers.to_bytes());
        let values: Vec<f32> = picture
            .rgba
            .as_chunks::<4>()
            .0
            .iter()
            .flat_map(|p| [p[0], p[1], p[2]])
            .map(|v| (f32::from(v) / 255.0 - shift) / scale)
            .collect();
        let size = (picture.height, picture.width);
        let raw = self.encode_floats(size, &values, memory, on_tile, cancelled).await?;
        let count = self.latent_channels();
        if raw.channels != 2 * count {
            return Ok(Encoding { mean: raw, log_variance: None });
        }
        let Latents { height, width, mut values, .. } = raw;
        let log_variance = values.split_off(values.len() / 2);
        let half = |values| Latents { channels: count, height, width, values };
        Ok(Encoding { mean: half(values), log_variance: Some(half(log_variance)) })
    }

    /// (height, width, 3) floats to the encoder's own output: of 0 to 1 for the TAESD family, whose output are
    /// latents; of -1 to 1 for an AutoencoderKL, whose output are means, then log-variances. `memory` bounds what
    /// pictures inside the network take; larger ones are computed in tiles, which `on_tile` counts.
    ///
    /// # Errors
    /// As for [`ImageModel::encode`].
    pub async fn encode_floats(
        &mut self,
        (height, width): (u32, u32),
        values: &[f32],
        memory: Option<u64>,
        on_tile: &mut dyn FnMut(u32, u32),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Latents> {
        loop {
            let network = self.encoder.as_mut().ok_or_else(|| missing("encoder"))?;
            let scale = network.layers.scale;
            let shape = ImageShape { height, width, channels: 3 };
            network.check(shape, 1, MAX_SIDE)?;
            let fits = height.is_multiple_of(scale) && width.is_multiple_of(scale);
            if !fits || values.len() as u64 != shape.pixels() * 3 {
                return Err(Error::InvalidOption {
                    option: "image",
                    value: format!("{width} × {height} pixels, {} values", values.len()),
                    range: "sides that are multiples of the model's scale, three values a pixel",
                });
            }
            let (rows, columns) = (height / scale, width / scale);
            let backend = &mut self.backend;
            let flat = match network.lay_out(backend, (rows, columns), memory)? {
                Layout::Whole => {
                    let recorded = network.whole.as_ref().ok_or_else(no_plan)?;
                    recorded.run(backend, values, cancelled).await?;
                    on_tile(1, 1);
                    backend.read(&recorded.output).await?
                }
                Layout::Tiles(down, across) => {
                    let tiled = Tiled::new(network, backend, (down, across), on_tile, cancelled);
                    tiled.encode(values, width).await?
                }
            };
            let latents = Latents::from_interleaved(network.layers.outputs, rows, columns, &flat);
            if !self.widened().await? {
                return Ok(latents);
            }
        }
    }
}

/// A decoded picture that is still on the device.
pub struct Decoded<B: ImageBackend> {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Its bytes: valid until the next decode.
    pub pixels: Rc<B::Pixels>,
}

fn missing(what: &'static str) -> Error {
    Error::UnsupportedModel { what: format!("no {what}: the file holds only the other half") }
}

fn shape_of(latents: &Latents) -> ImageShape {
    ImageShape { height: latents.height, width: latents.width, channels: latents.channels }
}

/// A coarse picture of latents that are made small. Its recording is not kept: the memory is the picture's in a
/// moment.
async fn preview<B: ImageBackend>(
    network: &Network<B>,
    backend: &mut B,
    latents: &Latents,
    cancelled: &dyn Fn() -> bool,
) -> Result<Picture> {
    let coarse = latents.shrunk(latents.height.max(latents.width).div_ceil(PREVIEW));
    let to_bytes = Some(network.layers.to_bytes());
    let recorded = network.record(backend, shape_of(&coarse), Half::Both, to_bytes, None)?;
    recorded.run(backend, &coarse.interleaved(), cancelled).await?;
    let rgba = backend.read_pixels(recorded.pixels()?.as_ref()).await?;
    let scale = network.layers.scale;
    Ok(Picture { width: coarse.width * scale, height: coarse.height * scale, rgba })
}

async fn read_config(source: &mut dyn ByteSource) -> Result<ImageConfig> {
    let name = source.name().to_owned();
    let size = source.size().await?.filter(|size| *size <= ImageConfig::max_bytes());
    let Some(size) = size else {
        return Err(Error::Malformed {
            what: format!("{name}: too large for a config, or of no known size"),
        });
    };
    let bytes = read_growing(source, 0, size).await?;
    ImageConfig::parse(&String::from_utf8_lossy(&bytes))
}
