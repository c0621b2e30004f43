//! The op set of an image network (VAE encoder and decoder): a second small trait beside
//! [`super::Backend`], since nothing of a language model's state occurs here.
//!
//! Pictures are f32, (height, width, channels), channels innermost. A network is recorded for one size;
//! memory of a picture that is dropped while recording is used again by later operations.

use crate::error::{Error, Result};

/// Size of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageShape {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// Values of a pixel.
    pub channels: u32,
}

impl ImageShape {
    /// Pixels.
    #[must_use]
    pub fn pixels(self) -> u64 {
        u64::from(self.height) * u64::from(self.width)
    }
}

/// How pictures inside a network are stored. Arithmetic is f32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, on a GPU; so are the weights. A network whose values do not fit is computed again with pictures of
    /// 32 bits.
    F16,
}

impl Precision {
    /// Stable, for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
        }
    }
}

/// Shape of a convolution's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvShape {
    /// Input channels.
    pub inputs: u32,
    /// Output channels.
    pub outputs: u32,
    /// 1 or 3.
    pub kernel: u32,
}

/// A function that is applied to each value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    /// x.
    #[default]
    None,
    /// max(x, 0).
    Relu,
    /// x / (1 + e^-x).
    Silu,
    /// 3 tanh(x / 3): TAESD's soft clamp of latents.
    Clamp,
}

/// One convolution with what is fused into it:
/// `out = after(W ∗ upsample(before(norm(input))) + bias + residual)`.
pub struct Conv<'a, B: ImageBackend> {
    /// Weights and bias.
    pub weights: &'a B::Weights,
    /// The input.
    pub input: &'a B::Image,
    /// Scale and shift of each input channel, from [`ImageBackend::group_norm`].
    pub norm: Option<&'a B::Norm>,
    /// Activation of the (normalized) input, before the convolution.
    pub before: Activation,
    /// Nearest-neighbour enlargement of the input, 2 × 2, without a picture of that size in memory.
    pub upsample: bool,
    /// 1 or 2.
    pub stride: u32,
    /// Rows and columns of zeros above and left; below and right as many as the output needs.
    pub padding: u32,
    /// A picture that is added to the convolution's output.
    pub residual: Option<&'a B::Image>,
    /// Activation of the output, after the residual is added.
    pub after: Activation,
}

/// A normalization over groups of channels (Wu and He, "Group Normalization", 2018).
pub struct GroupNorm<'a> {
    /// Groups; divides the channels.
    pub groups: u32,
    /// Added to the variance.
    pub eps: f32,
    /// A gain for each channel.
    pub gain: &'a [f32],
    /// A bias for each channel.
    pub bias: &'a [f32],
}

/// The part of a tile that [`ImageBackend::tiled_norm`] measures: rows and columns of a coarse grid, of which the
/// tile is a whole multiple. It changes from tile to tile, while the plan stays.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Window {
    /// First row.
    pub top: u32,
    /// Row behind the last.
    pub bottom: u32,
    /// First column.
    pub left: u32,
    /// Column behind the last.
    pub right: u32,
    /// Rows of the grid.
    pub rows: u32,
    /// Columns of the grid.
    pub columns: u32,
    /// Number of the tile.
    pub tile: u32,
    /// Unused; keeps the size a multiple of 16 bytes, as WGSL has it.
    pub pad: u32,
}

impl Window {
    /// All of a picture that is a single tile.
    pub const ALL: Self =
        Window { top: 0, bottom: 1, left: 0, right: 1, rows: 1, columns: 1, tile: 0, pad: 0 };
}

/// A rectangle to copy from one picture into another. Places are (row, column).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// First row and column in the source.
    pub from: (u32, u32),
    /// First row and column in the destination.
    pub to: (u32, u32),
    /// Rows and columns.
    pub size: (u32, u32),
}

/// What an image network is written over.
#[allow(async_fn_in_trait)] // one thread, in the browser's worker and natively alike
pub trait ImageBackend: Sized {
    /// A picture of f32.
    type Image;
    /// Weights and bias of a convolution.
    type Weights;
    /// Scale and shift of each channel, and the statistics that they are made of. Clones share them.
    type Norm: Clone;
    /// Operations recorded, ready to run.
    type Plan;
    /// A picture of bytes.
    type Pixels;

    /// A picture with unspecified contents.
    ///
    /// # Errors
    /// Out of memory, or over a limit of the device.
    fn image(&mut self, shape: ImageShape) -> Result<Self::Image>;
    /// Size of a picture.
    fn shape(image: &Self::Image) -> ImageShape;
    /// Bytes that a picture takes.
    fn bytes(&self, shape: ImageShape) -> u64;
    /// Whether the device's limits allow a picture, and a convolution that makes it.
    fn allows(&self, shape: ImageShape) -> bool;
    /// Weights (outputs, inputs, kernel, kernel), as PyTorch has them, and a bias of each output.
    ///
    /// # Errors
    /// As for [`ImageBackend::image`]; a kernel that is neither 1 nor 3 wide.
    fn weights(
        &mut self,
        label: &str,
        shape: ConvShape,
        weights: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self::Weights>;

    /// Records a convolution.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn conv(&mut self, conv: &Conv<'_, Self>, out: &Self::Image) -> Result<()>;
    /// Records the statistics of a normalization over all of a picture, which the next convolution applies.
    ///
    /// # Errors
    /// As for [`ImageBackend::conv`].
    fn group_norm(&mut self, input: &Self::Image, norm: &GroupNorm<'_>) -> Result<Self::Norm>;
    /// Records the statistics of a normalization over one of `tiles` tiles of a picture. Each run measures the
    /// window, and counts for the tile, that [`ImageBackend::measure`] names. The norm holds scales and shifts once
    /// [`ImageBackend::merge`] has run.
    ///
    /// # Errors
    /// As for [`ImageBackend::conv`].
    fn tiled_norm(&mut self, input: &Self::Image, norm: &GroupNorm<'_>, tiles: u32) -> Result<Self::Norm>;
    /// Bytes of what the tiles of a norm measure, beside the pictures.
    fn norm_bytes(&self, tile: ImageShape, groups: u32, tiles: u32) -> u64;
    /// Bytes that plans may take beside pictures and norms, since parameters come in larger pieces.
    fn overhead(&self) -> u64;
    /// Sets what tiled norms measure from the next run on.
    fn measure(&mut self, window: Window);
    /// Records the merging of what all tiles of a norm measured into the scales and shifts of the whole picture.
    ///
    /// # Errors
    /// As for [`ImageBackend::conv`].
    fn merge(&mut self, norm: &Self::Norm) -> Result<()>;
    /// Records softmax(q kᵀ / √D) v over all positions, one head of D channels, a multiple of 8 and at
    /// most 512. All four of one size.
    ///
    /// # Errors
    /// As for [`ImageBackend::conv`].
    fn attention(
        &mut self,
        q: &Self::Image,
        k: &Self::Image,
        v: &Self::Image,
        out: &Self::Image,
    ) -> Result<()>;
    /// Records the conversion of a picture of three channels to bytes: `255 (value · scale + shift)`, rounded
    /// and clamped, with an opaque alpha.
    ///
    /// # Errors
    /// As for [`ImageBackend::conv`].
    fn pixels(&mut self, input: &Self::Image, scale: f32, shift: f32) -> Result<Self::Pixels>;
    /// Records the copy of a rectangle into another picture of as many channels.
    ///
    /// # Errors
    /// As for [`ImageBackend::conv`].
    fn copy(&mut self, input: &Self::Image, rect: Rect, out: &Self::Image) -> Result<()>;
    /// A picture of bytes to put together of tiles by [`ImageBackend::place`].
    ///
    /// # Errors
    /// As for [`ImageBackend::image`].
    fn blank(&mut self, height: u32, width: u32) -> Result<Self::Pixels>;
    /// Records the conversion of a rectangle to bytes, by scale and shift as [`ImageBackend::pixels`] does it.
    ///
    /// # Errors
    /// As for [`ImageBackend::conv`].
    fn place(
        &mut self,
        input: &Self::Image,
        to_bytes: (f32, f32),
        rect: Rect,
        to: &Self::Pixels,
    ) -> Result<()>;
    /// Ends a part of the plan: what is recorded next is the part of the next number. See
    /// [`ImageBackend::run_parts`].
    fn end_part(&mut self);
    /// Takes what was recorded since the last call, or what there is of it after an error. Memory that only
    /// the plan uses is the plan's from then on, and goes with it.
    fn finish(&mut self) -> Self::Plan;

    /// Fills a picture, (height, width, channels) without padding.
    fn write(&mut self, image: &Self::Image, values: &[f32]);
    /// Runs a plan, in submits short enough that a page keeps its frame rate. `cancelled` is asked
    /// between them.
    ///
    /// # Errors
    /// [`Error::Aborted`]; device lost, out of memory.
    async fn run(&mut self, plan: &Self::Plan, cancelled: &dyn Fn() -> bool) -> Result<()> {
        self.run_parts(plan, &|_| true, cancelled).await
    }
    /// Runs only the parts of a plan whose numbers are `wanted`. A plan has one part more than
    /// [`ImageBackend::end_part`] was called while it was recorded.
    ///
    /// # Errors
    /// As for [`ImageBackend::run`].
    async fn run_parts(
        &mut self,
        plan: &Self::Plan,
        wanted: &dyn Fn(usize) -> bool,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<()>;
    /// The values of a picture, (height, width, channels) without padding.
    ///
    /// # Errors
    /// Device lost, out of memory.
    async fn read(&mut self, image: &Self::Image) -> Result<Vec<f32>>;
    /// The bytes of a picture: (height, width, 4), red first.
    ///
    /// # Errors
    /// Device lost, out of memory.
    async fn read_pixels(&mut self, pixels: &Self::Pixels) -> Result<Vec<u8>>;
    /// Bytes of all live buffers.
    fn allocated_bytes(&self) -> u64;
    /// How pictures made from now on are stored.
    fn precision(&self) -> Precision;
    /// Whether a value did not fit into the storage of its picture since the last call.
    ///
    /// # Errors
    /// Device lost.
    async fn overflowed(&mut self) -> Result<bool>;
    /// Pictures made from now on are [`Precision::F32`].
    fn widen(&mut self);
    /// Kernel launches of the `wanted` parts of a plan.
    fn dispatches(plan: &Self::Plan, wanted: &dyn Fn(usize) -> bool) -> u64;
}

fn mismatch(what: &str, found: &[u32], expected: &[u32]) -> Error {
    let wide = |dims: &[u32]| dims.iter().map(|&d| u64::from(d)).collect();
    Error::ShapeMismatch { what: what.to_owned(), found: wide(found), expected: wide(expected) }
}

/// The error for values that came out of a network and mean nothing.
pub(crate) fn not_finite(what: &str) -> Error {
    Error::Malformed {
        what: format!(
            "the {what} that came out has values that are not finite: the model's weights are damaged, or what went in \
             is far from what the model was trained on"
        ),
    }
}

/// Whether weights and bias have the length that their shape says, and a size that there are kernels for.
pub(crate) fn check_weights(
    label: &str,
    shape: ConvShape,
    weights: usize,
    bias: Option<usize>,
) -> Result<()> {
    let ConvShape { inputs, outputs, kernel } = shape;
    if kernel != 1 && kernel != 3 {
        return Err(Error::UnsupportedModel {
            what: format!("{label}: a kernel of {kernel} × {kernel} (1 and 3 are supported)"),
        });
    }
    let wanted = u64::from(inputs) * u64::from(outputs) * u64::from(kernel * kernel);
    if inputs == 0 || outputs == 0 || wanted != weights as u64 || bias.is_some_and(|b| b != outputs as usize)
    {
        return Err(mismatch(label, &[weights as u32], &[outputs, inputs, kernel, kernel]));
    }
    Ok(())
}

/// Whether the pictures of a convolution fit together.
pub(crate) fn check_conv<B: ImageBackend>(
    conv: &Conv<'_, B>,
    weights: ConvShape,
    out: &B::Image,
) -> Result<()> {
    let (input, out) = (B::shape(conv.input), B::shape(out));
    if input.channels != weights.inputs || out.channels != weights.outputs {
        let found = [input.channels, out.channels];
        return Err(mismatch("channels of a convolution", &found, &[weights.inputs, weights.outputs]));
    }
    if conv.residual.is_some_and(|residual| B::shape(residual) != out) {
        return Err(mismatch("residual", &[out.height, out.width], &[out.height, out.width, out.channels]));
    }
    let factor = if conv.upsample { 2 } else { 1 };
    let fits = |input: u32, out: u32| {
        // At most one row or column of zeros behind the end.
        let end = u64::from(out.saturating_sub(1)) * u64::from(conv.stride) + u64::from(weights.kernel);
        out > 0 && end <= u64::from(input) * factor + 1 + u64::from(conv.padding)
    };
    let strides = [1, 2].contains(&conv.stride) && conv.padding <= 1;
    if strides && fits(input.height, out.height) && fits(input.width, out.width) {
        return Ok(());
    }
    Err(mismatch("size of a convolution", &[out.height, out.width], &[input.height, input.width]))
}

/// Whether the pictures of an attention have one size that there are kernels for.
pub(crate) fn check_attention(shapes: [ImageShape; 4]) -> Result<()> {
    let shape = shapes[0];
    if shapes.iter().any(|other| *other != shape) {
        let size = |s: ImageShape| [s.height, s.width, s.channels];
        let other = shapes.into_iter().find(|other| *other != shape).unwrap_or(shape);
        return Err(mismatch("attention", &size(other), &size(shape)));
    }
    if shape.channels == 0 || !shape.channels.is_multiple_of(8) || shape.channels > 512 {
        return Err(Error::UnsupportedModel {
            what: format!(
                "attention over {} channels (multiples of 8 up to 512 are supported)",
                shape.channels
            ),
        });
    }
    Ok(())
}

/// Whether a picture can be turned into bytes.
pub(crate) fn check_pixels(input: ImageShape) -> Result<()> {
    if input.channels == 3 { Ok(()) } else { Err(mismatch("a picture of bytes", &[input.channels], &[3])) }
}

/// Whether a rectangle is not empty and lies inside both pictures, of (height, width).
pub(crate) fn check_rect(input: (u32, u32), rect: Rect, out: (u32, u32)) -> Result<()> {
    let fits =
        |from: u32, size: u32, all: u32| size > 0 && from.checked_add(size).is_some_and(|end| end <= all);
    let inside = |(top, left): (u32, u32), (height, width): (u32, u32)| {
        fits(top, rect.size.0, height) && fits(left, rect.size.1, width)
    };
    if inside(rect.from, input) && inside(rect.to, out) {
        return Ok(());
    }
    Err(mismatch("a rectangle to copy", &[rect.size.0, rect.size.1], &[input.0, input.1, out.0, out.1]))
}

/// Whether a rectangle can be copied from one picture into another.
pub(crate) fn check_copy(input: ImageShape, rect: Rect, out: ImageShape) -> Result<()> {
    if input.channels != out.channels {
        return Err(mismatch("channels of a copy", &[out.channels], &[input.channels]));
    }
    check_rect((input.height, input.width), rect, (out.height, out.width))
}

/// Whether a normalization fits its picture.
pub(crate) fn check_norm(input: ImageShape, norm: &GroupNorm<'_>) -> Result<()> {
    let channels = input.channels as usize;
    if norm.groups == 0
        || !input.channels.is_multiple_of(norm.groups)
        || norm.gain.len() != channels
        || norm.bias.len() != channels
    {
        let found = [norm.gain.len() as u32, norm.bias.len() as u32, norm.groups];
        return Err(mismatch("group norm", &found, &[input.channels, input.channels]));
    }
    Ok(())
}
