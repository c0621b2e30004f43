//! How a picture that does not fit into memory in one piece is computed.
//!
//! The layers are cut into segments. Between two segments a whole picture is stored. A segment runs over the picture in
//! one piece, or in tiles. Tiles see all that reaches their share, so only norms could tell them from the whole picture:
//! for each norm of a segment all its tiles run up to the norm and measure it, before they run to the end. So a norm has
//! the whole picture's statistics, of inputs whose norms had them too, and the result is that of one piece.
//!
//! Few stored pictures take little memory and many runs, since each norm of a segment runs all layers in front of it
//! again. Of all ways to cut that fit into memory the one with the least work is taken.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::Result;
use crate::graph::{ImageBackend, ImageShape};
use crate::model::image::{Autoencoder, Direction, Step, Tape};

use super::tiles::Cut;

/// Positions of the latents along a side of the picture that layers are surveyed with.
const SURVEY: u32 = 4;
/// Positions of a segment's coarsest grid along a side of the two tiles that its memory is measured with.
const MEASURED: [u32; 2] = [8, 16];
/// What it costs to write, copy or measure a value, in multiplications of a convolution.
const VALUE: u64 = 16;

/// Some layers, and the tiles in which they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub layers: Range<usize>,
    /// Positions of the grid that `rows` and `columns` count, for each position of the latents and side.
    pub side: u32,
    pub rows: Cut,
    pub columns: Cut,
    /// Positions of the grid that a tile sees beyond its share.
    halo: u32,
    /// Norms in the layers.
    pub norms: u32,
}

impl Segment {
    pub fn tiles(&self) -> u32 {
        self.rows.count() * self.columns.count()
    }

    /// Runs of tiles.
    pub fn runs(&self) -> u32 {
        if self.tiles() == 1 { 1 } else { self.tiles() * (self.norms + 1) }
    }

    /// Positions of a tile.
    fn positions(&self) -> u64 {
        u64::from(self.rows.size) * u64::from(self.columns.size)
    }

    /// The size in a tile of a picture that was surveyed with another size.
    fn tile_of(&self, surveyed: ImageShape) -> ImageShape {
        let factor = surveyed.height / SURVEY / self.side;
        ImageShape { height: self.rows.size * factor, width: self.columns.size * factor, ..surveyed }
    }

    /// The same in more tiles, if there can be more.
    pub fn finer(&self) -> Option<Self> {
        let more = |cut: &Cut| {
            let length = cut.shares.last().map_or(0, |last| last.1);
            (cut.count() < length).then(|| Cut::new(length, cut.count() + 1, self.halo))
        };
        let (rows, columns) = if self.rows.size >= self.columns.size {
            (more(&self.rows)?, self.columns.clone())
        } else {
            (self.rows.clone(), more(&self.columns)?)
        };
        Some(Segment { rows, columns, ..self.clone() })
    }
}

/// Bytes of what is recorded for a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    /// Of any picture.
    fixed: u64,
    /// For each position more.
    each: u64,
}

impl Cost {
    /// The cost through the bytes of two squares of positions, of the sides in [`MEASURED`].
    pub fn measured(mut measure: impl FnMut(u32) -> Result<u64>) -> Result<Self> {
        let [small, large] = MEASURED;
        let (least, most) = (measure(small)?, measure(large)?);
        let each = most.saturating_sub(least).div_ceil(u64::from(large * large - small * small));
        Ok(Cost { fixed: most.saturating_sub(each * u64::from(large * large)), each })
    }

    pub fn of(self, positions: u64) -> u64 {
        self.each.saturating_mul(positions).saturating_add(self.fixed)
    }
}

/// What planning has to know of a network.
pub(super) struct Survey {
    /// The pictures between layers, the first and the last included, where the latents are `SURVEY` positions a side.
    pictures: Vec<ImageShape>,
    /// What each layer records at that size.
    layers: Vec<Vec<Step>>,
    direction: Direction,
    /// Bytes of the bytes of a picture that comes out, for each of its pixels.
    pixel_bytes: u64,
    /// Bytes of segments, by positions of their grid, as far as they were measured.
    costs: BTreeMap<(usize, usize), Cost>,
}

impl Survey {
    /// Records each layer at a small size.
    pub fn new<B: ImageBackend>(network: &Autoencoder<B::Weights>, backend: &mut B) -> Result<Self> {
        const BLANK: u32 = 64;
        let decoder = network.direction == Direction::Decoder;
        let side = SURVEY * if decoder { 1 } else { network.scale };
        let mut pictures = vec![ImageShape { height: side, width: side, channels: network.inputs }];
        let mut layers = Vec::new();
        for layer in 0..network.count() {
            let surveyed = survey_layer(network, backend, pictures[layer], layer);
            // After an error too: nothing of it must run with the next plan.
            drop(backend.finish());
            let (steps, out) = surveyed?;
            layers.push(steps);
            pictures.push(out);
        }
        let before = backend.allocated_bytes();
        let blank = backend.blank(BLANK, BLANK)?;
        let pixel_bytes = (backend.allocated_bytes() - before).div_ceil(u64::from(BLANK * BLANK));
        drop(blank);
        let costs = BTreeMap::new();
        Ok(Survey { pictures, layers, direction: network.direction, pixel_bytes, costs })
    }

    /// The picture in front of a layer, or behind the last, for so many rows and columns of latents.
    pub fn shape(&self, at: usize, (rows, columns): (u32, u32)) -> ImageShape {
        let ImageShape { height, channels, .. } = self.pictures[at];
        let side = height / SURVEY;
        ImageShape { height: rows * side, width: columns * side, channels }
    }

    /// Positions of the picture at a place for each position of the latents and side.
    pub fn side(&self, at: usize) -> u32 {
        self.pictures[at].height / SURVEY
    }

    /// Whether what comes out of these layers is a picture of bytes.
    pub fn ends_in_pixels(&self, layers: &Range<usize>) -> bool {
        self.direction == Direction::Decoder && layers.end == self.layers.len()
    }

    /// The segments that compute so many rows and columns of latents within `memory` bytes with the least work;
    /// `None` if none do.
    pub fn plan<B: ImageBackend>(
        &mut self,
        network: &Autoencoder<B::Weights>,
        backend: &mut B,
        size: (u32, u32),
        memory: u64,
    ) -> Result<Option<Vec<Segment>>> {
        // What is not measured yet counts as little as it can be: once the best plan is measured, no other is better.
        loop {
            let Some(segments) = self.cheapest(backend, size, memory) else { return Ok(None) };
            let key = |layers: &Range<usize>| (layers.start, layers.end);
            let unknown = segments.iter().find(|segment| !self.costs.contains_key(&key(&segment.layers)));
            let Some(segment) = unknown else { return Ok(Some(segments)) };
            let layers = segment.layers.clone();
            let cost = Cost::measured(|side| self.measure(network, backend, &layers, side))?;
            self.costs.insert(key(&layers), cost);
        }
    }

    /// Bytes that a plan of these layers takes for a square of positions of their grid.
    fn measure<B: ImageBackend>(
        &self,
        network: &Autoencoder<B::Weights>,
        backend: &mut B,
        layers: &Range<usize>,
        side: u32,
    ) -> Result<u64> {
        let input = self.tile_shape(layers, layers.start, (side, side));
        let before = backend.allocated_bytes();
        let recorded = record(network, backend, input, layers, 1);
        let bytes = backend.allocated_bytes().saturating_sub(before);
        drop(backend.finish());
        drop(recorded?);
        drop(backend.finish());
        Ok(bytes)
    }

    /// The grid of a segment: the coarser of what goes in and what comes out.
    fn grid(&self, layers: &Range<usize>) -> u32 {
        self.side(layers.start).min(self.side(layers.end))
    }

    /// The picture at a place of a segment, of a tile of so many positions of its grid.
    pub fn tile_shape(&self, layers: &Range<usize>, at: usize, (rows, columns): (u32, u32)) -> ImageShape {
        let factor = self.side(at) / self.grid(layers);
        ImageShape { height: rows * factor, width: columns * factor, channels: self.pictures[at].channels }
    }

    /// The way from the first picture to the last with the least work.
    fn cheapest<B: ImageBackend>(&self, backend: &B, size: (u32, u32), memory: u64) -> Option<Vec<Segment>> {
        let count = self.layers.len();
        let mut best: Vec<Option<(u64, Vec<Segment>)>> = vec![None; count + 1];
        best[0] = Some((0, Vec::new()));
        for to in 1..=count {
            for from in 0..to {
                let Some((work, segments)) = &best[from] else { continue };
                let Some((segment, more)) = self.segment(backend, from..to, size, memory) else { continue };
                let work = work.saturating_add(more);
                if best[to].as_ref().is_none_or(|(least, _)| work < *least) {
                    let mut segments = segments.clone();
                    segments.push(segment);
                    best[to] = Some((work, segments));
                }
            }
        }
        best.pop().flatten().map(|(_, segments)| segments)
    }

    /// These layers in as few tiles as memory allows, and their work.
    fn segment<B: ImageBackend>(
        &self,
        backend: &B,
        layers: Range<usize>,
        size: (u32, u32),
        memory: u64,
    ) -> Option<(Segment, u64)> {
        let steps = || self.layers[layers.clone()].iter().flatten();
        let side = self.grid(&layers);
        let (rows, columns) = (size.0 * side, size.1 * side);
        let halo = self.halo(&layers).div_ceil(self.side(layers.start) / side);
        #[allow(clippy::cast_possible_truncation)] // as many as the network has
        let norms = steps().filter(|step| matches!(step, Step::Norm(..))).count() as u32;
        let cut = |length| Cut::new(length, 1, halo);
        let mut segment =
            Segment { layers: layers.clone(), side, rows: cut(rows), columns: cut(columns), halo, norms };
        let pixels = self.ends_in_pixels(&layers);
        let last = self.shape(layers.end, size);
        let joined = if pixels {
            // Rows of bytes are padded on a GPU.
            u64::from(last.height) * u64::from(last.width.next_multiple_of(64)) * self.pixel_bytes
        } else {
            0
        };
        let cost = self.cost(backend, &layers);
        let stored = |at: usize| {
            let shape = self.shape(at, size);
            backend.allows(shape).then(|| backend.bytes(shape))
        };
        // Both are pictures of the plan itself where there is one tile; and what goes in first is not on the device.
        let before = if layers.start == 0 { Some(0) } else { stored(layers.start) };
        let behind = if pixels { Some(0) } else { stored(layers.end) };
        let local = !steps().any(|step| matches!(step, Step::Attention));
        let smallest = |length: u32| u64::from(length.min(2 * halo + 1));
        let least = before.zip(behind).map_or(u64::MAX, |(before, behind)| {
            let tile = cost.of(smallest(rows) * smallest(columns));
            tile.saturating_add(before).saturating_add(behind).saturating_add(joined)
        });
        loop {
            let stored = if segment.tiles() == 1 { 0 } else { before?.saturating_add(behind?) };
            let needed = cost
                .of(segment.positions())
                .saturating_add(stored)
                .saturating_add(joined)
                .saturating_add(self.norm_bytes(backend, &segment))
                .saturating_add(backend.overhead());
            if needed <= memory && self.is_allowed(backend, &segment) {
                let work = self.work(&segment, size);
                return Some((segment, work));
            }
            if !local || least > memory {
                return None;
            }
            segment = segment.finer()?;
        }
    }

    /// Bytes of a segment by positions of its grid: measured, or what goes into and comes out of one of its layers.
    fn cost<B: ImageBackend>(&self, backend: &B, layers: &Range<usize>) -> Cost {
        if let Some(cost) = self.costs.get(&(layers.start, layers.end)) {
            return *cost;
        }
        let side = self.grid(layers);
        let of = |at: usize| {
            let factor = u64::from(self.side(at) / side);
            let one = ImageShape { height: 1, width: 1, channels: self.pictures[at].channels };
            backend.bytes(one) * factor * factor
        };
        let each = layers.clone().map(|layer| of(layer) + of(layer + 1)).max().unwrap_or(0);
        Cost { fixed: 0, each }
    }

    /// Bytes of what a segment's tiles measure for its norms.
    fn norm_bytes<B: ImageBackend>(&self, backend: &B, segment: &Segment) -> u64 {
        let steps = self.layers[segment.layers.clone()].iter().flatten();
        steps
            .map(|step| match step {
                Step::Norm(shape, groups) => {
                    backend.norm_bytes(segment.tile_of(*shape), *groups, segment.tiles())
                }
                Step::Conv { .. } | Step::Attention => 0,
            })
            .sum()
    }

    /// Whether the device allows all pictures of a tile.
    fn is_allowed<B: ImageBackend>(&self, backend: &B, segment: &Segment) -> bool {
        let sizes = self.layers[segment.layers.clone()].iter().flatten().filter_map(|step| match step {
            Step::Conv { out, .. } => Some(*out),
            Step::Norm(..) | Step::Attention => None,
        });
        let mut shapes = sizes.chain([self.pictures[segment.layers.start]]);
        shapes.all(|shape| backend.allows(segment.tile_of(shape)))
    }

    /// Positions of what goes in that reach a position of what comes out, on each side.
    fn halo(&self, layers: &Range<usize>) -> u32 {
        let steps = self.layers[layers.clone()].iter().flatten().rev();
        steps.fold(0, |reach, step| match step {
            Step::Conv { filter, upsample, stride, .. } => {
                (reach * stride + filter.kernel / 2).div_ceil(if *upsample { 2 } else { 1 })
            }
            Step::Norm(..) | Step::Attention => reach,
        })
    }

    /// Multiplications of a segment, and what else takes time.
    fn work(&self, segment: &Segment, size: (u32, u32)) -> u64 {
        let tiles = segment.tiles();
        let values = |shape: ImageShape| shape.pixels() * u64::from(shape.channels);
        let copied = if tiles == 1 { 0 } else { VALUE * values(self.pictures[segment.layers.start]) };
        // Of a run up to the current step, and of all runs.
        let (mut run, mut all) = (copied, 0);
        for step in self.layers[segment.layers.clone()].iter().flatten() {
            match step {
                Step::Conv { filter, out, .. } => {
                    let products = filter.inputs * filter.kernel * filter.kernel;
                    run += values(*out) * (u64::from(products) + VALUE);
                }
                Step::Norm(shape, _) => all += VALUE * values(*shape) + if tiles == 1 { 0 } else { run },
                Step::Attention => {}
            }
        }
        all += run;
        if tiles > 1 {
            all += VALUE * values(self.pictures[segment.layers.end]);
        }
        // From positions of the survey to those of all tiles.
        let positions = u128::from(segment.positions()) * u128::from(tiles) / u128::from(segment.side.pow(2));
        let positions = positions.max(u128::from(size.0) * u128::from(size.1));
        u64::try_from(u128::from(all) * positions / u128::from(SURVEY * SURVEY)).unwrap_or(u64::MAX)
    }
}

/// What one layer records at a size, and the size of what comes out.
fn survey_layer<B: ImageBackend>(
    network: &Autoencoder<B::Weights>,
    backend: &mut B,
    input: ImageShape,
    layer: usize,
) -> Result<(Vec<Step>, ImageShape)> {
    let image = backend.image(input)?;
    let mut tape = Tape::new(backend);
    let out = network.forward(&mut tape, &image, layer..layer + 1)?;
    Ok((tape.steps, B::shape(&out)))
}

/// What goes into a tile and what comes out of it, and the norms in between.
pub(super) struct Tile<B: ImageBackend> {
    pub input: B::Image,
    pub output: B::Image,
    pub norms: Vec<B::Norm>,
}

/// Records layers for one of so many tiles.
pub(super) fn record<B: ImageBackend>(
    network: &Autoencoder<B::Weights>,
    backend: &mut B,
    shape: ImageShape,
    layers: &Range<usize>,
    tiles: u32,
) -> Result<Tile<B>> {
    let input = backend.image(shape)?;
    let mut tape = Tape::tiled(backend, tiles);
    let output = network.forward(&mut tape, &input, layers.clone())?;
    Ok(Tile { input, output, norms: tape.norms })
}
