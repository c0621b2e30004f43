//! One network, recorded for the size of the last call and kept; or planned in tiles.

use std::rc::Rc;

use crate::error::{Error, Result};
use crate::graph::{ImageBackend, ImageShape};
use crate::model::image::{Autoencoder, Direction, Tape};

use super::plan::{Cost, Segment, Survey};

/// How exactly an error says what memory is needed, in bytes.
const EXACT: u64 = 1 << 16;

/// A network recorded for one size.
pub(super) struct Recorded<B: ImageBackend> {
    pub shape: ImageShape,
    pub input: B::Image,
    pub output: B::Image,
    /// The bytes of a decoder's picture.
    pub pixels: Option<Rc<B::Pixels>>,
    pub plan: B::Plan,
    /// Bytes of all of it.
    pub bytes: u64,
}

pub(super) struct Network<B: ImageBackend> {
    pub layers: Autoencoder<B::Weights>,
    pub whole: Option<Recorded<B>>,
    /// Bytes of the network in one piece, by positions of the latents, once measured.
    cost: Option<Cost>,
    /// For plans in tiles, once one was needed.
    survey: Option<Survey>,
}

/// How a picture of one size is computed.
pub(super) enum Layout {
    /// At once, by [`Network::whole`].
    Whole,
    /// Segment by segment.
    Segments(Vec<Segment>),
}

pub(super) fn no_plan() -> Error {
    Error::Internal { what: "a network that was not recorded".to_owned() }
}

impl<B: ImageBackend> Network<B> {
    pub fn new(layers: Autoencoder<B::Weights>) -> Self {
        Network { layers, whole: None, cost: None, survey: None }
    }

    fn is_decoder(&self) -> bool {
        self.layers.direction == Direction::Decoder
    }

    /// Records the network for a size; of a decoder with the bytes of its picture.
    pub fn record(&self, backend: &mut B, shape: ImageShape) -> Result<Recorded<B>> {
        // What is left of earlier sizes goes first.
        drop(backend.finish());
        let before = backend.allocated_bytes();
        let recorded = self.try_record(backend, shape);
        // After an error too: what was recorded so far must not run with the next plan.
        let plan = backend.finish();
        let (input, output, pixels) = recorded?;
        let bytes = backend.allocated_bytes().saturating_sub(before);
        Ok(Recorded { shape, input, output, pixels: pixels.map(Rc::new), plan, bytes })
    }

    #[allow(clippy::type_complexity)] // the three pictures of `Recorded`
    fn try_record(
        &self,
        backend: &mut B,
        shape: ImageShape,
    ) -> Result<(B::Image, B::Image, Option<B::Pixels>)> {
        let input = backend.image(shape)?;
        let output = self.layers.forward(&mut Tape::new(backend), &input, 0..self.layers.count())?;
        let pixels = if self.is_decoder() {
            let (scale, shift) = self.layers.to_bytes();
            Some(backend.pixels(&output, scale, shift)?)
        } else {
            None
        };
        Ok((input, output, pixels))
    }

    /// Records the whole network for a size, if it is not yet.
    pub fn whole(&mut self, backend: &mut B, shape: ImageShape) -> Result<&Recorded<B>> {
        if self.whole.as_ref().is_none_or(|kept| kept.shape != shape) {
            // First of all the old memory: two sizes may not fit.
            self.forget();
            self.whole = Some(self.record(backend, shape)?);
        }
        self.whole.as_ref().ok_or_else(no_plan)
    }

    /// Chooses how to compute so many rows and columns of latent positions within `memory` bytes: with the whole
    /// network, which is recorded, or in segments.
    pub fn lay_out(&mut self, backend: &mut B, size: (u32, u32), memory: Option<u64>) -> Result<Layout> {
        let memory = memory.unwrap_or(u64::MAX);
        let positions = u64::from(size.0) * u64::from(size.1);
        let whole = self.cost(backend)?.of(positions);
        let mut refused = None;
        if whole <= memory {
            match self.whole(backend, self.input(size)) {
                Ok(_) => return Ok(Layout::Whole),
                Err(error @ Error::DeviceLimit { .. }) => refused = Some(error),
                Err(other) => return Err(other),
            }
        }
        self.forget();
        drop(backend.finish());
        let mut survey = match self.survey.take() {
            Some(survey) => survey,
            None => Survey::new(&self.layers, backend)?,
        };
        let segments = survey.plan(&self.layers, backend, size, memory)?;
        if segments.is_none() && refused.is_none() {
            let needed = self.needed(&mut survey, backend, size, (memory, whole))?;
            refused = Some(Error::InvalidOption {
                option: "memoryBytes",
                value: format!("{memory} bytes, where this size needs {needed} bytes"),
                range: "enough for the layers at the latents' resolution, and for tiles of the others".into(),
            });
        }
        self.survey = Some(survey);
        segments.map(Layout::Segments).ok_or_else(|| refused.unwrap_or_else(no_plan))
    }

    /// Plans again, with less memory than before.
    pub fn plan_again(&mut self, backend: &mut B, size: (u32, u32), memory: u64) -> Result<Vec<Segment>> {
        let mut survey = self.survey.take().ok_or_else(no_plan)?;
        let segments = survey.plan(&self.layers, backend, size, memory);
        self.survey = Some(survey);
        segments?.ok_or_else(|| Error::InvalidOption {
            option: "memoryBytes",
            value: format!("{memory} bytes"),
            range: "enough for the layers at the latents' resolution, and for tiles of the others".into(),
        })
    }

    /// About the least bytes that a plan for a size needs: more than `too_few`, `enough` at most.
    fn needed(
        &self,
        survey: &mut Survey,
        backend: &mut B,
        size: (u32, u32),
        (mut too_few, mut enough): (u64, u64),
    ) -> Result<u64> {
        while enough.saturating_sub(too_few) > EXACT.max(enough / 32) {
            let middle = too_few.midpoint(enough);
            if survey.plan(&self.layers, backend, size, middle)?.is_some() {
                enough = middle;
            } else {
                too_few = middle;
            }
        }
        Ok(enough.next_multiple_of(EXACT))
    }

    /// What a plan was made with.
    pub fn survey(&self) -> Result<&Survey> {
        self.survey.as_ref().ok_or_else(no_plan)
    }

    /// What goes in for so many rows and columns of latent positions.
    fn input(&self, (rows, columns): (u32, u32)) -> ImageShape {
        let side = if self.is_decoder() { 1 } else { self.layers.scale };
        ImageShape { height: rows * side, width: columns * side, channels: self.layers.inputs }
    }

    /// Bytes that the network in one piece takes: all its pictures grow with the positions.
    fn cost(&mut self, backend: &mut B) -> Result<Cost> {
        if let Some(cost) = self.cost {
            return Ok(cost);
        }
        let cost = Cost::measured(|side| {
            let bytes = self.record(backend, self.input((side, side)))?.bytes;
            drop(backend.finish());
            Ok(bytes)
        })?;
        self.cost = Some(cost);
        Ok(cost)
    }

    /// Forgets the recorded size, and gives its memory back.
    pub fn forget(&mut self) {
        self.whole = None;
    }

    /// Also forgets what sizes cost: pictures are stored in another way from now on.
    pub fn reset(&mut self) {
        self.forget();
        self.cost = None;
        self.survey = None;
    }

    pub fn check(&self, input: ImageShape, enlarged: u32, most: u32) -> Result<()> {
        let sides = [input.height, input.width];
        let fits =
            sides.iter().all(|&side| side > 0 && u64::from(side) * u64::from(enlarged) <= u64::from(most));
        if fits && input.channels == self.layers.inputs {
            return Ok(());
        }
        Err(Error::InvalidOption {
            // Only latents are enlarged.
            option: if enlarged == 1 { "image" } else { "latents" },
            value: format!("{} channels, {} × {}", input.channels, input.height, input.width),
            range: format!("{} channels, and sides from 1 to {}", self.layers.inputs, most / enlarged.max(1))
                .into(),
        })
    }
}

impl<B: ImageBackend> Recorded<B> {
    /// Runs it on new values.
    pub async fn run(&self, backend: &mut B, values: &[f32], cancelled: &dyn Fn() -> bool) -> Result<()> {
        backend.write(&self.input, values);
        backend.run(&self.plan, cancelled).await
    }

    /// The picture that came out.
    pub fn pixels(&self) -> Result<Rc<B::Pixels>> {
        let none = || Error::Internal { what: "a network that does not end in a picture".to_owned() };
        self.pixels.clone().ok_or_else(none)
    }
}
