//! The image op set on the CPU: a plan is a list of operations, run here and now. Threads share the work of one operation,
//! so results do not depend on how many there are.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::graph::{
    Activation, Conv, ConvShape, GroupNorm, HeadShape, ImageBackend, ImageShape, KvType, Precision, Rect,
    Window, check_attention, check_conv, check_copy, check_norm, check_pixels, check_rect, check_weights,
    not_finite,
};

use super::attention::{Attend, AttendScratch, Kept, Planes, head_floats, k_index, v_index};
use super::conv::{self, Before, Convolve, Packed, View, padded};
use super::memory::{Account, Shared, floats};
use super::simd::Level;
use super::team::{SCRATCH, Spread, Team};
use super::winograd;
use crate::yield_now::Breather;

/// Memory of pictures that are no longer needed, by size.
type Pool = Rc<RefCell<Vec<Shared<Vec<f32>>>>>;

/// Gives its memory back when the network lets go of it.
struct Lease {
    data: Shared<Vec<f32>>,
    pool: Pool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.borrow_mut().push(self.data.clone());
    }
}

/// A picture, channels padded to eights.
pub struct CpuImage {
    lease: Rc<Lease>,
    shape: ImageShape,
}

impl CpuImage {
    fn data(&self) -> Shared<Vec<f32>> {
        self.lease.data.clone()
    }

    fn floats(&self) -> usize {
        self.shape.pixels() as usize * padded(self.shape.channels as usize)
    }
}

/// Weights and bias of a convolution.
pub struct CpuConvWeights {
    packed: Shared<Packed>,
    shape: ConvShape,
}

/// A recorded convolution: [`Conv`] with its memory.
struct Step {
    weights: Shared<Packed>,
    /// Side of the kernel.
    kernel: usize,
    input: Shared<Vec<f32>>,
    input_shape: ImageShape,
    norm: Option<CpuNorm>,
    before: Activation,
    upsample: bool,
    stride: usize,
    padding: usize,
    residual: Option<Shared<Vec<f32>>>,
    after: Activation,
    /// Place for the input after norm and activation, if there is either.
    ready: Option<Shared<Vec<f32>>>,
    out: Shared<Vec<f32>>,
    out_shape: ImageShape,
}

enum Op {
    Conv(Box<Step>),
    Attention {
        q: Shared<Vec<f32>>,
        k: Shared<Vec<f32>>,
        v: Shared<Vec<f32>>,
        out: Shared<Vec<f32>>,
        /// Place for keys and values as the kernel wants them.
        ready: Shared<Vec<f32>>,
        shape: ImageShape,
    },
    /// Measures a window of `input`, or all of it and merges.
    Norm {
        input: Shared<Vec<f32>>,
        shape: ImageShape,
        to: CpuNorm,
        whole: bool,
    },
    Merge(CpuNorm),
    Copy {
        input: Shared<Vec<f32>>,
        width: usize,
        rect: Rect,
        out: Shared<Vec<f32>>,
        out_width: usize,
        stride: usize,
    },
    Place(Box<Place>),
}

/// A rectangle of a picture on its way into a picture of bytes.
struct Place {
    input: Shared<Vec<f32>>,
    width: usize,
    stride: usize,
    rect: Rect,
    to_bytes: (f32, f32),
    to: Shared<Vec<f32>>,
    to_width: usize,
}

impl Place {
    fn run(&self) {
        let (input, mut to) = (self.input.read(), self.to.write());
        let (scale, shift) = self.to_bytes;
        let Rect { from, to: at, size } = self.rect;
        for y in 0..size.0 as usize {
            let first = ((from.0 as usize + y) * self.width + from.1 as usize) * self.stride;
            let pixels = input[first..].chunks_exact(self.stride).take(size.1 as usize);
            let first = ((at.0 as usize + y) * self.to_width + at.1 as usize) * JOINED_CHANNELS;
            for (pixel, to) in pixels.zip(to[first..].chunks_exact_mut(JOINED_CHANNELS)) {
                for (to, v) in to.iter_mut().zip(pixel) {
                    *to = v * scale + shift;
                }
            }
        }
    }
}

/// Floats of a pixel of a picture that is put together of tiles.
const JOINED_CHANNELS: usize = 3;

/// A normalization: what its tiles measured, and the factors made of it.
#[derive(Clone)]
pub struct CpuNorm(Rc<NormState>);

struct NormState {
    /// Scales, then shifts, of the channels, padded with zeros.
    factors: Shared<Vec<f32>>,
    /// A value a tile.
    tiles: RefCell<Vec<Sums>>,
    groups: usize,
    eps: f32,
    gain: Vec<f32>,
    bias: Vec<f32>,
}

/// Sums over the pixels of one tile's window, in f64.
#[derive(Clone, Default)]
struct Sums {
    pixels: usize,
    /// The values and the squares of each channel.
    channels: Vec<(f64, f64)>,
}

impl NormState {
    /// Measures a window of a picture for one tile.
    fn measure(&self, team: &mut Team, data: &[f32], shape: ImageShape, window: Window) {
        let channels = shape.channels as usize;
        let stride = padded(channels);
        let at = |part: u32, side: u32, parts: u32| (part * (side / parts)) as usize;
        let (width, rows, columns) = (shape.width as usize, window.rows, window.columns);
        let (top, bottom) = (at(window.top, shape.height, rows), at(window.bottom, shape.height, rows));
        let (left, right) = (at(window.left, shape.width, columns), at(window.right, shape.width, columns));
        // How many rows are added up together depends on nothing but the picture: so do the bits.
        let count = Team::units_of_chunk(bottom - top, 8 * (right - left) * stride);
        let mut parts = vec![(0.0f64, 0.0f64); (bottom - top).div_ceil(count) * channels];
        let sums = Spread::new(&mut parts);
        team.each((bottom - top).div_ceil(count), move |chunk, _| {
            // SAFETY: chunks have sums of their own.
            let sums = unsafe { sums.part(chunk * channels..(chunk + 1) * channels) };
            sums.fill((0.0, 0.0));
            let first = top + chunk * count;
            for y in first..bottom.min(first + count) {
                let line = &data[(y * width + left) * stride..(y * width + right) * stride];
                for pixel in line.chunks_exact(stride) {
                    for (sum, &v) in sums.iter_mut().zip(pixel) {
                        let v = f64::from(v);
                        sum.0 += v;
                        sum.1 += v * v;
                    }
                }
            }
        });
        let mut sums = vec![(0.0f64, 0.0f64); channels];
        for part in parts.chunks_exact(channels) {
            for (sum, part) in sums.iter_mut().zip(part) {
                *sum = (sum.0 + part.0, sum.1 + part.1);
            }
        }
        if let Some(tile) = self.tiles.borrow_mut().get_mut(window.tile as usize) {
            *tile = Sums { pixels: (bottom - top) * (right - left), channels: sums };
        }
    }

    /// Turns mean and variance of each group over all tiles into a scale and a shift of each channel.
    fn merge(&self) {
        let tiles = self.tiles.borrow();
        let mut factors = self.factors.write();
        let size = self.gain.len() / self.groups;
        let stride = padded(self.gain.len());
        let count = (size * tiles.iter().map(|tile| tile.pixels).sum::<usize>()) as f64;
        for g in 0..self.groups {
            let members = g * size..(g + 1) * size;
            let sums =
                || tiles.iter().flat_map(|tile| tile.channels.get(members.clone()).unwrap_or_default());
            let mean = sums().map(|s| s.0).sum::<f64>() / count;
            let variance = (sums().map(|s| s.1).sum::<f64>() / count - mean * mean).max(0.0);
            let factor = 1.0 / (variance + f64::from(self.eps)).sqrt();
            for c in members.clone() {
                let scale = f64::from(self.gain[c]) * factor;
                factors[c] = scale as f32;
                factors[stride + c] = (f64::from(self.bias[c]) - mean * scale) as f32;
            }
        }
    }
}

/// Recorded operations, in parts.
pub struct CpuImagePlan(Vec<Vec<Op>>);

/// A picture that is turned into bytes when they are read.
pub struct CpuPixels {
    data: Shared<Vec<f32>>,
    height: u32,
    width: u32,
    /// Floats of a pixel.
    stride: usize,
    scale: f32,
    shift: f32,
}

/// The image op set as SIMD code.
pub struct CpuImages {
    level: Level,
    team: Team,
    account: Account,
    pool: Pool,
    /// Operations of each part.
    recording: Vec<Vec<Op>>,
    /// The weights of one convolution at a time, transformed by `winograd.rs`: as large as the largest needs.
    transformed: Shared<Vec<f32>>,
    /// A pixel outside of a picture, of as many channels as the widest convolution has.
    zeros: Vec<f32>,
    breath: Breather,
    window: Window,
}

impl CpuImages {
    /// A backend of one thread.
    #[must_use]
    pub fn new(level: Level) -> Self {
        let account: Account = Rc::new(Cell::new(0));
        CpuImages {
            level,
            team: Team::solo(),
            transformed: Shared::new(&account, 0, Vec::new()),
            account,
            pool: Pool::default(),
            recording: Vec::new(),
            zeros: Vec::new(),
            breath: Breather::default(),
            window: Window::ALL,
        }
    }

    /// With others who share the work.
    #[must_use]
    pub fn with_team(self, team: Team) -> Self {
        CpuImages { team, ..self }
    }

    /// Threads that compute.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.team.size()
    }

    fn run_conv(&mut self, step: &Step) {
        let input = step.input.read();
        let stride = padded(step.input_shape.channels as usize);
        let used = step.input_shape.pixels() as usize * stride;
        let mut ready = step.ready.as_ref().map(Shared::write);
        let data = match &mut ready {
            Some(ready) => {
                let norm = step.norm.as_ref().map(|norm| norm.0.factors.read());
                conv::before(
                    self.level,
                    &mut self.team,
                    Before {
                        from: &input[..used],
                        norm: norm.as_ref().map(|norm| norm.as_slice()),
                        channels: stride,
                        activation: step.before,
                        to: &mut ready[..used],
                    },
                );
                &ready[..used]
            }
            None => &input[..used],
        };
        let (height, width) = (step.input_shape.height as usize, step.input_shape.width as usize);
        let weights = step.weights.read();
        let residual = step.residual.as_ref().map(Shared::read);
        let mut out = step.out.write();
        let convolve = Convolve {
            weights: &weights,
            input: View { data, height, width, stride },
            zeros: &self.zeros[..stride],
            upsample: step.upsample,
            stride: step.stride,
            padding: step.padding,
            residual: residual.as_ref().map(|r| r.as_slice()),
            after: step.after,
            out: Spread::new(&mut out),
            out_height: step.out_shape.height as usize,
            out_width: step.out_shape.width as usize,
        };
        if winograd::fits(step.kernel, &convolve) {
            winograd::convolve(self.level, &mut self.team, &convolve, &mut self.transformed.write());
        } else {
            conv::convolve(self.level, &mut self.team, &convolve);
        }
    }
}

impl CpuImages {
    /// Channels are whole vectors, so pictures are (positions, D) without padding.
    fn run_attention(
        &mut self,
        (q, k, v): (&[f32], &[f32], &[f32]),
        ready: &mut [f32],
        out: &mut [f32],
        shape: ImageShape,
    ) {
        let (positions, dim) = (shape.pixels() as usize, shape.channels as usize);
        let floats = head_floats(positions, dim);
        let (keys, values) = ready[..2 * floats].split_at_mut(floats);
        for (pos, (k, v)) in k.chunks_exact(dim).zip(v.chunks_exact(dim)).take(positions).enumerate() {
            for (c, (&k, &v)) in k.iter().zip(v).enumerate() {
                keys[k_index(dim, pos, c)] = k;
                values[v_index(dim, pos, c)] = v;
            }
        }
        let shape = HeadShape {
            heads: 1,
            kv_heads: 1,
            head_dim: shape.channels,
            scale: 1.0 / (dim as f32).sqrt(),
            cap: 0.0,
            window: 0,
            max_batch: 0,
            capacity: positions as u32,
            kv: KvType::F32,
        };
        let kept = Kept::F32(Planes { cells: ready[..2 * floats].as_chunks().0, scales: &[] });
        let level = self.level;
        let job = Attend { level, shape, kept, q, stride: dim, pos: 0, count: positions, all: true };
        if !job.is_in_place() || job.scratch_floats() > SCRATCH {
            job.alone(&mut AttendScratch::default(), out, dim);
            return;
        }
        let (floats, all) = (job.chunk_floats(), positions * dim);
        let out = Spread::new(out);
        self.team.each(job.chunks(), move |chunk, scratch| {
            // SAFETY: chunks have rows of their own.
            let out = unsafe { out.part(chunk * floats..all.min((chunk + 1) * floats)) };
            job.run(chunk, scratch, out);
        });
    }
}

impl CpuImages {
    /// Memory of so many floats, used before or new.
    fn lease(&mut self, count: u64) -> Result<Lease> {
        let mut free = self.pool.borrow_mut();
        // The tightest that fits, unless it is twice too large.
        let found = free
            .iter()
            .enumerate()
            .filter(|(_, data)| (count..=2 * count).contains(&(data.read().len() as u64)))
            .min_by_key(|(_, data)| data.read().len())
            .map(|(i, _)| i);
        let data = match found {
            Some(i) => free.swap_remove(i),
            None => floats(&self.account, "a picture", count)?,
        };
        Ok(Lease { data, pool: self.pool.clone() })
    }

    fn record(&mut self, op: Op) {
        match self.recording.last_mut() {
            Some(part) => part.push(op),
            None => self.recording.push(vec![op]),
        }
    }

    fn record_norm(
        &mut self,
        input: &CpuImage,
        norm: &GroupNorm<'_>,
        tiles: u32,
        whole: bool,
    ) -> Result<CpuNorm> {
        check_norm(input.shape, norm)?;
        let to = CpuNorm(Rc::new(NormState {
            factors: floats(&self.account, "a norm", 2 * padded(input.shape.channels as usize) as u64)?,
            tiles: RefCell::new(vec![Sums::default(); tiles as usize]),
            groups: norm.groups as usize,
            eps: norm.eps,
            gain: norm.gain.to_vec(),
            bias: norm.bias.to_vec(),
        }));
        self.record(Op::Norm { input: input.data(), shape: input.shape, to: to.clone(), whole });
        Ok(to)
    }
}

impl ImageBackend for CpuImages {
    type Image = CpuImage;
    type Weights = CpuConvWeights;
    type Norm = CpuNorm;
    type Plan = CpuImagePlan;
    type Pixels = CpuPixels;

    fn image(&mut self, shape: ImageShape) -> Result<CpuImage> {
        let count = shape.pixels() * padded(shape.channels as usize) as u64;
        Ok(CpuImage { lease: Rc::new(self.lease(count)?), shape })
    }

    fn shape(image: &CpuImage) -> ImageShape {
        image.shape
    }

    fn bytes(&self, shape: ImageShape) -> u64 {
        shape.pixels() * padded(shape.channels as usize) as u64 * 4
    }

    fn allows(&self, _: ImageShape) -> bool {
        true
    }

    fn weights(
        &mut self,
        label: &str,
        shape: ConvShape,
        weights: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self::Weights> {
        check_weights(label, shape, weights.len(), bias.map(<[f32]>::len))?;
        let (outputs, inputs) = (shape.outputs as usize, shape.inputs as usize);
        let packed = Packed::new(outputs, inputs, shape.kernel as usize, weights, bias);
        let bytes = packed.bytes() as u64;
        self.zeros.resize(self.zeros.len().max(packed.inputs()), 0.0);
        // Made here and not while a network runs, so that a lack of memory shows while it is loaded.
        let count = winograd::floats(outputs, inputs);
        if shape.kernel > 1 && self.transformed.read().len() < count {
            self.transformed = floats(&self.account, "transformed weights", count as u64)?;
        }
        Ok(CpuConvWeights { packed: Shared::new(&self.account, bytes, packed), shape })
    }

    fn conv(&mut self, conv: &Conv<'_, Self>, out: &CpuImage) -> Result<()> {
        check_conv(conv, conv.weights.shape, out)?;
        let ready = if conv.norm.is_some() || conv.before != Activation::None {
            // Free for the next operation once this one is recorded: operations run one after the other.
            Some(self.lease(conv.input.floats() as u64)?.data.clone())
        } else {
            None
        };
        self.record(Op::Conv(Box::new(Step {
            weights: conv.weights.packed.clone(),
            kernel: conv.weights.shape.kernel as usize,
            input: conv.input.data(),
            input_shape: conv.input.shape,
            norm: conv.norm.cloned(),
            before: conv.before,
            upsample: conv.upsample,
            stride: conv.stride as usize,
            padding: conv.padding as usize,
            residual: conv.residual.map(CpuImage::data),
            after: conv.after,
            ready,
            out: out.data(),
            out_shape: out.shape,
        })));
        Ok(())
    }

    fn group_norm(&mut self, input: &CpuImage, norm: &GroupNorm<'_>) -> Result<CpuNorm> {
        self.record_norm(input, norm, 1, true)
    }

    fn tiled_norm(&mut self, input: &CpuImage, norm: &GroupNorm<'_>, tiles: u32) -> Result<CpuNorm> {
        self.record_norm(input, norm, tiles, false)
    }

    fn norm_bytes(&self, tile: ImageShape, _: u32, tiles: u32) -> u64 {
        u64::from(tile.channels) * u64::from(tiles) * size_of::<(f64, f64)>() as u64
    }

    fn overhead(&self) -> u64 {
        0
    }

    fn measure(&mut self, window: Window) {
        self.window = window;
    }

    fn merge(&mut self, norm: &CpuNorm) -> Result<()> {
        self.record(Op::Merge(norm.clone()));
        Ok(())
    }

    fn attention(&mut self, q: &CpuImage, k: &CpuImage, v: &CpuImage, out: &CpuImage) -> Result<()> {
        check_attention([q.shape, k.shape, v.shape, out.shape])?;
        let (shape, out) = (q.shape, out.data());
        let count = 2 * head_floats(shape.pixels() as usize, shape.channels as usize) as u64;
        // Free for the next operation once this one is recorded: operations run one after the other.
        let ready = self.lease(count)?.data.clone();
        self.record(Op::Attention { q: q.data(), k: k.data(), v: v.data(), ready, out, shape });
        Ok(())
    }

    fn pixels(&mut self, input: &CpuImage, scale: f32, shift: f32) -> Result<CpuPixels> {
        check_pixels(input.shape)?;
        let ImageShape { height, width, channels } = input.shape;
        Ok(CpuPixels { data: input.data(), height, width, stride: padded(channels as usize), scale, shift })
    }

    fn copy(&mut self, input: &CpuImage, rect: Rect, out: &CpuImage) -> Result<()> {
        check_copy(input.shape, rect, out.shape)?;
        self.record(Op::Copy {
            input: input.data(),
            width: input.shape.width as usize,
            rect,
            out: out.data(),
            out_width: out.shape.width as usize,
            stride: padded(out.shape.channels as usize),
        });
        Ok(())
    }

    fn blank(&mut self, height: u32, width: u32) -> Result<CpuPixels> {
        let count = u64::from(height) * u64::from(width) * JOINED_CHANNELS as u64;
        let data = floats(&self.account, "a picture", count)?;
        Ok(CpuPixels { data, height, width, stride: JOINED_CHANNELS, scale: 1.0, shift: 0.0 })
    }

    fn place(&mut self, input: &CpuImage, to_bytes: (f32, f32), rect: Rect, to: &CpuPixels) -> Result<()> {
        let shape = input.shape;
        check_pixels(shape)?;
        check_rect((shape.height, shape.width), rect, (to.height, to.width))?;
        self.record(Op::Place(Box::new(Place {
            input: input.data(),
            width: shape.width as usize,
            stride: padded(shape.channels as usize),
            rect,
            to_bytes,
            to: to.data.clone(),
            to_width: to.width as usize,
        })));
        Ok(())
    }

    fn end_part(&mut self) {
        if self.recording.is_empty() {
            self.recording.push(Vec::new());
        }
        self.recording.push(Vec::new());
    }

    fn finish(&mut self) -> CpuImagePlan {
        self.pool.borrow_mut().clear();
        CpuImagePlan(std::mem::take(&mut self.recording))
    }

    fn write(&mut self, image: &CpuImage, values: &[f32]) {
        let channels = image.shape.channels as usize;
        let mut data = image.lease.data.write();
        data[..image.floats()].fill(0.0);
        for (to, from) in data.chunks_exact_mut(padded(channels)).zip(values.chunks_exact(channels)) {
            to[..channels].copy_from_slice(from);
        }
    }

    async fn run_parts(
        &mut self,
        plan: &CpuImagePlan,
        wanted: &dyn Fn(usize) -> bool,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<()> {
        let parts = plan.0.iter().enumerate().filter(|(number, _)| wanted(*number));
        for op in parts.flat_map(|(_, part)| part) {
            self.breath.take().await;
            if cancelled() {
                return Err(Error::Aborted);
            }
            match op {
                Op::Conv(step) => self.run_conv(step),
                Op::Attention { q, k, v, ready, out, shape } => {
                    let (q, k, v) = (q.read(), k.read(), v.read());
                    self.run_attention((&q, &k, &v), &mut ready.write(), &mut out.write(), *shape);
                }
                Op::Norm { input, shape, to: CpuNorm(norm), whole } => {
                    let window = if *whole { Window::ALL } else { self.window };
                    norm.measure(&mut self.team, &input.read(), *shape, window);
                    if *whole {
                        norm.merge();
                    }
                }
                Op::Merge(CpuNorm(norm)) => norm.merge(),
                Op::Copy { input, width, rect: Rect { from, to, size }, out, out_width, stride } => {
                    let (input, mut out) = (input.read(), out.write());
                    let line = size.1 as usize * stride;
                    for y in 0..size.0 as usize {
                        let from = ((from.0 as usize + y) * width + from.1 as usize) * stride;
                        let to = ((to.0 as usize + y) * out_width + to.1 as usize) * stride;
                        out[to..to + line].copy_from_slice(&input[from..from + line]);
                    }
                }
                Op::Place(place) => place.run(),
            }
        }
        if cancelled() { Err(Error::Aborted) } else { Ok(()) }
    }

    async fn read(&mut self, image: &CpuImage) -> Result<Vec<f32>> {
        let channels = image.shape.channels as usize;
        let data = image.lease.data.read();
        let pixels = data[..image.floats()].chunks_exact(padded(channels));
        Ok(pixels.flat_map(|pixel| &pixel[..channels]).copied().collect())
    }

    async fn read_pixels(&mut self, pixels: &CpuPixels) -> Result<Vec<u8>> {
        let data = pixels.data.read();
        let mut rgba = Vec::new();
        let count = pixels.height as usize * pixels.width as usize;
        if rgba.try_reserve_exact(count * 4).is_err() {
            return Err(Error::OutOfMemory { what: "a picture".to_owned(), bytes: count as u64 * 4 });
        }
        for pixel in data.chunks_exact(pixels.stride).take(count) {
            if !pixel[..3].iter().all(|v| v.is_finite()) {
                return Err(not_finite("picture"));
            }
            // Not `round`, which is a call in WebAssembly.
            let byte = |v: f32| ((v * pixels.scale + pixels.shift).clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
            rgba.extend([byte(pixel[0]), byte(pixel[1]), byte(pixel[2]), 255]);
        }
        Ok(rgba)
    }

    fn allocated_bytes(&self) -> u64 {
        self.account.get()
    }

    fn precision(&self) -> Precision {
        Precision::F32
    }

    async fn overflowed(&mut self) -> Result<bool> {
        Ok(false)
    }

    fn widen(&mut self) {}

    fn dispatches(_: &CpuImagePlan, _: &dyn Fn(usize) -> bool) -> u64 {
        0
    }
}
