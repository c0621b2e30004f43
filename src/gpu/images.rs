//! The image op set as WGSL: what each operation works on, and how plans run.

use std::cell::RefCell;
use std::rc::Rc;

use half::f16;

use crate::error::{Error, Result};
use crate::gpu::{ARENA_BYTES, Binding, Gpu, GpuBuffer, Grid, MAX_GROUPS, PipelineKey, Plan, Recorder};

use super::kernels::pixels::GpuPixels;
use crate::graph::{
    Activation, Conv, ConvShape, GroupNorm, ImageBackend, ImageShape, Precision, Rect, Window,
};
use crate::graph::{check_attention, check_conv, check_norm, check_weights};

/// Pixels of a tile's side, and output channels of a workgroup.
const TILE: u32 = 8;
const GROUP_CHANNELS: u32 = 32;
/// Slices into which a group's values are cut for its statistics, at most; of a tile fewer, since tiles are many.
const SLICES: u32 = 64;
const TILE_SLICES: u32 = 16;
/// Values of a slice, at least.
const SLICE: u64 = 4096;
/// Multiplications of one submit: a tenth of a second on a slow adapter, below what a page's frames notice
/// on a fast one.
const SUBMIT: u64 = 1 << 32;

/// The largest f16.
const LARGEST: f32 = 65_504.0;

/// Channels as they lie in memory: pairs of vec4, the rest zeros.
pub(super) fn padded(channels: u32) -> u32 {
    channels.next_multiple_of(8)
}

type Pool = Rc<RefCell<Vec<GpuBuffer>>>;

/// Gives its buffer back when the network lets go of it.
pub(super) struct Lease {
    pub(super) buffer: GpuBuffer,
    pool: Pool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.borrow_mut().push(self.buffer.clone());
    }
}

/// A picture, channels padded to eights.
pub struct GpuImage {
    pub(super) lease: Lease,
    shape: ImageShape,
    /// Stored as f16.
    pub(super) half: bool,
}

/// Bytes of a picture.
fn bytes(shape: ImageShape, half: bool) -> u64 {
    shape.pixels() * u64::from(padded(shape.channels)) * if half { 2 } else { 4 }
}

/// Workgroups in the first dimension of a convolution's grid.
fn tiles(shape: ImageShape) -> u64 {
    u64::from(shape.width.div_ceil(TILE)) * u64::from(shape.height.div_ceil(TILE))
}

/// Slices into which the values of a group are cut.
fn slices(input: ImageShape, groups: u32, most: u32) -> u32 {
    let values = input.pixels() * u64::from(input.channels / groups.max(1));
    (values.div_ceil(SLICE) as u32).clamp(1, most)
}

/// Weights and bias of a convolution.
pub struct GpuConvWeights {
    weights: GpuBuffer,
    bias: GpuBuffer,
    shape: ConvShape,
    half: bool,
}

impl GpuConvWeights {
    /// Multiplications for a pixel of the output, padding included.
    fn work(&self) -> u64 {
        let ConvShape { inputs, outputs, kernel } = self.shape;
        u64::from(padded(inputs)) * u64::from(padded(outputs)) * u64::from(kernel * kernel)
    }
}

/// A normalization: what its tiles measured, and the factors made of it.
#[derive(Clone)]
pub struct GpuNorm {
    /// Count, mean and sum of squared differences: (groups, tiles, slices).
    partial: GpuBuffer,
    /// Gains, then biases, padded.
    affine: GpuBuffer,
    /// Scales, then shifts, padded.
    factors: GpuBuffer,
    params: NormParams,
}

/// What is submitted at once, at least.
struct Submit {
    plan: Plan,
    /// Number of the part that it belongs to.
    part: usize,
    /// Multiplications.
    work: u64,
}

/// Submits, one after the other, and what only they use: a buffer is freed with its last owner, recorded
/// or not.
pub struct GpuImagePlan {
    submits: Vec<Submit>,
    _held: Vec<GpuBuffer>,
}

/// The image op set as WGSL.
pub struct GpuImages {
    gpu: Rc<Gpu>,
    pub(super) recorder: Recorder,
    pool: Pool,
    done: Vec<Submit>,
    /// Number of the part that is recorded.
    part: usize,
    pub(super) held: Vec<GpuBuffer>,
    /// Multiplications recorded since the last cut.
    work: u64,
    /// The window that tiled norms measure.
    window: GpuBuffer,
    /// All of a picture, for other norms.
    all: GpuBuffer,
    /// Pictures and weights are stored as f16.
    half: bool,
    /// Not 0 once a value did not fit into f16.
    overflow: GpuBuffer,
}

/// Mirrors `Params` of `shaders/conv.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct ConvParams {
    in_width: u32,
    in_height: u32,
    in_vectors: u32,
    out_width: u32,
    out_height: u32,
    out_vectors: u32,
    border: u32,
    tiles_x: u32,
}

/// Mirrors `Params` of `shaders/group_partial.wgsl` and `group_finish.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct NormParams {
    height: u32,
    width: u32,
    channels: u32,
    group_channels: u32,
    slices: u32,
    groups: u32,
    eps: f32,
    tiles: u32,
}

/// Mirrors `Params` of `shaders/attention_image.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct AttentionParams {
    positions: u32,
    scale: f32,
    pad: [u32; 2],
}

/// Queries of a workgroup of `attention_image`.
const QUERIES: u32 = 4;

impl GpuImages {
    /// A backend on a device, which it may share with a language model. With [`Precision::F16`] pictures take half
    /// the memory, and so do weights.
    ///
    /// # Errors
    /// Device limits.
    pub fn new(gpu: Rc<Gpu>, precision: Precision) -> Result<Self> {
        let window = || {
            let window = gpu.uniform("window", size_of::<Window>() as u64);
            gpu.write(&window, 0, bytemuck::bytes_of(&Window::ALL));
            window
        };
        Ok(GpuImages {
            window: window(),
            all: window(),
            part: 0,
            half: precision == Precision::F16,
            overflow: gpu.storage("overflow", 4)?,
            recorder: Recorder::new(gpu.clone()),
            pool: Pool::default(),
            done: Vec::new(),
            held: Vec::new(),
            work: 0,
            gpu,
        })
    }

    /// The device.
    #[must_use]
    pub fn gpu(&self) -> &Rc<Gpu> {
        &self.gpu
    }

    pub(super) fn filled<T: bytemuck::NoUninit>(&self, label: &str, values: &[T]) -> Result<GpuBuffer> {
        let buffer = self.gpu.storage(label, size_of_val(values) as u64)?;
        self.gpu.write(&buffer, 0, bytemuck::cast_slice(values));
        Ok(buffer)
    }

    fn cut(&mut self, work: u64) {
        self.work += work;
        if self.work >= SUBMIT {
            self.submit();
        }
    }

    /// What was recorded since the last call becomes a submit.
    fn submit(&mut self) {
        let submit = Submit { plan: self.recorder.finish(), part: self.part, work: self.work };
        self.done.push(submit);
        self.work = 0;
    }

    fn record_norm(
        &mut self,
        input: &GpuImage,
        norm: &GroupNorm<'_>,
        tiles: u32,
        most_slices: u32,
        window: &GpuBuffer,
    ) -> Result<GpuNorm> {
        check_norm(input.shape, norm)?;
        let channels = padded(input.shape.channels);
        let group_channels = input.shape.channels / norm.groups;
        let slices = slices(input.shape, norm.groups, most_slices);
        let params = NormParams {
            height: input.shape.height,
            width: input.shape.width,
            channels,
            group_channels,
            slices,
            groups: norm.groups,
            eps: norm.eps,
            tiles,
        };
        let places = u64::from(norm.groups) * u64::from(slices) * u64::from(tiles);
        let partial = self.gpu.storage("group statistics", places * 16)?;
        let mut affine = vec![0.0; 2 * channels as usize];
        affine[..norm.gain.len()].copy_from_slice(norm.gain);
        affine[channels as usize..channels as usize + norm.bias.len()].copy_from_slice(norm.bias);
        let affine = self.filled("group norm", &affine)?;
        let factors = self.filled("group scales", &vec![0.0; 2 * channels as usize])?;
        let bindings = [Binding(1, &input.lease.buffer), Binding(2, &partial), Binding(3, window)];
        let key = PipelineKey::new("group_partial").define_if(input.half, "HALF");
        self.recorder.dispatch(&key, (0, &params), &bindings, Grid::Fixed(slices, norm.groups), 0)?;
        self.held.extend([partial.clone(), affine.clone(), factors.clone()]);
        Ok(GpuNorm { partial, affine, factors, params })
    }
}

fn before(activation: Activation) -> &'static str {
    match activation {
        Activation::None => "BEFORE_NONE",
        Activation::Relu => "BEFORE_RELU",
        Activation::Silu => "BEFORE_SILU",
        Activation::Clamp => "BEFORE_CLAMP",
    }
}

fn after(activation: Activation) -> &'static str {
    match activation {
        Activation::None => "AFTER_NONE",
        Activation::Relu => "AFTER_RELU",
        Activation::Silu => "AFTER_SILU",
        Activation::Clamp => "AFTER_CLAMP",
    }
}

impl ImageBackend for GpuImages {
    type Image = GpuImage;
    type Weights = GpuConvWeights;
    type Norm = GpuNorm;
    type Plan = GpuImagePlan;
    type Pixels = GpuPixels;

    fn image(&mut self, shape: ImageShape) -> Result<GpuImage> {
        let bytes = bytes(shape, self.half);
        let mut free = self.pool.borrow_mut();
        // The tightest that fits, unless it is twice too large.
        let found = free
            .iter()
            .enumerate()
            .filter(|(_, buffer)| (bytes..=2 * bytes.max(8)).contains(&buffer.size()))
            .min_by_key(|(_, buffer)| buffer.size())
            .map(|(i, _)| i);
        let buffer = match found {
            Some(i) => free.swap_remove(i),
            None => self.gpu.storage("a picture", bytes)?,
        };
        Ok(GpuImage { lease: Lease { buffer, pool: self.pool.clone() }, shape, half: self.half })
    }

    fn shape(image: &GpuImage) -> ImageShape {
        image.shape
    }

    fn bytes(&self, shape: ImageShape) -> u64 {
        bytes(shape, self.half)
    }

    fn allows(&self, shape: ImageShape) -> bool {
        bytes(shape, self.half) <= self.gpu.max_binding_bytes() && tiles(shape) <= u64::from(MAX_GROUPS)
    }

    fn weights(
        &mut self,
        label: &str,
        shape: ConvShape,
        weights: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<GpuConvWeights> {
        check_weights(label, shape, weights.len(), bias.map(<[f32]>::len))?;
        let taps = (shape.kernel * shape.kernel) as usize;
        let (inputs, width) = (shape.inputs as usize, padded(shape.inputs) as usize);
        let outputs = padded(shape.outputs) as usize;
        let mut packed = vec![0.0; outputs * taps * width];
        for (o, filter) in weights.chunks_exact(inputs * taps).enumerate() {
            for (i, filter) in filter.chunks_exact(taps).enumerate() {
                for (tap, &w) in filter.iter().enumerate() {
                    packed[(((o / 4) * taps + tap) * width + i) * 4 + o % 4] = w;
                }
            }
        }
        let mut all = bias.unwrap_or_default().to_vec();
        all.resize(outputs, 0.0);
        let half = self.half && packed.iter().all(|w| w.abs() <= LARGEST);
        let weights = if half {
            let packed: Vec<f16> = packed.into_iter().map(f16::from_f32).collect();
            self.filled(label, &packed)?
        } else {
            self.filled(label, &packed)?
        };
        Ok(GpuConvWeights { weights, bias: self.filled(label, &all)?, shape, half })
    }

    fn conv(&mut self, conv: &Conv<'_, Self>, out: &GpuImage) -> Result<()> {
        check_conv(conv, conv.weights.shape, out)?;
        if conv.input.half != out.half || conv.residual.is_some_and(|residual| residual.half != out.half) {
            return Err(Error::Internal { what: "pictures of two precisions in one convolution".to_owned() });
        }
        let (from, to) = (conv.input.shape, out.shape);
        let params = ConvParams {
            in_width: from.width,
            in_height: from.height,
            in_vectors: padded(from.channels) / 4,
            out_width: to.width,
            out_height: to.height,
            out_vectors: padded(to.channels) / 4,
            border: conv.padding,
            tiles_x: to.width.div_ceil(TILE),
        };
        let key = PipelineKey::new("conv")
            .constant("KERNEL", conv.weights.shape.kernel)
            .constant("STRIDE", conv.stride)
            .constant("ENLARGE", if conv.upsample { 2 } else { 1 })
            .define(before(conv.before))
            .define(after(conv.after))
            .define_if(conv.residual.is_some(), "RESIDUAL")
            .define_if(conv.norm.is_some(), "NORM")
            .define_if(out.half, "HALF")
            .define_if(conv.weights.half, "WEIGHTS_F16");
        let mut bindings = vec![
            Binding(1, &conv.weights.weights),
            Binding(2, &conv.weights.bias),
            Binding(3, &conv.input.lease.buffer),
            Binding(4, &out.lease.buffer),
        ];
        if let Some(residual) = conv.residual {
            bindings.push(Binding(5, &residual.lease.buffer));
        }
        if let Some(norm) = conv.norm {
            bindings.push(Binding(6, &norm.factors));
        }
        if out.half {
            bindings.push(Binding(7, &self.overflow));
        }
        let tiles = params.tiles_x * to.height.div_ceil(TILE);
        let grid = Grid::Fixed(tiles, padded(to.channels).div_ceil(GROUP_CHANNELS));
        self.recorder.dispatch(&key, (0, &params), &bindings, grid, conv.weights.weights.size())?;
        self.cut(to.pixels() * conv.weights.work());
        Ok(())
    }

    fn group_norm(&mut self, input: &GpuImage, norm: &GroupNorm<'_>) -> Result<GpuNorm> {
        let all = self.all.clone();
        let norm = self.record_norm(input, norm, 1, SLICES, &all)?;
        self.merge(&norm)?;
        Ok(norm)
    }

    fn tiled_norm(&mut self, input: &GpuImage, norm: &GroupNorm<'_>, tiles: u32) -> Result<GpuNorm> {
        let window = self.window.clone();
        self.record_norm(input, norm, tiles, TILE_SLICES, &window)
    }

    fn norm_bytes(&self, tile: ImageShape, groups: u32, tiles: u32) -> u64 {
        u64::from(slices(tile, groups, TILE_SLICES)) * u64::from(groups) * u64::from(tiles) * 16
    }

    fn overhead(&self) -> u64 {
        // Those of a segment's plan, of the copies in and out, and the one in use.
        4 * ARENA_BYTES
    }

    fn measure(&mut self, window: Window) {
        self.gpu.write(&self.window, 0, bytemuck::bytes_of(&window));
    }

    fn merge(&mut self, norm: &GpuNorm) -> Result<()> {
        let bindings = [Binding(1, &norm.partial), Binding(2, &norm.affine), Binding(3, &norm.factors)];
        let key = PipelineKey::new("group_finish");
        let channels = norm.params.groups * norm.params.group_channels;
        let grid = Grid::Fixed(channels.div_ceil(64), 1);
        self.recorder.dispatch(&key, (0, &norm.params), &bindings, grid, 0)
    }

    fn attention(&mut self, q: &GpuImage, k: &GpuImage, v: &GpuImage, out: &GpuImage) -> Result<()> {
        check_attention([q.shape, k.shape, v.shape, out.shape])?;
        let positions = q.shape.pixels();
        let params = AttentionParams {
            positions: positions as u32,
            scale: 1.0 / (q.shape.channels as f32).sqrt(),
            pad: [0; 2],
        };
        let bindings = [
            Binding(1, &q.lease.buffer),
            Binding(2, &k.lease.buffer),
            Binding(3, &v.lease.buffer),
            Binding(4, &out.lease.buffer),
        ];
        let key = PipelineKey::new("attention_image")
            .constant("VECTORS", q.shape.channels / 4)
            .define_if(out.half, "HALF");
        let grid = Grid::Fixed((positions as u32).div_ceil(QUERIES), 1);
        self.recorder.dispatch(&key, (0, &params), &bindings, grid, 0)?;
        self.cut(2 * positions * positions * u64::from(q.shape.channels));
        Ok(())
    }

    fn pixels(&mut self, input: &GpuImage, scale: f32, shift: f32) -> Result<GpuPixels> {
        self.record_pixels(input, scale, shift)
    }

    fn copy(&mut self, input: &GpuImage, rect: Rect, out: &GpuImage) -> Result<()> {
        self.record_copy(input, rect, out)
    }

    fn blank(&mut self, height: u32, width: u32) -> Result<GpuPixels> {
        self.record_blank(height, width)
    }

    fn place(&mut self, input: &GpuImage, to_bytes: (f32, f32), rect: Rect, to: &GpuPixels) -> Result<()> {
        self.record_place(input, to_bytes, rect, to)
    }

    fn end_part(&mut self) {
        self.submit();
        self.part += 1;
    }

    fn finish(&mut self) -> GpuImagePlan {
        self.submit();
        self.part = 0;
        self.held.append(&mut self.pool.borrow_mut());
        GpuImagePlan { submits: std::mem::take(&mut self.done), _held: std::mem::take(&mut self.held) }
    }

    fn write(&mut self, image: &GpuImage, values: &[f32]) {
        let (channels, stride) = (image.shape.channels as usize, padded(image.shape.channels) as usize);
        let mut padded = vec![0.0f32; image.shape.pixels() as usize * stride];
        for (to, from) in padded.chunks_exact_mut(stride).zip(values.chunks_exact(channels)) {
            to[..channels].copy_from_slice(from);
        }
        if !image.half {
            self.gpu.write(&image.lease.buffer, 0, bytemuck::cast_slice(&padded));
            return;
        }
        if padded.iter().any(|v| v.abs() > LARGEST) {
            self.gpu.write(&self.overflow, 0, &1u32.to_le_bytes());
        }
        let halves: Vec<f16> = padded.iter().map(|v| f16::from_f32(v.clamp(-LARGEST, LARGEST))).collect();
        self.gpu.write(&image.lease.buffer, 0, bytemuck::cast_slice(&halves));
    }

    async fn run_parts(
        &mut self,
        plan: &GpuImagePlan,
        wanted: &dyn Fn(usize) -> bool,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<()> {
        self.gpu.compiled("an image network").await?;
        let mut submits = plan.submits.iter().filter(|submit| wanted(submit.part)).peekable();
        while submits.peek().is_some() {
            if cancelled() {
                return Err(Error::Aborted);
            }
            // Short parts go together: waiting for each would cost more than they do.
            let (mut together, mut work) = (Vec::new(), 0);
            while let Some(submit) = submits.next_if(|next| together.is_empty() || work + next.work <= SUBMIT)
            {
                work += submit.work;
                together.push(&submit.plan);
            }
            self.recorder.run(&together, (0, 1), &[]);
            self.gpu.settle("an image network").await?;
        }
        // Also while the last one ran: a small picture has no other.
        if cancelled() { Err(Error::Aborted) } else { Ok(()) }
    }

    async fn read(&mut self, image: &GpuImage) -> Result<Vec<f32>> {
        let bytes = self.gpu.read(&image.lease.buffer, 0, bytes(image.shape, image.half)).await?;
        let values: Vec<f32> = if image.half {
            bytemuck::pod_collect_to_vec::<_, f16>(&bytes).into_iter().map(f16::to_f32).collect()
        } else {
            bytemuck::pod_collect_to_vec(&bytes)
        };
        let (channels, stride) = (image.shape.channels as usize, padded(image.shape.channels) as usize);
        Ok(values.chunks_exact(stride).flat_map(|pixel| &pixel[..channels]).copied().collect())
    }

    async fn read_pixels(&mut self, pixels: &GpuPixels) -> Result<Vec<u8>> {
        self.bytes(pixels).await
    }

    fn precision(&self) -> Precision {
        if self.half { Precision::F16 } else { Precision::F32 }
    }

    async fn overflowed(&mut self) -> Result<bool> {
        if !self.half {
            return Ok(false);
        }
        let flag = self.gpu.read(&self.overflow, 0, 4).await?;
        self.gpu.write(&self.overflow, 0, &0u32.to_le_bytes());
        Ok(flag.iter().any(|&byte| byte != 0))
    }

    fn widen(&mut self) {
        self.half = false;
    }

    fn allocated_bytes(&self) -> u64 {
        self.gpu.allocated_bytes()
    }

    fn dispatches(plan: &GpuImagePlan, wanted: &dyn Fn(usize) -> bool) -> u64 {
        let submits = plan.submits.iter().filter(|submit| wanted(submit.part));
        submits.map(|submit| submit.plan.traffic().dispatches).sum()
    }
}

#[cfg(test)]
layout_test!(
    conv_layout,
    PipelineKey::new("conv")
        .constant("KERNEL", 3)
        .constant("STRIDE", 1)
        .constant("ENLARGE", 1)
        .define("BEFORE_NONE")
        .define("AFTER_NONE"),
    "params",
    ConvParams { in_width, in_height, in_vectors, out_width, out_height, out_vectors, border, tiles_x }
);

#[cfg(test)]
layout_test!(
    attention_layout,
    PipelineKey::new("attention_image").constant("VECTORS", 16),
    "params",
    AttentionParams { positions, scale }
);

#[cfg(test)]
layout_test!(
    partial_layout,
    PipelineKey::new("group_partial"),
    "params",
    NormParams { height, width, channels, group_channels, slices, groups, eps, tiles }
);

#[cfg(test)]
layout_test!(
    finish_layout,
    PipelineKey::new("group_finish"),
    "params",
    NormParams { height, width, channels, group_channels, slices, groups, eps, tiles }
);

#[cfg(test)]
layout_test!(
    window_layout,
    PipelineKey::new("group_partial"),
    "window",
    Window { top, bottom, left, right, rows, columns, tile }
);
