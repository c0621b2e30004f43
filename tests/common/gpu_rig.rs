//! The GPU under test.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use emberglass::ops::{
    GpuBackend, GpuCache, GpuImages, GpuTensor, ImageBackend, Kernels, Precision, Variant,
};
use emberglass::{DType, Gpu, GpuOptions};

use super::cases::image::ImageRig;
use super::rig::{Rig, WHOLE_HALF_STEP};

thread_local! {
    /// One device for all cases of a test: kernels are compiled once.
    static DEVICE: RefCell<Option<Rc<Gpu>>> = const { RefCell::new(None) };
    static VARIANT: Cell<Variant> = const { Cell::new(Variant::DEFAULT) };
    static PRECISION: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// Says how this thread's image backends store pictures from now on.
pub fn store(precision: Precision) {
    PRECISION.set(precision);
}

/// Says which kernels this thread's backends take from now on.
pub fn take(variant: &str) {
    VARIANT.set(variant.parse().unwrap());
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
    backend.set_kernels(Kernels::all(VARIANT.get()));
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
        if VARIANT.get().decode.dot4 && !floats { WHOLE_HALF_STEP } else { 0.0 }
    }
}
