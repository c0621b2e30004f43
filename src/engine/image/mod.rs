//! The loops for pictures: latents → PIXELS and back. A network is recorded once for a size and kept.

// A number of a file may have 64 bits, and `usize` has 32 in a browser. Tests run natively.
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

mod latents;
mod network;
mod plan;
mod tiled;
mod tiles;

use std::rc::Rc;

use crate::error::{Error, Result};
use crate::graph::{ImageBackend, ImageShape, Precision, not_finite};
use crate::model::Progress;
use crate::model::image::{ImageConfig, Loaded, MAX_SAMPLE, Named, Networks, Prior, SAMPLE, Scaling, check};
use crate::weights::{ByteSource, FloatTensors, read_growing};

pub use latents::{Latents, Picture};
use network::{Layout, Network, no_plan};
use tiled::{Output, Task};

/// Sides of a picture, in pixels, at most: 16384² floats of 8 channels are far beyond any device.
const MAX_SIDE: u32 = 16_384;
/// Positions of the latents along the longer side of a preview.
const PREVIEW: u32 = 16;

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
    /// Runs of tiles done, and of how many: for each norm a tile runs once more.
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
    /// How a diffusion model's latents become the decoder's, where that is known.
    scaling: Option<Scaling>,
    weight_bytes: u64,
    dispatches: u64,
    /// See [`ImageModel::peak_bytes`].
    peak: u64,
}

impl<B: ImageBackend> ImageModel<B> {
    /// Loads what the files hold: one file with both networks, or one each; and a `config.json`, told by its
    /// name, where there is one. All headers are checked before any weights are read; then each file is read once from
    /// its start to its end. An error of `progress` ends the loading.
    ///
    /// # Errors
    /// [`Error::UnsupportedModel`] if no file has a network that is known, and for a tensor or a key of the config that
    /// no network uses; what is wrong with a file, the source or the device.
    pub async fn load(
        mut backend: B,
        sources: &mut [Box<dyn ByteSource>],
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<Self> {
        let before = backend.allocated_bytes();
        let (mut given, mut noted, mut files) = (None, None, Vec::new());
        for source in &mut *sources {
            if ImageConfig::is_named(source.name()) {
                one_config(&mut given, read_config(source.as_mut()).await?)?;
                continue;
            }
            let tensors = FloatTensors::read(source.as_mut()).await?;
            if let Some(note) = tensors.config()
                && let Some(config) = ImageConfig::of_note(source.name(), note)?
            {
                one_config(&mut noted, config)?;
            }
            files.push((Named::new(&tensors)?, source));
        }
        // A file of its own says more than a note.
        let config = given.or(noted).unwrap_or_default();
        let (mut all, mut wanted, mut total_bytes) = (Networks::default(), Vec::new(), 0u64);
        for (named, _) in &files {
            let (networks, checked) = check(named, |parts| Networks::new(parts, &config))?;
            all.add(networks)?;
            total_bytes = total_bytes.saturating_add(checked.bytes);
            wanted.push(checked);
        }
        all.check(&config)?;
        let mut loaded_bytes = 0;
        progress(Progress { loaded_bytes, total_bytes })?;
        let mut all = Networks::default();
        for ((named, source), wanted) in files.into_iter().zip(&wanted) {
            let mut read = |bytes| {
                loaded_bytes += bytes;
                progress(Progress { loaded_bytes, total_bytes })
            };
            let mut loaded = Loaded::read(&mut backend, &named, wanted, source.as_mut(), &mut read).await?;
            all.add(loaded.build(&named, |parts| Networks::new(parts, &config))?)?;
        }
        let scaling = all.check(&config)?;
        let weight_bytes = backend.allocated_bytes().saturating_sub(before);
        let Networks { decoder, encoder, prior, .. } = all;
        let (decoder, encoder) = (decoder.map(Network::new), encoder.map(Network::new));
        Ok(ImageModel {
            backend,
            decoder,
            encoder,
            config,
            prior,
            scaling,
            weight_bytes,
            dispatches: 0,
            peak: 0,
        })
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
        self.decoder.as_ref().or(self.encoder.as_ref()).map_or("", |network| network.layers.family().name())
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

    /// Most bytes of pictures inside the networks that the last decode or encode held at once.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.peak
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
    /// standard normals brought back by the scaling of config or file, where there is one. `spread` multiplies the
    /// noise: 0 for the mean.
    #[must_use]
    pub fn sample(&self, seed: u64, spread: f32) -> Latents {
        let trained = self.config.sample_size.map(|size| (size / self.scale()).clamp(1, MAX_SAMPLE));
        let side = trained.unwrap_or(SAMPLE);
        let mut latents = Latents::normal(self.latent_channels(), side, side, seed);
        latents.values.iter_mut().for_each(|v| *v *= spread);
        match (&self.prior, &self.scaling) {
            (Some(prior), _) => latents.values = prior.shape(&latents.values),
            (None, Some(scaling)) => latents = unscaled(scaling, &latents),
            (None, None) => {}
        }
        latents
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
                return finite(values, "picture");
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
        let of_decoder;
        let latents = if options.scaled {
            let scaling = self.scaling.as_ref().ok_or_else(|| Error::InvalidOption {
                option: "scaled",
                value: "true".to_owned(),
                range: "false, since the model's scaling is not known: load its config.json too".into(),
            })?;
            let network = self.decoder.as_ref().ok_or_else(|| missing("decoder"))?;
            network.check(shape_of(latents), network.layers.scale, MAX_SIDE)?;
            of_decoder = unscaled(scaling, latents);
            &of_decoder
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
        // What the other direction keeps counts too.
        self.encoder.iter_mut().for_each(Network::forget);
        let (backend, memory) = (&mut self.backend, options.memory);
        let size = (latents.height, latents.width);
        let pixels = match network.lay_out(backend, size, memory)? {
            Layout::Whole => {
                let recorded = network.whole.as_ref().ok_or_else(no_plan)?;
                self.peak = recorded.bytes;
                recorded.run(backend, &latents.interleaved(), cancelled).await?;
                self.dispatches = B::dispatches(&recorded.plan, &|_| true);
                on_event(DecodeEvent::Tile(1, 1));
                recorded.pixels()?
            }
            Layout::Segments(segments) => {
                let mut on_tile = |done, all| on_event(DecodeEvent::Tile(done, all));
                let task = Task { size, memory, values: &latents.interleaved(), cancelled };
                let (output, dispatches, peak) = task.run(network, backend, segments, &mut on_tile).await?;
                (self.dispatches, self.peak) = (dispatches, peak);
                let Output::Pixels(pixels) = output else { return Err(no_plan()) };
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
                    range: "sides that are multiples of the model's scale, three values a pixel".into(),
                });
            }
            let (rows, columns) = (height / scale, width / scale);
            // What the other direction keeps counts too.
            self.decoder.iter_mut().for_each(Network::forget);
            let backend = &mut self.backend;
            let flat = match network.lay_out(backend, (rows, columns), memory)? {
                Layout::Whole => {
                    let recorded = network.whole.as_ref().ok_or_else(no_plan)?;
                    self.peak = recorded.bytes;
                    recorded.run(backend, values, cancelled).await?;
                    on_tile(1, 1);
                    backend.read(&recorded.output).await?
                }
                Layout::Segments(segments) => {
                    let task = Task { size: (rows, columns), memory, values, cancelled };
                    let (output, _, peak) = task.run(network, backend, segments, on_tile).await?;
                    self.peak = peak;
                    let Output::Image(image) = output else { return Err(no_plan()) };
                    backend.read(&image).await?
                }
            };
            let outputs = network.layers.outputs;
            if !self.widened().await? {
                let flat = finite(flat, "latent")?;
                return Ok(Latents::from_interleaved(outputs, rows, columns, &flat));
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

fn finite(values: Vec<f32>, what: &str) -> Result<Vec<f32>> {
    if values.iter().all(|v| v.is_finite()) { Ok(values) } else { Err(not_finite(what)) }
}

fn missing(what: &'static str) -> Error {
    Error::UnsupportedModel {
        what: format!("the files have no tensors of the {what}: load the file with the {what} too"),
    }
}

/// A diffusion model's latents as the decoder wants them.
fn unscaled(scaling: &Scaling, latents: &Latents) -> Latents {
    let values = scaling.apply((latents.height, latents.width), &latents.values);
    Latents { values, ..*latents }
}

/// Keeps a config, unless there is another that says something else.
fn one_config(place: &mut Option<ImageConfig>, config: ImageConfig) -> Result<()> {
    if place.as_ref().is_some_and(|other| !other.same(&config)) {
        return Err(Error::Malformed {
            what: "two configs of one model that differ: give one of them".to_owned(),
        });
    }
    *place = Some(config);
    Ok(())
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
    let recorded = network.record(backend, shape_of(&coarse))?;
    recorded.run(backend, &coarse.interleaved(), cancelled).await?;
    let rgba = backend.read_pixels(recorded.pixels()?.as_ref()).await?;
    let scale = network.layers.scale;
    Ok(Picture { width: coarse.width * scale, height: coarse.height * scale, rgba })
}

async fn read_config(source: &mut dyn ByteSource) -> Result<ImageConfig> {
    let name = source.name().to_owned();
    let most = ImageConfig::max_bytes();
    let size = match source.size().await? {
        Some(size) => size,
        // A server need not say the size, and does not when it sends the file encoded: reading too far tells it.
        None => match read_growing(source, 0, most + 1).await {
            Err(Error::Truncated { actual, .. }) => actual,
            read => read.map(|bytes| bytes.len() as u64)?,
        },
    };
    if size > most {
        return Err(Error::Malformed {
            what: format!("{name}: more than {most} bytes, which no config has"),
        });
    }
    let bytes = read_growing(source, 0, size).await?;
    ImageConfig::parse(&name, &String::from_utf8_lossy(&bytes))
}
