//! Decoding in tiles: the small half of a network over the whole picture, the large half over one tile after the
//! other.
//!
//! The small half holds all attention, and the norms of the TAESD family. Norms in the large half (an
//! AutoencoderKL has them) would each see a tile only: there the tiles run several times, at first with their own
//! statistics, then with those of all tiles together, which are measured anew each time.

use crate::error::{Error, Result};
use crate::model::image::Half;
use crate::ops::{ImageBackend, Window};

use super::DecodeEvent;
use super::latents::{Latents, Picture};
use super::network::{Network, Recorded, no_plan};
use super::statistics::Statistics;
use super::tiles::{Cut, window};

/// Times that the tiles of a network with norms run before the time that counts: how far off the result is then
/// is measured in `tests/image.rs`.
const REFINEMENTS: u32 = 2;

/// One decode in tiles.
pub(super) struct Tiled<'a, B: ImageBackend> {
    network: &'a mut Network<B>,
    backend: &'a mut B,
    rows: Cut,
    columns: Cut,
    on_event: &'a mut dyn FnMut(DecodeEvent<'_>),
    cancelled: &'a dyn Fn() -> bool,
    /// What the small half gave, (height, width, channels), and its width.
    values: Vec<f32>,
    width: u32,
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
        rows: Cut,
        columns: Cut,
        on_event: &'a mut dyn FnMut(DecodeEvent<'_>),
        cancelled: &'a dyn Fn() -> bool,
    ) -> Self {
        let count = (rows.starts.len() * columns.starts.len()) as u32;
        Tiled {
            network,
            backend,
            rows,
            columns,
            on_event,
            cancelled,
            values: Vec::new(),
            width: 0,
            done: 0,
            count,
            dispatches: 0,
        }
    }

    /// The picture, and the kernel launches that it took.
    pub async fn decode(mut self, latents: &Latents) -> Result<(Picture, u64)> {
        let small = self.network.small.as_ref().ok_or_else(no_plan)?;
        small.run(self.backend, &latents.interleaved(), self.cancelled).await?;
        self.values = self.backend.read(&small.output).await?;
        self.width = latents.width;
        self.dispatches = B::dispatches(&small.plan);
        let large = self.network.large.take().ok_or_else(no_plan)?;
        if large.norms.is_empty() {
            let picture = self.join(&large, latents).await?;
            self.network.large = Some(large);
            return Ok((picture, self.dispatches));
        }
        self.count *= REFINEMENTS + 1;
        let statistics = self.measure(&large).await?;
        let mut given = Vec::new();
        for norm in &large.norms {
            given.push(self.backend.given_norm(norm.gain.len() as u32)?);
        }
        statistics.write(self.backend, &large.norms, &given);
        let shape = large.shape;
        // The old memory first: both do not fit. With given norms the recording is of this picture only, and
        // not kept.
        drop(large);
        let to_bytes = Some(self.network.layers.to_bytes());
        let large = self.network.record(self.backend, shape, Half::Large, to_bytes, Some(&given))?;
        for _ in 1..REFINEMENTS {
            let statistics = self.measure(&large).await?;
            statistics.write(self.backend, &large.norms, &given);
        }
        let picture = self.join(&large, latents).await?;
        Ok((picture, self.dispatches))
    }

    /// Runs all tiles, each measuring the norms over its own share of the picture.
    async fn measure(&mut self, large: &Recorded<B>) -> Result<Statistics> {
        let mut statistics = Statistics::default();
        for (i, j) in self.places() {
            let ((top, bottom), (left, right)) = (self.rows.share(i), self.columns.share(j));
            let (rows, columns) = (self.rows.size, self.columns.size);
            self.backend.measure(Window { top, bottom, left, right, rows, columns, pad: [0; 2] });
            let ran = self.run(large, (i, j)).await;
            // Before an error leaves: the next picture is measured as a whole.
            self.backend.measure(Window::ALL);
            ran?;
            let weight = f64::from((bottom - top) * (right - left));
            statistics.add(self.backend, &large.norms, weight).await?;
            self.report();
        }
        Ok(statistics)
    }

    /// Runs all tiles and puts the picture together.
    async fn join(&mut self, large: &Recorded<B>, latents: &Latents) -> Result<Picture> {
        let mut joined = Joined::new(latents, self.network.layers.scale, &self.rows, &self.columns)?;
        for place in self.places() {
            self.run(large, place).await?;
            joined.add(&large.bytes(self.backend).await?, place);
            self.report();
        }
        Ok(joined.picture())
    }

    /// Row and column of each tile.
    fn places(&self) -> impl Iterator<Item = (usize, usize)> + use<B> {
        let (rows, columns) = (self.rows.starts.len(), self.columns.starts.len());
        (0..rows).flat_map(move |i| (0..columns).map(move |j| (i, j)))
    }

    async fn run(&mut self, large: &Recorded<B>, (i, j): (usize, usize)) -> Result<()> {
        let (from, size) =
            ((self.rows.starts[i], self.columns.starts[j]), (self.rows.size, self.columns.size));
        let tile = window(&self.values, self.width, large.shape.channels, from, size);
        self.dispatches += B::dispatches(&large.plan);
        large.run(self.backend, &tile, self.cancelled).await
    }

    fn report(&mut self) {
        self.done += 1;
        (self.on_event)(DecodeEvent::Tile(self.done, self.count));
    }
}

/// The picture that tiles are put into.
struct Joined {
    width: u32,
    height: u32,
    starts: (Vec<u32>, Vec<u32>),
    weights: (Vec<Vec<f32>>, Vec<Vec<f32>>),
    /// (height, width, 3), 0 to 255.
    sums: Vec<f32>,
}

impl Joined {
    /// For a picture of `latents`' size, each position of which is `scale` pixels.
    fn new(latents: &Latents, scale: u32, rows: &Cut, columns: &Cut) -> Result<Self> {
        let (height, width) = (latents.height * scale, latents.width * scale);
        let count = height as usize * width as usize * 3;
        let mut sums = Vec::new();
        if sums.try_reserve_exact(count).is_err() {
            return Err(Error::OutOfMemory { what: "a picture".to_owned(), bytes: count as u64 * 4 });
        }
        sums.resize(count, 0.0);
        let starts = |cut: &Cut| cut.starts.iter().map(|start| start * scale).collect();
        Ok(Joined {
            width,
            height,
            starts: (starts(rows), starts(columns)),
            weights: (rows.weights(latents.height, scale), columns.weights(latents.width, scale)),
            sums,
        })
    }

    fn add(&mut self, rgba: &[u8], (i, j): (usize, usize)) {
        let (y0, x0) = (self.starts.0[i] as usize, self.starts.1[j] as usize);
        let (down, across) = (&self.weights.0[i], &self.weights.1[j]);
        for (y, (line, wy)) in rgba.chunks_exact(across.len() * 4).zip(down).enumerate() {
            let from = ((y0 + y) * self.width as usize + x0) * 3;
            let to = self.sums[from..].chunks_exact_mut(3);
            for ((pixel, to), wx) in line.as_chunks::<4>().0.iter().zip(to).zip(across) {
                let weight = wy * wx;
                to[0] += weight * f32::from(pixel[0]);
                to[1] += weight * f32::from(pixel[1]);
                to[2] += weight * f32::from(pixel[2]);
            }
        }
    }

    fn picture(self) -> Picture {
        let byte = |v: f32| v.round().clamp(0.0, 255.0) as u8;
        let pixels = self.sums.chunks_exact(3);
        let rgba = pixels.flat_map(|p| [byte(p[0]), byte(p[1]), byte(p[2]), 255]).collect();
        Picture { width: self.width, height: self.height, rgba }
    }
}
