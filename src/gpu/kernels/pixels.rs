//! Pictures of bytes on the GPU: made at once or put together of tiles, read back or shown on a canvas. And copies of
//! rectangles from picture to picture.

use crate::error::{Error, Result};
use crate::gpu::{Binding, GpuBuffer, Grid, PipelineKey};

use crate::gpu::images::{GpuImage, GpuImages, padded};
use crate::graph::{ImageBackend, ImageShape, Rect, check_copy, check_pixels, check_rect};

/// Words of a row of bytes are a multiple of this, as a copy to a texture wants them.
const ROW_WORDS: u32 = 64;
/// Threads of a workgroup of the kernels here.
const THREADS: u32 = 64;

/// A picture of bytes, red lowest in a word, rows padded to whole multiples of 256 bytes.
pub struct GpuPixels {
    rgba: GpuBuffer,
    width: u32,
    height: u32,
}

/// Mirrors `Params` of `shaders/to_rgba.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct PixelParams {
    width: u32,
    pixels: u32,
    vectors: u32,
    row: u32,
    in_width: u32,
    in_first: u32,
    out_width: u32,
    out_first: u32,
    scale: f32,
    shift: f32,
    pad: [u32; 2],
}

/// Mirrors `Params` of `shaders/copy.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct CopyParams {
    width: u32,
    vectors: u32,
    count: u32,
    row: u32,
    in_width: u32,
    in_first: u32,
    out_width: u32,
    out_first: u32,
}

/// A grid with a thread for each of so many items, and the threads of a row of it.
fn threads(items: u32) -> (Grid, u32) {
    let grid = Grid::folded(items.div_ceil(THREADS));
    let row = if let Grid::Fixed(groups, _) = grid { groups * THREADS } else { 0 };
    (grid, row)
}

impl GpuPixels {
    fn row_words(&self) -> u32 {
        self.width.next_multiple_of(ROW_WORDS)
    }
}

impl GpuImages {
    pub(in crate::gpu) fn record_pixels(
        &mut self,
        input: &GpuImage,
        scale: f32,
        shift: f32,
    ) -> Result<GpuPixels> {
        let ImageShape { height, width, .. } = Self::shape(input);
        check_pixels(Self::shape(input))?;
        let to = self.record_blank(height, width)?;
        let all = Rect { from: (0, 0), to: (0, 0), size: (height, width) };
        self.record_place(input, (scale, shift), all, &to)?;
        Ok(to)
    }

    pub(in crate::gpu) fn record_blank(&mut self, height: u32, width: u32) -> Result<GpuPixels> {
        let row = u64::from(width.next_multiple_of(ROW_WORDS));
        Ok(GpuPixels { rgba: self.gpu().storage("pixels", row * u64::from(height) * 4)?, width, height })
    }

    pub(in crate::gpu) fn record_place(
        &mut self,
        input: &GpuImage,
        (scale, shift): (f32, f32),
        rect: Rect,
        to: &GpuPixels,
    ) -> Result<()> {
        let shape = Self::shape(input);
        check_pixels(shape)?;
        check_rect((shape.height, shape.width), rect, (to.height, to.width))?;
        let Rect { from, to: at, size } = rect;
        let (grid, row) = threads(size.0 * size.1);
        let params = PixelParams {
            width: size.1,
            pixels: size.0 * size.1,
            vectors: padded(shape.channels) / 4,
            row,
            in_width: shape.width,
            in_first: from.0 * shape.width + from.1,
            out_width: to.row_words(),
            out_first: at.0 * to.row_words() + at.1,
            scale,
            shift,
            pad: [0; 2],
        };
        let key = PipelineKey::new("to_rgba").define_if(input.half, "HALF");
        let bindings = [Binding(1, &input.lease.buffer), Binding(2, &to.rgba)];
        self.recorder.dispatch(&key, (0, &params), &bindings, grid, 0)
    }

    pub(in crate::gpu) fn record_copy(&mut self, input: &GpuImage, rect: Rect, out: &GpuImage) -> Result<()> {
        let (from, to) = (Self::shape(input), Self::shape(out));
        check_copy(from, rect, to)?;
        if input.half != out.half {
            return Err(Error::Internal { what: "a copy between pictures of two precisions".to_owned() });
        }
        let Rect { from: source, to: at, size } = rect;
        let vectors = padded(to.channels) / 4;
        let count = size.0 * size.1 * vectors;
        let (grid, row) = threads(count);
        let params = CopyParams {
            width: size.1,
            vectors,
            count,
            row,
            in_width: from.width,
            in_first: source.0 * from.width + source.1,
            out_width: to.width,
            out_first: at.0 * to.width + at.1,
        };
        let key = PipelineKey::new("copy").define_if(input.half, "HALF");
        let bindings = [Binding(1, &input.lease.buffer), Binding(2, &out.lease.buffer)];
        self.recorder.dispatch(&key, (0, &params), &bindings, grid, 0)
    }

    pub(in crate::gpu) async fn bytes(&self, pixels: &GpuPixels) -> Result<Vec<u8>> {
        let row = pixels.row_words() as usize * 4;
        let mut bytes = self.gpu().read(&pixels.rgba, 0, row as u64 * u64::from(pixels.height)).await?;
        let (width, height) = (pixels.width as usize * 4, pixels.height as usize);
        if width < row {
            for y in 1..height {
                bytes.copy_within(y * row..y * row + width, y * width);
            }
            bytes.truncate(width * height);
        }
        Ok(bytes)
    }

    /// Shows a picture of bytes on a canvas; it never comes to the CPU.
    ///
    /// # Errors
    /// A canvas that cannot be drawn on; device lost.
    #[cfg(target_arch = "wasm32")]
    pub fn show(&self, pixels: &GpuPixels, canvas: &crate::gpu::Canvas) -> Result<()> {
        self.gpu().show(&pixels.rgba, pixels.row_words() * 4, (pixels.width, pixels.height), canvas)
    }
}

#[cfg(test)]
layout_test!(
    pixels_layout,
    PipelineKey::new("to_rgba"),
    "params",
    PixelParams { width, pixels, vectors, row, in_width, in_first, out_width, out_first, scale, shift }
);

#[cfg(test)]
layout_test!(
    copy_layout,
    PipelineKey::new("copy"),
    "params",
    CopyParams { width, vectors, count, row, in_width, in_first, out_width, out_first }
);
