//! The image op set on the CPU: a plan is a list of operations, run here and now.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::ops::{
    Activation, Conv, ConvShape, GroupNorm, ImageBackend, ImageShape, Precision, Window, check_attention,
    check_conv, check_crop, check_norm, check_pixels, check_tile, check_weights,
};

use super::attention::{Cells, Head, Planes, Query, attend, head_floats, k_index, v_index};
use super::breath::Breath;
use super::conv::{self, Before, Convolve, Packed, View, padded};
use super::memory::{Account, Shared, floats};
use super::simd::Level;
use super::winograd::{self, Winograd};

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
        shape: ImageShape,
    },
    Norm {
        input: Shared<Vec<f32>>,
        shape: ImageShape,
        groups: usize,
        eps: f32,
        gain: Vec<f32>,
        bias: Vec<f32>,
        to: CpuNorm,
    },
    Crop {
        input: Shared<Vec<f32>>,
        width: usize,
        from: (u32, u32),
        out: Shared<Vec<f32>>,
        shape: ImageShape,
    },
    Blend(Box<Blend>),
}

/// A tile on its way into a picture.
struct Blend {
    tile: Shared<Vec<f32>>,
    shape: ImageShape,
    to_bytes: (f32, f32),
    at: (usize, usize),
    down: Vec<f32>,
    across: Vec<f32>,
    to: Shared<Vec<f32>>,
    width: usize,
}

impl Blend {
    fn run(&self) {
        let (tile, mut to) = (self.tile.read(), self.to.write());
        let stride = padded(self.shape.channels as usize);
        let (scale, shift) = self.to_bytes;
        let lines = tile.chunks_exact(self.across.len() * stride).zip(&self.down);
        for (y, (line, wy)) in lines.enumerate() {
            let from = ((self.at.0 + y) * self.width + self.at.1) * SUM_CHANNELS;
            let sums = to[from..].chunks_exact_mut(SUM_CHANNELS);
            for ((pixel, sum), wx) in line.chunks_exact(stride).zip(sums).zip(&self.across) {
                for (sum, v) in sum.iter_mut().zip(pixel) {
                    *sum += wy * wx * (v * scale + shift).clamp(0.0, 1.0);
                }
            }
        }
    }
}

/// Of a picture that is put together of tiles.
const SUM_CHANNELS: usize = 3;

/// Scales, then shifts, of the channels, padded with zeros.
pub type CpuNorm = Shared<Vec<f32>>;

/// Recorded operations.
pub struct CpuImagePlan(Vec<Op>);

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
    account: Account,
    pool: Pool,
    recording: Vec<Op>,
    /// The input of a convolution after its norm and activation.
    ready: Vec<f32>,
    /// The weights of one convolution at a time, transformed by `winograd.rs`: as large as the largest needs.
    transformed: Shared<Vec<f32>>,
    /// Of `winograd.rs`.
    scratch: Vec<f32>,
    breath: Breath,
    window: Window,
}

impl CpuImages {
    /// A backend.
    #[must_use]
    pub fn new(level: Level) -> Self {
        let account: Account = Rc::new(Cell::new(0));
        CpuImages {
            level,
            transformed: Shared::new(&account, 0, Vec::new()),
            account,
            pool: Pool::default(),
            recording: Vec::new(),
            ready: Vec::new(),
            scratch: Vec::new(),
            breath: Breath::default(),
            window: Window::ALL,
        }
    }

    fn run_conv(&mut self, step: &Step) {
        let input = step.input.read();
        let stride = padded(step.input_shape.channels as usize);
        let used = step.input_shape.pixels() as usize * stride;
        let data = if step.norm.is_some() || step.before != Activation::None {
            self.ready.resize(used.max(self.ready.len()), 0.0);
            let norm = step.norm.as_ref().map(Shared::read);
            conv::before(
                self.level,
                Before {
                    from: &input[..used],
                    norm: norm.as_ref().map(|norm| norm.as_slice()),
                    channels: stride,
                    activation: step.before,
                    to: &mut self.ready[..used],
                },
            );
            &self.ready[..used]
        } else {
            &input[..used]
        };
        let (height, width) = (step.input_shape.height as usize, step.input_shape.width as usize);
        let weights = step.weights.read();
        let residual = step.residual.as_ref().map(Shared::read);
        let mut out = step.out.write();
        let convolve = Convolve {
            weights: &weights,
            input: View { data, height, width, stride },
            upsample: step.upsample,
            stride: step.stride,
            padding: step.padding,
            residual: residual.as_ref().map(|r| r.as_slice()),
            after: step.after,
            out: &mut out,
            out_height: step.out_shape.height as usize,
            out_width: step.out_shape.width as usize,
        };
        if winograd::fits(step.kernel, step.stride, step.padding) {
            let (mut weights, scratch) = (self.transformed.write(), &mut self.scratch);
            winograd::convolve(self.level, Winograd { convolve, weights: &mut weights, scratch });
        } else {
            conv::convolve(self.level, convolve);
        }
    }
}

impl CpuImages {
    /// Channels are whole vectors, so pictures are (positions, D) without padding.
    fn run_attention(&mut self, q: &[f32], k: &[f32], v: &[f32], out: &mut [f32], shape: ImageShape) {
        let (positions, dim) = (shape.pixels() as usize, shape.channels as usize);
        let floats = head_floats(positions, dim);
        self.ready.resize((2 * floats).max(self.ready.len()), 0.0);
        let (keys, values) = self.ready[..2 * floats].split_at_mut(floats);
        for (pos, (k, v)) in k.chunks_exact(dim).zip(v.chunks_exact(dim)).take(positions).enumerate() {
            for (c, (&k, &v)) in k.iter().zip(v).enumerate() {
                keys[k_index(dim, pos, c)] = k;
                values[v_index(dim, pos, c)] = v;
            }
        }
        let rows = q.chunks_exact(dim).zip(out.chunks_exact_mut(dim)).take(positions);
        let mut queries: Vec<Query<'_>> = rows.map(|(q, out)| Query::new(q, positions, out)).collect();
        let (k, v) = (keys.as_chunks().0, values.as_chunks().0);
        let cells = Cells::F32(Planes { k, v, k_scales: &[], v_scales: &[] });
        attend(self.level, Head { cells, dim }, &mut queries);
    }
}

/// Mean and variance of each group in f64, turned into a scale and a shift of each channel.
fn statistics(
    data: &[f32],
    shape: ImageShape,
    window: Window,
    groups: usize,
    eps: f32,
    gain: &[f32],
    bias: &[f32],
) -> Vec<f32> {
    let channels = shape.channels as usize;
    let stride = padded(channels);
    let at = |part: u32, side: u32, parts: u32| (part * side / parts) as usize;
    let (width, rows, columns) = (shape.width as usize, window.rows, window.columns);
    let (top, bottom) = (at(window.top, shape.height, rows), at(window.bottom, shape.height, rows));
    let (left, right) = (at(window.left, shape.width, columns), at(window.right, shape.width, columns));
    let mut sums = vec![(0.0f64, 0.0f64); channels];
    for y in top..bottom {
        let line = &data[(y * width + left) * stride..(y * width + right) * stride];
        for pixel in line.chunks_exact(stride) {
            for (sum, &v) in sums.iter_mut().zip(pixel) {
                let v = f64::from(v);
                sum.0 += v;
                sum.1 += v * v;
            }
        }
    }
    let size = channels / groups;
    let count = (size * (bottom - top) * (right - left)) as f64;
    let mut norm = vec![0.0; 2 * stride];
    for (g, group) in sums.chunks_exact(size).enumerate() {
        let mean = group.iter().map(|s| s.0).sum::<f64>() / count;
        let variance = (group.iter().map(|s| s.1).sum::<f64>() / count - mean * mean).max(0.0);
        let factor = 1.0 / (variance + f64::from(eps)).sqrt();
        for c in g * size..(g + 1) * size {
            let scale = f64::from(gain[c]) * factor;
            norm[c] = scale as f32;
            norm[stride + c] = (f64::from(bias[c]) - mean * scale) as f32;
        }
    }
    norm
}

impl ImageBackend for CpuImages {
    type Image = CpuImage;
    type Weights = CpuConvWeights;
    type Norm = CpuNorm;
    type Plan = CpuImagePlan;
    type Pixels = CpuPixels;

    fn image(&mut self, shape: ImageShape) -> Result<CpuImage> {
        let count = shape.pixels() * padded(shape.channels as usize) as u64;
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
        Ok(CpuImage { lease: Rc::new(Lease { data, pool: self.pool.clone() }), shape })
    }

    fn shape(image: &CpuImage) -> ImageShape {
        image.shape
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
        // Made here and not while a network runs, so that a lack of memory shows while it is loaded.
        let count = winograd::floats(outputs, inputs);
        if shape.kernel > 1 && self.transformed.read().len() < count {
            self.transformed = floats(&self.account, "transformed weights", count as u64)?;
        }
        Ok(CpuConvWeights { packed: Shared::new(&self.account, bytes, packed), shape })
    }

    fn kernel(weights: &Self::Weights) -> u32 {
        weights.shape.kernel
    }

    fn conv(&mut self, conv: &Conv<'_, Self>, out: &CpuImage) -> Result<()> {
        check_conv(conv, conv.weights.shape, out)?;
        self.recording.push(Op::Conv(Box::new(Step {
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
            out: out.data(),
            out_shape: out.shape,
        })));
        Ok(())
    }

    fn group_norm(&mut self, input: &CpuImage, norm: &GroupNorm<'_>) -> Result<CpuNorm> {
        check_norm(input.shape, norm)?;
        let to = floats(&self.account, "a norm", 2 * padded(input.shape.channels as usize) as u64)?;
        self.recording.push(Op::Norm {
            input: input.data(),
            shape: input.shape,
            groups: norm.groups as usize,
            eps: norm.eps,
            gain: norm.gain.to_vec(),
            bias: norm.bias.to_vec(),
            to: to.clone(),
        });
        Ok(to)
    }

    fn measure(&mut self, window: Window) {
        self.window = window;
    }

    fn given_norm(&mut self, channels: u32) -> Result<CpuNorm> {
        floats(&self.account, "a norm", 2 * padded(channels as usize) as u64)
    }

    fn write_norm(&mut self, norm: &CpuNorm, scales: &[f32], shifts: &[f32]) {
        let mut values = norm.write();
        let stride = padded(scales.len());
        values[..scales.len()].copy_from_slice(scales);
        values[stride..stride + shifts.len()].copy_from_slice(shifts);
    }

    async fn read_norm(&mut self, norm: &CpuNorm, channels: u32) -> Result<(Vec<f32>, Vec<f32>)> {
        let (values, count) = (norm.read(), channels as usize);
        let stride = padded(count);
        Ok((values[..count].to_vec(), values[stride..stride + count].to_vec()))
    }

    fn attention(&mut self, q: &CpuImage, k: &CpuImage, v: &CpuImage, out: &CpuImage) -> Result<()> {
        check_attention([q.shape, k.shape, v.shape, out.shape])?;
        let (shape, out) = (q.shape, out.data());
        self.recording.push(Op::Attention { q: q.data(), k: k.data(), v: v.data(), out, shape });
        Ok(())
    }

    fn pixels(&mut self, input: &CpuImage, scale: f32, shift: f32) -> Result<CpuPixels> {
        check_pixels(input.shape)?;
        let ImageShape { height, width, channels } = input.shape;
        Ok(CpuPixels { data: input.data(), height, width, stride: padded(channels as usize), scale, shift })
    }

    fn crop(&mut self, input: &CpuImage, from: (u32, u32), out: &CpuImage) -> Result<()> {
        check_crop(input.shape, from, out.shape)?;
        let width = input.shape.width as usize;
        self.recording.push(Op::Crop { input: input.data(), width, from, out: out.data(), shape: out.shape });
        Ok(())
    }

    fn blank(&mut self, height: u32, width: u32) -> Result<CpuPixels> {
        let count = u64::from(height) * u64::from(width) * SUM_CHANNELS as u64;
        let data = floats(&self.account, "a picture", count)?;
        Ok(CpuPixels { data, height, width, stride: SUM_CHANNELS, scale: 1.0, shift: 0.0 })
    }

    fn blend(
        &mut self,
        tile: &CpuImage,
        to_bytes: (f32, f32),
        at: (u32, u32),
        (down, across): (&[f32], &[f32]),
        to: &CpuPixels,
    ) -> Result<()> {
        check_tile(tile.shape, at, (down.len(), across.len()), (to.height, to.width))?;
        self.recording.push(Op::Blend(Box::new(Blend {
            tile: tile.data(),
            shape: tile.shape,
            to_bytes,
            at: (at.0 as usize, at.1 as usize),
            down: down.to_vec(),
            across: across.to_vec(),
            to: to.data.clone(),
            width: to.width as usize,
        })));
        Ok(())
    }

    fn join(&mut self, _: &CpuPixels) -> Result<()> {
        Ok(())
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

    async fn run(&mut self, plan: &CpuImagePlan, cancelled: &dyn Fn() -> bool) -> Result<()> {
        for op in &plan.0 {
            self.breath.take().await;
            if cancelled() {
                return Err(Error::Aborted);
            }
            match op {
                Op::Conv(step) => self.run_conv(step),
                Op::Attention { q, k, v, out, shape } => {
                    let (q, k, v) = (q.read(), k.read(), v.read());
                    self.run_attention(&q, &k, &v, &mut out.write(), *shape);
                }
                Op::Norm { input, shape, groups, eps, gain, bias, to } => {
                    let norm = statistics(&input.read(), *shape, self.window, *groups, *eps, gain, bias);
                    to.write().copy_from_slice(&norm);
                }
                Op::Crop { input, width, from: (top, left), out, shape } => {
                    let (input, mut out) = (input.read(), out.write());
                    let stride = padded(shape.channels as usize);
                    let line = shape.width as usize * stride;
                    let lines = out.chunks_exact_mut(line).take(shape.height as usize);
                    for (y, to) in lines.enumerate() {
                        let at = ((*top as usize + y) * width + *left as usize) * stride;
                        to.copy_from_slice(&input[at..at + line]);
                    }
                }
                Op::Blend(blend) => blend.run(),
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
            let byte = |v: f32| ((v * pixels.scale + pixels.shift).clamp(0.0, 1.0) * 255.0).round() as u8;
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

    fn dispatches(_: &CpuImagePlan) -> u64 {
        0
    }
}
