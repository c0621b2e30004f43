//! The GPU under test.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use emberglass::ops::{
    GpuBackend, GpuCache, GpuImages, GpuTensor, ImageBackend, Kernels, Precision, Tile, Tuning,
};
use emberglass::{DType, Gpu, GpuOptions};

use super::cases::image::ImageRig;
use super::rig::{Rig, WHOLE_HALF_STEP};

thread_local! {
    /// One device for all cases of a test: kernels are compiled once.
    static DEVICE: RefCell<Option<Rc<Gpu>>> = const { RefCell::new(None) };
    static TUNING: Cell<Tuning> = const { Cell::new(Tuning::ALL[0]) };
    static TILE: Cell<Tile> = const { Cell::new(Tile::ALL[0]) };
    static PRECISION: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// Says how this thread's image backends store pictures from now on.
pub fn store(precision: Precision) {
    PRECISION.set(precision);
}

/// Says how this thread's backends multiply many tokens from now on.
pub fn tile(tile: Tile) {
    TILE.set(tile);
}

/// Says how this thread's backends divide their work from now on.
pub fn tune(tuning: Tuning) {
    TUNING.set(tuning);
}

async fn device(options: GpuOptions) -> Rc<Gpu> {
    Gpu::new(options).await.expect("a WebGPU or Vulkan adapter")
}

async fn shared() -> Rc<Gpu> {
    if let Some(gpu) = DEVICE.with_borrow(Clone::clone) {
        return gpu;
    }
    let gpu = device(GpuOptions::default()).await;
    // Never dropped: wgpu cannot be taken down while the thread's other locals are.
    std::mem::forget(gpu.clone());
    DEVICE.set(Some(gpu.clone()));
    gpu
}

fn backend(gpu: Rc<Gpu>) -> GpuBackend {
    let mut backend = GpuBackend::new(gpu, 128, 256).unwrap();
    backend.set_kernels(Kernels { decode: TUNING.get(), prefill: TILE.get() });
    backend
}

/// One on a device of its own.
pub async fn with_options(options: GpuOptions) -> GpuBackend {
    backend(device(options).await)
}

impl ImageRig for GpuImages {
    async fn make() -> Self {
        GpuImages::new(shared().await, PRECISION.get()).unwrap()
    }

    fn is_half(&self) -> bool {
        self.precision() == Precision::F16
    }
}

impl Rig for GpuBackend {
    async fn make() -> Self {
        backend(shared().await)
    }

    async fn read_raw(&self, tensor: &GpuTensor) -> Vec<f32> {
        GpuBackend::read_raw(self, tensor).await.unwrap()
    }

    fn write_raw(&self, tensor: &GpuTensor, values: &[f32]) {
        GpuBackend::write_raw(self, tensor, values);
    }

    fn stride(&self, tensor: &GpuTensor) -> usize {
        GpuBackend::stride(self, tensor)
    }

    async fn read_cache(&self, cache: &GpuCache) -> [Vec<f32>; 2] {
        GpuBackend::read_cache(self, cache).await.unwrap()
    }

    fn write_cache(&self, cache: &GpuCache, k: &[f32], v: &[f32]) {
        GpuBackend::write_cache(self, cache, k, v);
    }

    fn activation_error(dtype: DType) -> f64 {
        let floats = matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
        if TUNING.get().dot4 && !floats { WHOLE_HALF_STEP } else { 0.0 }
    }
}
