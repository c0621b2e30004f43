//! A canvas that pictures of bytes are copied to, on the device: nothing is read back.

use web_sys::OffscreenCanvas;

use crate::error::{Error, Result};

use super::adapter::Gpu;
use super::tensor::GpuBuffer;

/// WebGPU's default `maxTextureDimension2D`.
const MAX_SIDE: u32 = 8192;

/// A canvas of the page or of the worker, which belongs to this device from now on.
pub struct Canvas {
    surface: wgpu::Surface<'static>,
    size: std::cell::Cell<(u32, u32)>,
}

impl Gpu {
    /// Takes a canvas that has no context yet.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for one that has.
    pub fn canvas(&self, canvas: OffscreenCanvas) -> Result<Canvas> {
        let target = wgpu::SurfaceTarget::OffscreenCanvas(canvas);
        let surface = self.instance.create_surface(target).map_err(|e| Error::InvalidOption {
            option: "canvas",
            value: e.to_string(),
            range: "a canvas without a context of another kind".into(),
        })?;
        Ok(Canvas { surface, size: std::cell::Cell::new((0, 0)) })
    }

    /// Copies `size` = (width, height) pixels, a word each and red lowest, in rows of `row_bytes` (a multiple of
    /// 256), to the canvas, which gets that size.
    ///
    /// # Errors
    /// [`Error::DeviceLimit`] for a side of more than 8192; [`Error::Gpu`] if the canvas gives no texture; an invalid
    /// copy shows in the next [`Gpu::check`].
    pub fn show(&self, pixels: &GpuBuffer, row_bytes: u32, size: (u32, u32), canvas: &Canvas) -> Result<()> {
        let (width, height) = size;
        if width.max(height) > MAX_SIDE {
            return Err(Error::DeviceLimit {
                what: "canvas".to_owned(),
                limit: "maxTextureDimension2D",
                needed: u64::from(width.max(height)),
                allowed: u64::from(MAX_SIDE),
            });
        }
        if canvas.size.replace(size) != size {
            canvas.surface.configure(
                &self.device,
                &wgpu::SurfaceConfiguration {
                    usage: wgpu::TextureUsages::COPY_DST,
                    format: wgpu::TextureFormat::Rgba8Unorm,
                    color_space: wgpu::SurfaceColorSpace::Auto,
                    width,
                    height,
                    present_mode: wgpu::PresentMode::AutoVsync,
                    desired_maximum_frame_latency: 2,
                    alpha_mode: wgpu::CompositeAlphaMode::Opaque,
                    view_formats: Vec::new(),
                },
            );
        }
        let frame = match canvas.surface.get_current_texture() {
            wgpu::CurrentSurfaceTexture::Success(frame) | wgpu::CurrentSurfaceTexture::Suboptimal(frame) => {
                frame
            }
            other => {
                return Err(Error::Gpu {
                    label: "canvas".to_owned(),
                    reason: format!("no texture: {other:?}"),
                });
            }
        };
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_texture(
            wgpu::TexelCopyBufferInfo {
                buffer: pixels.raw(),
                layout: wgpu::TexelCopyBufferLayout {
                    offset: 0,
                    bytes_per_row: Some(row_bytes),
                    rows_per_image: None,
                },
            },
            frame.texture.as_image_copy(),
            wgpu::Extent3d { width, height, depth_or_array_layers: 1 },
        );
        self.queue.submit([encoder.finish()]);
        self.queue.present(frame);
        Ok(())
    }
}
