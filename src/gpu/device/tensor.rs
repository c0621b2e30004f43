//! GPU buffers: counted while they live, written in ranges, read back without blocking.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use crate::error::{Error, Result};

use super::adapter::Gpu;

/// A GPU buffer. Clones share it; its memory is given back when the last one goes.
#[derive(Clone)]
pub struct GpuBuffer {
    inner: Rc<Inner>,
}

struct Inner {
    raw: wgpu::Buffer,
    allocated: Rc<Cell<u64>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.allocated.set(self.allocated.get().saturating_sub(self.raw.size()));
        self.raw.destroy();
    }
}

impl std::fmt::Debug for GpuBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GpuBuffer({} bytes)", self.size())
    }
}

impl GpuBuffer {
    pub(super) fn new(raw: wgpu::Buffer, allocated: Rc<Cell<u64>>) -> Self {
        allocated.set(allocated.get() + raw.size());
        GpuBuffer { inner: Rc::new(Inner { raw, allocated }) }
    }

    pub(super) fn raw(&self) -> &wgpu::Buffer {
        &self.inner.raw
    }

    /// Whether both are one buffer.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.inner, &other.inner)
    }

    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.inner.raw.size()
    }
}

impl Gpu {
    /// Copies `bytes` bytes at `offset` (multiples of 4) to the CPU. One submit, one readback.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and what [`Gpu::check`] reports.
    pub async fn read(&self, buffer: &GpuBuffer, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        self.read_parts(&[(buffer, offset, bytes)]).await
    }

    /// The same of several buffers, (buffer, offset, bytes) each, one after the other.
    ///
    /// # Errors
    /// As for [`Gpu::read`].
    pub(crate) async fn read_parts(&self, parts: &[(&GpuBuffer, u64, u64)]) -> Result<Vec<u8>> {
        let bytes = parts.iter().map(|(_, _, bytes)| bytes).sum();
        let staging = self.staging("readback", bytes);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let mut at = 0;
        for (buffer, offset, bytes) in parts {
            encoder.copy_buffer_to_buffer(buffer.raw(), *offset, staging.raw(), at, *bytes);
            at += bytes;
        }
        self.queue.submit([encoder.finish()]);
        let mapping = self.start_map(&staging, bytes);
        self.finish_map(mapping).await
    }

    /// Starts mapping the first `bytes` bytes of a staging buffer; [`Gpu::finish_map`] waits for it.
    pub(crate) fn start_map(&self, staging: &GpuBuffer, bytes: u64) -> Mapping {
        let (tell, told) = signal();
        staging.raw().map_async(wgpu::MapMode::Read, 0..bytes, move |result| {
            tell.set(result.map_err(|e| Error::DeviceLost { reason: e.to_string() }));
        });
        Mapping { staging: staging.clone(), bytes, told }
    }

    /// Waits for a mapping and takes its bytes.
    ///
    /// # Errors
    /// As [`Gpu::check`].
    pub async fn finish_map(&self, mapping: Mapping) -> Result<Vec<u8>> {
        self.wait_native()?;
        let result = mapping.collect().await;
        // A lost device makes the mapping fail too; its own reason says more.
        self.check("readback")?;
        result
    }
}

/// A readback under way.
pub struct Mapping {
    staging: GpuBuffer,
    bytes: u64,
    told: Told,
}

impl Mapping {
    async fn collect(self) -> Result<Vec<u8>> {
        self.told.await?;
        let view = self
            .staging
            .raw()
            .get_mapped_range(0..self.bytes)
            .map_err(|e| Error::Internal { what: format!("mapped range: {e:?}") })?;
        let data = view.to_vec();
        drop(view);
        self.staging.raw().unmap();
        Ok(data)
    }
}

#[derive(Default)]
struct Slot {
    result: Option<Result<()>>,
    waker: Option<Waker>,
}

/// Sets a [`Told`] off; a callback's half of a one-shot channel.
pub(super) struct Tell(Arc<Mutex<Slot>>);

/// Resolves when its [`Tell`] is set.
pub(super) struct Told(Arc<Mutex<Slot>>);

/// A one-shot channel from a WebGPU callback to a future.
pub(super) fn signal() -> (Tell, Told) {
    let slot = Arc::new(Mutex::new(Slot::default()));
    (Tell(slot.clone()), Told(slot))
}

impl Tell {
    pub(super) fn set(self, result: Result<()>) {
        if let Ok(mut slot) = self.0.lock() {
            slot.result = Some(result);
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Future for Told {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(mut slot) = self.0.lock() else {
            return Poll::Ready(Err(Error::Internal { what: "a GPU callback failed".to_owned() }));
        };
        match slot.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
