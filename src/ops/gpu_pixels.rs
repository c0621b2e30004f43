//! Pictures of bytes on the GPU: made at once or put together of tiles, read back or shown on a canvas.

use crate::error::{Error, Result};
use crate::gpu::{Binding, GpuBuffer, Grid, PipelineKey};

use super::gpu_images::{GpuImage, GpuImages, padded};
use super::image::{ImageBackend, check_crop, check_pixels, check_tile};

/// Words of a row of bytes are a multiple of this, as a copy to a texture wants them.
const ROW_WORDS: u32 = 64;
/// Threads of a workgroup of the kernels here.
const THREADS: u32 = 64;

/// A picture of bytes, red lowest in a word, rows padded to whole multiples of 256 bytes.
pub struct GpuPixels {
    rgba: GpuBuffer,
    /// What tiles are added to.
    sums: Option<GpuBuffer>,
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
    out_width: u32,
    row: u32,
    scale: f32,
    shift: f32,
    pad: u32,
}

/// Mirrors `Params` of `shaders/crop.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct CropParams {
    in_width: u32,
    out_width: u32,
    vectors: u32,
    count: u32,
    left: u32,
    top: u32,
    row: u32,
    pad: u32,
}

/// Mirrors `Params` of `shaders/blend.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct BlendParams {
    width: u32,
    pixels: u32,
    vectors: u32,
    out_width: u32,
    left: u32,
    top: u32,
    row: u32,
    scale: f32,
    shift: f32,
    pad: [u32; 3],
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
    fn bytes_of(&mut self, height: u32, width: u32, sums: bool) -> Result<GpuPixels> {
        let pixels = u64::from(height) * u64::from(width);
        let row = u64::from(width.next_multiple_of(ROW_WORDS));
        let sums = if sums { Some(self.gpu().storage("sums of pixels", pixels * 8)?) } else { None };
        Ok(GpuPixels {
            rgba: self.gpu().storage("pixels", row * u64::from(height) * 4)?,
            sums,
            width,
            height,
        })
    }

    pub(super) fn record_pixels(&mut self, input: &GpuImage, scale: f32, shift: f32) -> Result<GpuPixels> {
        let shape = Self::shape(input);
        check_pixels(shape)?;
        let to = self.bytes_of(shape.height, shape.width, false)?;
        let key = PipelineKey::new("to_rgba").define_if(input.half, "HALF");
        self.record_rgba(&key, &input.lease.buffer, padded(shape.channels) / 4, (scale, shift), &to)?;
        Ok(to)
    }

    pub(super) fn record_blank(&mut self, height: u32, width: u32) -> Result<GpuPixels> {
        self.bytes_of(height, width, true)
    }

    pub(super) fn record_join(&mut self, to: &GpuPixels) -> Result<()> {
        let sums = to.sums.as_ref().ok_or_else(whole)?;
        let key = PipelineKey::new("to_rgba").define("JOINED");
        self.record_rgba(&key, sums, 0, (1.0, 0.0), to)
    }

    fn record_rgba(
        &mut self,
        key: &PipelineKey,
        from: &GpuBuffer,
        vectors: u32,
        (scale, shift): (f32, f32),
        to: &GpuPixels,
    ) -> Result<()> {
        let pixels = to.width * to.height;
        let (grid, row) = threads(pixels);
        let (width, out_width) = (to.width, to.row_words());
        let params = PixelParams { width, pixels, vectors, out_width, row, scale, shift, pad: 0 };
        let bindings = [Binding(1, from), Binding(2, &to.rgba)];
        self.recorder.dispatch(key, (0, &params), &bindings, grid, 0)
    }

    pub(super) fn record_crop(
        &mut self,
        input: &GpuImage,
        (top, left): (u32, u32),
        out: &GpuImage,
    ) -> Result<()> {
        let (from, to) = (Self::shape(input), Self::shape(out));
        check_crop(from, (top, left), to)?;
        let vectors = padded(to.channels) / 4;
        let count = to.width * to.height * vectors;
        let (grid, row) = threads(count);
        let params =
            CropParams { in_width: from.width, out_width: to.width, vectors, count, left, top, row, pad: 0 };
        let key = PipelineKey::new("crop").define_if(input.half, "HALF");
        let bindings = [Binding(1, &input.lease.buffer), Binding(2, &out.lease.buffer)];
        self.recorder.dispatch(&key, (0, &params), &bindings, grid, 0)
    }

    pub(super) fn record_blend(
        &mut self,
        tile: &GpuImage,
        (scale, shift): (f32, f32),
        (top, left): (u32, u32),
        (down, across): (&[f32], &[f32]),
        to: &GpuPixels,
    ) -> Result<()> {
        let shape = Self::shape(tile);
        check_tile(shape, (top, left), (down.len(), across.len()), (to.height, to.width))?;
        let sums = to.sums.as_ref().ok_or_else(whole)?;
        let weights = self.filled("weights of a tile", &[across, down].concat())?;
        let pixels = shape.pixels() as u32;
        let (grid, row) = threads(pixels);
        let params = BlendParams {
            width: shape.width,
            pixels,
            vectors: padded(shape.channels) / 4,
            out_width: to.width,
            left,
            top,
            row,
            scale,
            shift,
            pad: [0; 3],
        };
        let key = PipelineKey::new("blend").define_if(tile.half, "HALF");
        let bindings = [Binding(1, &tile.lease.buffer), Binding(2, &weights), Binding(3, sums)];
        self.recorder.dispatch(&key, (0, &params), &bindings, grid, 0)?;
        self.held.push(weights);
        Ok(())
    }

    pub(super) async fn bytes(&self, pixels: &GpuPixels) -> Result<Vec<u8>> {
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

fn whole() -> Error {
    Error::Internal { what: "a tile for a picture that was made at once".to_owned() }
}

#[cfg(test)]
layout_test!(
    pixels_layout,
    PipelineKey::new("to_rgba"),
    "params",
    PixelParams { width, pixels, vectors, out_width, row, scale, shift }
);

#[cfg(test)]
layout_test!(
    crop_layout,
    PipelineKey::new("crop"),
    "params",
    CropParams { in_width, out_width, vectors, count, left, top, row }
);

#[cfg(test)]
layout_test!(
    blend_layout,
    PipelineKey::new("blend"),
    "params",
    BlendParams { width, pixels, vectors, out_width, left, top, row, scale, shift }
);
