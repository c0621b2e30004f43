//! Large pictures in tiles: the small half of a network over all of it, the large half over one tile after the other.
//!
//! The small half holds all attention, and the norms of the TAESD family. Norms in the large half (an
//! AutoencoderKL has them) would each see a tile only: there the tiles run several times, at first with their own
//! statistics, then with those of all tiles together, which are measured anew each time.

use crate::error::Result;
use crate::model::image::Half;
use crate::ops::{ImageBackend, Window};

use super::latents::Latents;
use super::network::{Network, Recorded, no_plan};
use super::statistics::Statistics;
use super::tiles::{Cut, Joined, window};

/// Times that the tiles of a network with norms run before the time that counts: how far off the result is then
/// is measured in `tests/image.rs`.
const REFINEMENTS: u32 = 2;

/// Where tiles come from.
enum Feed<'a, B: ImageBackend> {
    /// A decoder's: windows of what the small half left.
    Image(&'a B::Image),
    /// An encoder's: windows of a picture, (height, width, 3), so many pixels a row.
    Values(&'a [f32], u32),
}

/// Where they go.
enum Sink<B: ImageBackend> {
    /// A decoder's: a picture of bytes.
    Pixels(B::Pixels),
    /// An encoder's: what the small half works on.
    Values(Joined),
}

/// One picture in tiles.
pub(super) struct Tiled<'a, B: ImageBackend> {
    network: &'a mut Network<B>,
    backend: &'a mut B,
    rows: Cut,
    columns: Cut,
    on_tile: &'a mut dyn FnMut(u32, u32),
    cancelled: &'a dyn Fn() -> bool,
    /// Tiles run, and to run in all.
    done: u32,
    count: u32,
    dispatches: u64,
}

impl<'a, B: ImageBackend> Tiled<'a, B> {
    /// Both halves are recorded: `network` was laid out for these cuts.
    pub fn new(
        network: &'a mut Network<B>,
        backend: &'a mut B,
        (rows, columns): (Cut, Cut),
        on_tile: &'a mut dyn FnMut(u32, u32),
        cancelled: &'a dyn Fn() -> bool,
    ) -> Self {
        #[allow(clippy::cast_possible_truncation)]
        // sides of pictures have 32 bits, and tiles some hundred pixels
        let count = (rows.starts.len() * columns.starts.len()) as u32;
        Tiled { network, backend, rows, columns, on_tile, cancelled, done: 0, count, dispatches: 0 }
    }

    /// The picture, and the kernel launches that it took.
    pub async fn decode(mut self, latents: &Latents) -> Result<(B::Pixels, u64)> {
        let small = self.network.small.take().ok_or_else(no_plan)?;
        self.dispatches += B::dispatches(&small.plan);
        small.run(self.backend, &latents.interleaved(), self.cancelled).await?;
        let scale = self.network.layers.scale;
        let blank = self.backend.blank(latents.height * scale, latents.width * scale)?;
        let mut sink = Sink::Pixels(blank);
        self.all(&Feed::Image(&small.output), &mut sink).await?;
        self.network.small = Some(small);
        let Sink::Pixels(pixels) = sink else { return Err(no_plan()) };
        self.backend.join(&pixels)?;
        self.run_recorded().await?;
        Ok((pixels, self.dispatches))
    }

    /// What comes out of an encoder, (rows, columns, channels).
    pub async fn encode(mut self, values: &[f32], width: u32) -> Result<Vec<f32>> {
        let small = self.network.small.take().ok_or_else(no_plan)?;
        let shape = small.shape;
        let mut sink = Sink::Values(Joined::new(shape, &self.rows, &self.columns)?);
        self.all(&Feed::Values(values, width), &mut sink).await?;
        let Sink::Values(joined) = sink else { return Err(no_plan()) };
        small.run(self.backend, &joined.values, self.cancelled).await?;
        let out = self.backend.read(&small.output).await?;
        self.network.small = Some(small);
        Ok(out)
    }

    /// Runs the large half over all tiles.
    async fn all(&mut self, feed: &Feed<'_, B>, sink: &mut Sink<B>) -> Result<()> {
        let large = self.network.large.take().ok_or_else(no_plan)?;
        if large.norms.is_empty() {
            self.join(&large, feed, sink).await?;
            self.network.large = Some(large);
            return Ok(());
        }
        self.count *= REFINEMENTS + 1;
        let statistics = self.measure(&large, feed).await?;
        let mut given = Vec::new();
        for norm in &large.norms {
            #[allow(clippy::cast_possible_truncation)] // a norm's channels
            let channels = norm.gain.len() as u32;
            given.push(self.backend.given_norm(channels)?);
        }
        statistics.write(self.backend, &large.norms, &given);
        let shape = large.shape;
        // The old memory first: both do not fit. With given norms the recording is of this picture only, and
        // not kept.
        drop(large);
        let large = self.network.record(self.backend, shape, Half::Large, None, Some(&given))?;
        for _ in 1..REFINEMENTS {
            let statistics = self.measure(&large, feed).await?;
            statistics.write(self.backend, &large.norms, &given);
        }
        self.join(&large, feed, sink).await
    }

    /// Runs all tiles, each measuring the norms over its own share of the picture.
    async fn measure(&mut self, large: &Recorded<B>, feed: &Feed<'_, B>) -> Result<Statistics> {
        let mut statistics = Statistics::default();
        for (i, j) in self.places() {
            let ((top, bottom), (left, right)) = (self.rows.share(i), self.columns.share(j));
            let (rows, columns) = (self.rows.size, self.columns.size);
            self.backend.measure(Window { top, bottom, left, right, rows, columns, pad: [0; 2] });
            let ran = self.run(large, feed, (i, j)).await;
            // Before an error leaves: the next picture is measured as a whole.
            self.backend.measure(Window::ALL);
            ran?;
            let weight = f64::from((bottom - top) * (right - left));
            statistics.add(self.backend, &large.norms, weight).await?;
            self.report();
        }
        Ok(statistics)
    }

    /// Runs all tiles and puts together what comes out.
    async fn join(&mut self, large: &Recorded<B>, feed: &Feed<'_, B>, sink: &mut Sink<B>) -> Result<()> {
        let scale = self.network.layers.scale;
        let (down, across) = (self.rows.weights(scale), self.columns.weights(scale));
        for (i, j) in self.places() {
            self.run(large, feed, (i, j)).await?;
            let at = (self.rows.starts[i] * scale, self.columns.starts[j] * scale);
            match sink {
                Sink::Pixels(pixels) => {
                    let to_bytes = self.network.layers.to_bytes();
                    self.backend.blend(&large.output, to_bytes, at, (&down[i], &across[j]), pixels)?;
                    self.run_recorded().await?;
                }
                Sink::Values(joined) => joined.add(&self.backend.read(&large.output).await?, (i, j)),
            }
            self.report();
        }
        Ok(())
    }

    /// Row and column of each tile.
    fn places(&self) -> impl Iterator<Item = (usize, usize)> + use<B> {
        let (rows, columns) = (self.rows.starts.len(), self.columns.starts.len());
        (0..rows).flat_map(move |i| (0..columns).map(move |j| (i, j)))
    }

    async fn run(&mut self, large: &Recorded<B>, feed: &Feed<'_, B>, (i, j): (usize, usize)) -> Result<()> {
        let (top, left) = (self.rows.starts[i], self.columns.starts[j]);
        match feed {
            Feed::Image(image) => {
                self.backend.crop(image, (top, left), &large.input)?;
                self.run_recorded().await?;
            }
            Feed::Values(values, width) => {
                let scale = self.network.layers.scale;
                let from = (top * scale, left * scale);
                let size = (large.shape.height, large.shape.width);
                self.backend.write(&large.input, &window(values, *width, large.shape.channels, from, size));
            }
        }
        self.dispatches += B::dispatches(&large.plan);
        self.backend.run(&large.plan, self.cancelled).await
    }

    /// Runs what was recorded for one tile only.
    async fn run_recorded(&mut self) -> Result<()> {
        let plan = self.backend.finish();
        self.dispatches += B::dispatches(&plan);
        self.backend.run(&plan, self.cancelled).await
    }

    fn report(&mut self) {
        self.done += 1;
        (self.on_tile)(self.done, self.count);
    }
}
