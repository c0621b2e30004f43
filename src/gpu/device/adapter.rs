//! Adapter and device: what they can do, what has been allocated, whether they are still there.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex};

use crate::clock::within;
use crate::error::{Error, Result};

use super::pipeline::PipelineCache;
use super::tensor::GpuBuffer;
#[cfg(not(target_arch = "wasm32"))]
use super::timeline::Timeline;

thread_local! {
    /// The first view of this thread's device. Once its model is gone a later one gets a device of its own.
    static LIVING: RefCell<Weak<Gpu>> = const { RefCell::new(Weak::new()) };
}

/// How long a browser may take to answer a request for an adapter or a device, in milliseconds.
const START_LIMIT_MS: u32 = 30_000;

/// Options of the device.
#[derive(Debug, Clone, Copy, Default)]
pub struct GpuOptions {
    /// Pretend that a storage binding holds no more than this many bytes. Tests use it to split
    /// tensors that would fit.
    pub max_binding_bytes: Option<u64>,
    /// Mark when each dispatch ends, for [`Gpu::take_timeline`], where the adapter can. For measuring.
    #[cfg(not(target_arch = "wasm32"))]
    pub timeline: bool,
}

/// What the device can do beyond what every one can, as far as kernels use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Threads that every subgroup has at least; 1 where kernels may not use subgroups.
    pub subgroup_size: u32,
    /// Arithmetic in f16.
    pub half: bool,
}

impl Features {
    /// What every device can do.
    pub const NONE: Features = Features { subgroup_size: 1, half: false };
}

/// What the chosen adapter is.
#[derive(Debug, Clone)]
pub struct AdapterReport {
    /// Vendor's name, as far as the browser tells.
    pub name: String,
    /// `webgpu` in a browser, else the native API (`vulkan`, `metal`, `dx12`).
    pub backend: String,
    /// A software adapter: correct, slow.
    pub is_fallback: bool,
}

/// An error that no scope caught.
#[derive(Debug)]
enum Fault {
    OutOfMemory,
    Invalid(String),
}

/// What the device's callbacks report. They may come from any thread.
#[derive(Debug, Default)]
struct Health {
    lost: Option<String>,
    errors: Vec<Fault>,
}

/// Ends the device with its last user.
struct Keeper(wgpu::Device);

impl Drop for Keeper {
    fn drop(&mut self) {
        // Frees every buffer at once, also those that JavaScript's collector has not looked at yet.
        self.0.destroy();
    }
}

/// The device, its queue and its caches, as one model sees them: [`Gpu::sibling`] gives another model its own
/// view of the same device, which counts its own bytes.
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) pipelines: PipelineCache,
    adapter: AdapterReport,
    max_binding_bytes: u64,
    features: Features,
    health: Arc<Mutex<Health>>,
    allocated: Rc<Cell<u64>>,
    keeper: Rc<Keeper>,
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) timeline: Option<Timeline>,
    /// Makes canvases of this device.
    #[cfg(target_arch = "wasm32")]
    pub(super) instance: wgpu::Instance,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu").field("adapter", &self.adapter).finish_non_exhaustive()
    }
}

impl Gpu {
    /// Asks for the fastest adapter and a device with the adapter's own buffer limits.
    ///
    /// # Errors
    /// [`Error::NoWebGpu`], [`Error::NoAdapter`], [`Error::DeviceRequest`].
    pub async fn new(options: GpuOptions) -> Result<Rc<Self>> {
        #[cfg(target_arch = "wasm32")]
        if !has_navigator_gpu() {
            return Err(Error::NoWebGpu);
        }
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::VULKAN
            | wgpu::Backends::METAL
            | wgpu::Backends::DX12
            | wgpu::Backends::BROWSER_WEBGPU;
        let instance = wgpu::Instance::new(descriptor);
        let adapter_options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        let adapter = within(START_LIMIT_MS, instance.request_adapter(&adapter_options))
            .await
            .ok_or_else(|| Error::NoAdapter { reason: no_answer("request for a graphics adapter") })?
            .map_err(|e| Error::NoAdapter { reason: no_adapter(&e) })?;
        let info = adapter.get_info();
        let offered = adapter.limits();
        // The default limits, but the buffer sizes the adapter really has: a large vocabulary
        // otherwise needs splitting where the hardware could bind it whole.
        let required_limits = wgpu::Limits {
            max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
            max_buffer_size: offered.max_buffer_size,
            ..wgpu::Limits::default()
        };
        let name = adapter_name(&info);
        // In a browser wgpu knows nothing of subgroups; `pkg/src/subgroups.ts` asks for them there.
        let wanted = (wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16) & adapter.features();
        #[cfg(not(target_arch = "wasm32"))]
        let timed = options.timeline && adapter.features().contains(Timeline::FEATURES);
        #[cfg(not(target_arch = "wasm32"))]
        let wanted = if timed { wanted | Timeline::FEATURES } else { wanted };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("emberglass"),
            required_features: wanted,
            required_limits,
            memory_hints: wgpu::MemoryHints::Performance,
            ..Default::default()
        };
        let refused = |reason| Error::DeviceRequest { adapter: name.clone(), reason };
        let (device, queue) = within(START_LIMIT_MS, adapter.request_device(&descriptor))
            .await
            .ok_or_else(|| refused(no_answer("request for a device")))?
            .map_err(|e| refused(e.to_string()))?;

        let health = Arc::new(Mutex::new(Health::default()));
        let on_lost = health.clone();
        device.set_device_lost_callback(move |_, reason| {
            if let Ok(mut health) = on_lost.lock() {
                health.lost = Some(reason);
            }
        });
        let on_error = health.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            if let Ok(mut health) = on_error.lock() {
                health.errors.push(match error {
                    wgpu::Error::OutOfMemory { .. } => Fault::OutOfMemory,
                    other => Fault::Invalid(other.to_string()),
                });
            }
        }));

        #[cfg(target_arch = "wasm32")]
        let subgroups = has_subgroups(&device);
        #[cfg(not(target_arch = "wasm32"))]
        let subgroups = wanted.contains(wgpu::Features::SUBGROUP);
        let features = Features {
            subgroup_size: if subgroups { info.subgroup_min_size } else { 1 },
            half: wanted.contains(wgpu::Features::SHADER_F16),
        };

        let limits = device.limits();
        let max_binding_bytes = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        Ok(Rc::new(Gpu {
            adapter: AdapterReport {
                name,
                backend: if cfg!(target_arch = "wasm32") {
                    "webgpu".to_owned()
                } else {
                    info.backend.to_string()
                },
                is_fallback: info.device_type == wgpu::DeviceType::Cpu,
            },
            features,
            max_binding_bytes: options
                .max_binding_bytes
                .map_or(max_binding_bytes, |wish| wish.min(max_binding_bytes)),
            pipelines: PipelineCache::default(),
            keeper: Rc::new(Keeper(device.clone())),
            #[cfg(not(target_arch = "wasm32"))]
            timeline: timed.then(|| Timeline::new(&device, &queue)),
            device,
            queue,
            health,
            allocated: Rc::new(Cell::new(0)),
            #[cfg(target_arch = "wasm32")]
            instance,
        }))
    }

    /// The same device for another model.
    #[must_use]
    pub fn sibling(&self) -> Rc<Self> {
        Rc::new(Gpu {
            device: self.device.clone(),
            queue: self.queue.clone(),
            pipelines: PipelineCache::default(),
            adapter: self.adapter.clone(),
            max_binding_bytes: self.max_binding_bytes,
            features: self.features,
            health: self.health.clone(),
            allocated: Rc::new(Cell::new(0)),
            keeper: self.keeper.clone(),
            // What another model runs is another timeline.
            #[cfg(not(target_arch = "wasm32"))]
            timeline: self.timeline.as_ref().map(|_| Timeline::new(&self.device, &self.queue)),
            #[cfg(target_arch = "wasm32")]
            instance: self.instance.clone(),
        })
    }

    /// A view of the device that this thread already has, or of a new one.
    ///
    /// # Errors
    /// As [`Gpu::new`].
    pub async fn shared() -> Result<Rc<Self>> {
        let living = LIVING.with_borrow(Weak::upgrade);
        if let Some(gpu) = living.filter(|gpu| !gpu.is_lost()) {
            return Ok(gpu.sibling());
        }
        let gpu = Self::new(GpuOptions::default()).await?;
        LIVING.with_borrow_mut(|living| *living = Rc::downgrade(&gpu));
        Ok(gpu)
    }

    fn is_lost(&self) -> bool {
        self.health.lock().is_ok_and(|health| health.lost.is_some())
    }

    /// What the adapter is.
    pub fn adapter(&self) -> &AdapterReport {
        &self.adapter
    }

    /// Bytes that one storage binding may hold.
    pub fn max_binding_bytes(&self) -> u64 {
        self.max_binding_bytes
    }

    /// What kernels may use.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Bytes in live buffers.
    pub fn allocated_bytes(&self) -> u64 {
        self.allocated.get()
    }

    /// A zeroed storage buffer of at least `bytes` bytes (rounded up to 16).
    ///
    /// # Errors
    /// [`Error::DeviceLimit`] if no binding can hold it. Running out of memory is reported by the
    /// next [`Gpu::check`], since WebGPU tells it later.
    pub fn storage(&self, label: &str, bytes: u64) -> Result<GpuBuffer> {
        if bytes > self.max_binding_bytes {
            return Err(Error::DeviceLimit {
                what: label.to_owned(),
                limit: "maxStorageBufferBindingSize",
                needed: bytes,
                allowed: self.max_binding_bytes,
            });
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        Ok(self.buffer(label, bytes, usage))
    }

    /// A uniform buffer.
    pub fn uniform(&self, label: &str, bytes: u64) -> GpuBuffer {
        self.buffer(label, bytes, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST)
    }

    /// A buffer that the CPU can map for reading.
    pub fn staging(&self, label: &str, bytes: u64) -> GpuBuffer {
        self.buffer(label, bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
    }

    pub(super) fn buffer(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> GpuBuffer {
        let size = bytes.max(1).next_multiple_of(16);
        let raw = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        });
        GpuBuffer::new(raw, self.allocated.clone())
    }

    /// Writes `data` at `offset` (both multiples of 4 bytes); ordered before the next submit.
    pub fn write(&self, buffer: &GpuBuffer, offset: u64, data: &[u8]) {
        self.queue.write_buffer(buffer.raw(), offset, data);
    }

    /// Reports what went wrong since the last call, if anything did.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::OutOfMemory`], [`Error::Gpu`].
    pub fn check(&self, doing: &str) -> Result<()> {
        let Ok(mut health) = self.health.lock() else {
            return Ok(());
        };
        if let Some(reason) = &health.lost {
            return Err(Error::DeviceLost { reason: reason.clone() });
        }
        match health.errors.drain(..).next() {
            None => Ok(()),
            Some(Fault::OutOfMemory) => {
                Err(Error::OutOfMemory { what: doing.to_owned(), bytes: self.allocated.get() })
            }
            Some(Fault::Invalid(reason)) => Err(Error::Gpu { label: doing.to_owned(), reason }),
        }
    }

    /// Lets native callbacks run. Browsers do that by themselves.
    pub(super) fn wait_native(&self) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        self.device
            .poll(wgpu::PollType::wait_indefinitely())
            .map_err(|e| Error::DeviceLost { reason: e.to_string() })?;
        Ok(())
    }

    /// Waits until everything written and submitted so far has been done, so that staging memory
    /// does not pile up, and reports errors.
    ///
    /// # Errors
    /// As [`Gpu::check`].
    pub async fn settle(&self, doing: &str) -> Result<()> {
        let (tell, told) = super::tensor::signal();
        self.queue.submit(std::iter::empty());
        self.queue.on_submitted_work_done(move || tell.set(Ok(())));
        self.wait_native()?;
        told.await?;
        self.check(doing)
    }
}

/// In a browser wgpu lists the native APIs it was built without, which tells a visitor nothing.
fn no_adapter(error: &wgpu::RequestAdapterError) -> String {
    if cfg!(target_arch = "wasm32") { "the browser has none to give".to_owned() } else { error.to_string() }
}

fn no_answer(what: &str) -> String {
    format!("the browser did not answer the {what} within {} seconds", START_LIMIT_MS / 1000)
}

/// Whether a browser's device has them. It does if the adapter has and `pkg/src/subgroups.ts` asked for them.
#[cfg(target_arch = "wasm32")]
fn has_subgroups(device: &wgpu::Device) -> bool {
    device.as_webgpu().is_some_and(|raw| raw.features().has("subgroups"))
}

fn adapter_name(info: &wgpu::AdapterInfo) -> String {
    if info.name.is_empty() { "unnamed adapter".to_owned() } else { info.name.clone() }
}

#[cfg(target_arch = "wasm32")]
fn has_navigator_gpu() -> bool {
    let get = |of: &wasm_bindgen::JsValue, key: &str| js_sys::Reflect::get(of, &key.into()).ok();
    get(&js_sys::global(), "navigator")
        .and_then(|navigator| get(&navigator, "gpu"))
        .is_some_and(|gpu| !gpu.is_undefined() && !gpu.is_null())
}
