//! Pictures that do not fit into memory in one piece: segments of the layers one after the other, each in tiles.

use crate::error::{Error, Result};
use crate::graph::{ImageBackend, Rect, Window};
use crate::model::image::{Autoencoder, Tape};

use super::network::{Network, no_plan};
use super::plan::{Segment, Survey, Tile, record};
use super::tiles::window;

/// What a segment reads.
enum Input<'a, B: ImageBackend> {
    /// A picture on the host, (height, width, channels).
    Values(&'a [f32]),
    Image(B::Image),
}

/// What comes out of a network.
pub(super) enum Output<B: ImageBackend> {
    Image(B::Image),
    /// The bytes of a decoder's picture.
    Pixels(B::Pixels),
}

/// A picture to compute within some memory.
pub(super) struct Task<'a> {
    /// Rows and columns of the latents.
    pub size: (u32, u32),
    pub memory: Option<u64>,
    /// What goes in, (height, width, channels).
    pub values: &'a [f32],
    pub cancelled: &'a dyn Fn() -> bool,
}

impl Task<'_> {
    /// What comes out of a network that was laid out in segments; kernel launches, and most bytes held.
    pub async fn run<B: ImageBackend>(
        &self,
        network: &mut Network<B>,
        backend: &mut B,
        mut segments: Vec<Segment>,
        on_tile: &mut dyn FnMut(u32, u32),
    ) -> Result<(Output<B>, u64, u64)> {
        let mut planned = self.memory.unwrap_or(u64::MAX);
        loop {
            let parts = (&network.layers, network.survey()?);
            let mut tiled = Tiled::new(parts, backend, self.size, self.memory, on_tile, self.cancelled);
            let output = tiled.run(&segments, self.values).await;
            if !tiled.overflowed {
                return Ok((output?, tiled.dispatches, tiled.peak));
            }
            // A plan for less leaves room for what could not be measured.
            planned -= planned / 16;
            segments = network.plan_again(backend, self.size, planned)?;
        }
    }
}

/// The computation of one picture.
struct Tiled<'a, B: ImageBackend> {
    network: &'a Autoencoder<B::Weights>,
    survey: &'a Survey,
    backend: &'a mut B,
    /// Rows and columns of the latents.
    size: (u32, u32),
    on_tile: &'a mut dyn FnMut(u32, u32),
    cancelled: &'a dyn Fn() -> bool,
    /// Tiles run, and to run in all.
    done: u32,
    count: u32,
    /// Bytes that the backend held before, and bytes that it may hold more.
    before: u64,
    memory: u64,
    /// Most bytes that it held beyond those before.
    peak: u64,
    /// A plan takes more memory than was measured.
    overflowed: bool,
    dispatches: u64,
}

impl<'a, B: ImageBackend> Tiled<'a, B> {
    /// For a network that was laid out for this size. `memory` are bytes beside those that the backend holds.
    fn new(
        (network, survey): (&'a Autoencoder<B::Weights>, &'a Survey),
        backend: &'a mut B,
        size: (u32, u32),
        memory: Option<u64>,
        on_tile: &'a mut dyn FnMut(u32, u32),
        cancelled: &'a dyn Fn() -> bool,
    ) -> Self {
        let (before, memory) = (backend.allocated_bytes(), memory.unwrap_or(u64::MAX));
        let (done, count, peak, dispatches) = (0, 0, 0, 0);
        let overflowed = false;
        Tiled {
            network,
            survey,
            backend,
            size,
            on_tile,
            cancelled,
            done,
            count,
            before,
            memory,
            peak,
            overflowed,
            dispatches,
        }
    }

    /// Runs the segments on a picture of the host.
    async fn run(&mut self, segments: &[Segment], values: &[f32]) -> Result<Output<B>> {
        self.count = segments.iter().map(Segment::runs).sum();
        let output = self.segments(segments, values).await;
        // Also after an error: pictures that nobody needs any more go.
        drop(self.backend.finish());
        output
    }

    async fn segments(&mut self, segments: &[Segment], values: &[f32]) -> Result<Output<B>> {
        let mut input = Input::Values(values);
        for segment in segments {
            let output = if segment.tiles() == 1 {
                self.at_once(segment, input).await
            } else {
                self.tiles(segment, &input).await
            };
            input = match output? {
                Output::Image(image) => Input::Image(image),
                pixels @ Output::Pixels(_) => return Ok(pixels),
            };
            // The memory of what the segment read, before the next one takes its own.
            drop(self.backend.finish());
        }
        match input {
            Input::Image(image) => Ok(Output::Image(image)),
            Input::Values(_) => Err(no_plan()),
        }
    }

    /// Runs a segment over the whole picture.
    async fn at_once(&mut self, segment: &Segment, input: Input<'_, B>) -> Result<Output<B>> {
        let image = match input {
            Input::Image(image) => image,
            Input::Values(values) => {
                let image = self.backend.image(self.survey.shape(0, self.size))?;
                self.backend.write(&image, values);
                image
            }
        };
        let recorded = self.record_at_once(segment, &image);
        let plan = self.backend.finish();
        let output = recorded?;
        if !self.fits() {
            self.overflowed = true;
            return Err(too_large());
        }
        self.run_parts(&plan, &|_| true).await?;
        self.report();
        Ok(output)
    }

    fn record_at_once(&mut self, segment: &Segment, image: &B::Image) -> Result<Output<B>> {
        let mut tape = Tape::new(self.backend);
        let out = self.network.forward(&mut tape, image, segment.layers.clone())?;
        let output = self.output(segment)?;
        match output {
            Some(pixels) => {
                let shape = B::shape(&out);
                let all = Rect { from: (0, 0), to: (0, 0), size: (shape.height, shape.width) };
                self.backend.place(&out, self.network.to_bytes(), all, &pixels)?;
                Ok(Output::Pixels(pixels))
            }
            None => Ok(Output::Image(out)),
        }
    }

    /// The picture of bytes that a segment ends in, if it does.
    fn output(&mut self, segment: &Segment) -> Result<Option<B::Pixels>> {
        if !self.survey.ends_in_pixels(&segment.layers) {
            return Ok(None);
        }
        let shape = self.survey.shape(segment.layers.end, self.size);
        self.backend.blank(shape.height, shape.width).map(Some)
    }

    /// Runs a segment tile by tile: for each norm once, to measure it, and then to the end.
    async fn tiles(&mut self, segment: &Segment, input: &Input<'_, B>) -> Result<Output<B>> {
        let output = match self.output(segment)? {
            Some(pixels) => Output::Pixels(pixels),
            None => Output::Image(self.backend.image(self.survey.shape(segment.layers.end, self.size))?),
        };
        let (segment, tile, plan) = self.record_tile(segment.clone())?;
        for (n, norm) in tile.norms.iter().enumerate() {
            for place in places(&segment) {
                self.feed(&segment, &tile, input, place).await?;
                self.backend.measure(measured(&segment, place));
                let measuring = 2 * n + 1;
                self.run_parts(&plan, &|part| part == measuring || part < measuring && part % 2 == 0).await?;
                self.report();
            }
            self.backend.merge(norm)?;
            self.run_recorded().await?;
        }
        for place in places(&segment) {
            self.feed(&segment, &tile, input, place).await?;
            self.run_parts(&plan, &|part| part % 2 == 0).await?;
            let rect = share(&segment, place, self.survey.side(segment.layers.end) / segment.side);
            match &output {
                Output::Image(image) => self.backend.copy(&tile.output, rect, image)?,
                Output::Pixels(pixels) => {
                    self.backend.place(&tile.output, self.network.to_bytes(), rect, pixels)?;
                }
            }
            self.run_recorded().await?;
            self.report();
        }
        Ok(output)
    }

    /// Records a segment for one tile; for a smaller tile, if the planned one takes more than was measured.
    fn record_tile(&mut self, mut segment: Segment) -> Result<(Segment, Tile<B>, B::Plan)> {
        let planned = segment.runs();
        loop {
            let layers = &segment.layers;
            let size = (segment.rows.size, segment.columns.size);
            let shape = self.survey.tile_shape(layers, layers.start, size);
            let recorded = record(self.network, self.backend, shape, layers, segment.tiles());
            let plan = self.backend.finish();
            let tile = recorded?;
            if self.fits() {
                self.count += segment.runs() - planned;
                return Ok((segment, tile, plan));
            }
            drop((tile, plan));
            drop(self.backend.finish());
            let too_large =
                || Error::Internal { what: "a tile that does not fit into its memory".to_owned() };
            let finer = segment.finer();
            self.overflowed = finer.is_none();
            segment = finer.ok_or_else(too_large)?;
        }
    }

    /// Fills the input of a tile.
    async fn feed(
        &mut self,
        segment: &Segment,
        tile: &Tile<B>,
        input: &Input<'_, B>,
        (i, j): (usize, usize),
    ) -> Result<()> {
        let factor = self.survey.side(segment.layers.start) / segment.side;
        let from = (segment.rows.starts[i] * factor, segment.columns.starts[j] * factor);
        let shape = B::shape(&tile.input);
        let size = (shape.height, shape.width);
        match input {
            Input::Values(values) => {
                let width = self.survey.shape(segment.layers.start, self.size).width;
                self.backend.write(&tile.input, &window(values, width, shape.channels, from, size));
                Ok(())
            }
            Input::Image(image) => {
                self.backend.copy(image, Rect { from, to: (0, 0), size }, &tile.input)?;
                self.run_recorded().await
            }
        }
    }

    async fn run_parts(&mut self, plan: &B::Plan, wanted: &dyn Fn(usize) -> bool) -> Result<()> {
        self.dispatches += B::dispatches(plan, wanted);
        self.backend.run_parts(plan, wanted, self.cancelled).await
    }

    /// Runs what was recorded for one tile only.
    async fn run_recorded(&mut self) -> Result<()> {
        let plan = self.backend.finish();
        self.run_parts(&plan, &|_| true).await
    }

    /// Whether all that is held now is within the memory.
    fn fits(&mut self) -> bool {
        let held = self.backend.allocated_bytes().saturating_sub(self.before);
        if held <= self.memory {
            self.peak = self.peak.max(held);
        }
        held <= self.memory
    }

    fn report(&mut self) {
        self.done += 1;
        (self.on_tile)(self.done, self.count);
    }
}

/// The error for a plan that takes more than was measured.
fn too_large() -> Error {
    Error::Internal { what: "a tile that does not fit into its memory".to_owned() }
}

/// Row and column of each tile.
fn places(segment: &Segment) -> impl Iterator<Item = (usize, usize)> + use<> {
    let (rows, columns) = (segment.rows.starts.len(), segment.columns.starts.len());
    (0..rows).flat_map(move |i| (0..columns).map(move |j| (i, j)))
}

/// The part of a tile that its norms measure: its share.
fn measured(segment: &Segment, (i, j): (usize, usize)) -> Window {
    let ((top, bottom), (left, right)) = (segment.rows.within(i), segment.columns.within(j));
    let (rows, columns) = (segment.rows.size, segment.columns.size);
    #[allow(clippy::cast_possible_truncation)] // tiles are counted in u32
    let tile = i as u32 * segment.columns.count() + j as u32;
    Window { top, bottom, left, right, rows, columns, tile, pad: 0 }
}

/// A tile's share of what comes out, with so many pixels for each position of the segment's grid and side.
fn share(segment: &Segment, (i, j): (usize, usize), factor: u32) -> Rect {
    let ((top, bottom), (left, right)) = (segment.rows.within(i), segment.columns.within(j));
    Rect {
        from: (top * factor, left * factor),
        to: (segment.rows.shares[i].0 * factor, segment.columns.shares[j].0 * factor),
        size: ((bottom - top) * factor, (right - left) * factor),
    }
}
