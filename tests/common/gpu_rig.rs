//! The GPU under test.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use emberglass::gpu::{
    Activations, GpuBackend, GpuCache, GpuImages, GpuTensor, KernelMap, KernelPair, MatmulKernel,
};
use emberglass::graph::{HeadShape, ImageBackend, KvType, Precision};
use emberglass::{DType, Gpu, GpuOptions};

use super::cases::image::ImageRig;
use super::rig::{Rig, WHOLE_HALF_STEP};
use crate::reference::cache::quantize;

thread_local! {
    /// One device for all cases of a test: kernels are compiled once.
    static DEVICE: RefCell<Option<Rc<Gpu>>> = const { RefCell::new(None) };
    static VARIANT: Cell<KernelPair> = const { Cell::new(KernelPair::DEFAULT) };
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

/// Whether the adapter can run these kernels. Says so if it cannot.
pub async fn offers(variant: KernelPair) -> bool {
    let offered = variant.possible(shared().await.features());
    if !offered {
        println!("{variant}: skipped, this adapter lacks the f16 or the subgroups that it needs");
    }
    offered
}

async fn device(options: GpuOptions) -> Rc<Gpu> {
    #[cfg(target_arch = "wasm32")]
    super::subgroups::ask_for_subgroups();
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
    backend.set_kernels(KernelMap::all(VARIANT.get()));
    backend
}

/// One for whole models.
#[allow(dead_code)] // run in the browser only
pub async fn for_models() -> GpuBackend {
    let mut backend = GpuBackend::new(shared().await, emberglass::engine::MAX_BATCH, 256).unwrap();
    backend.set_kernels(KernelMap::all(VARIANT.get()));
    backend
}

/// One on a device of its own.
pub async fn with_options(options: GpuOptions) -> GpuBackend {
    backend(device(options).await)
}

/// Where an element of the cache is, counted in elements, and its scale, in words.
struct Place {
    element: usize,
    scale: usize,
}

/// Of K or V, (KV head, position, element): the layout of `shaders/README.md` in other words.
fn places(shape: HeadShape, is_v: bool) -> Vec<Place> {
    let (dim, heads) = (shape.head_dim as usize, shape.kv_heads as usize);
    let capacity = (shape.slots() as usize).next_multiple_of(32);
    let all = heads * capacity * dim;
    let (blocks, all_scales) = (dim.div_ceil(32), heads * capacity * dim.div_ceil(32));
    let mut places = Vec::new();
    for (head, pos) in (0..heads).flat_map(|h| (0..shape.slots() as usize).map(move |p| (h, p))) {
        for c in 0..dim {
            let (of_head, panel) = (head * capacity, pos / 32 * 32);
            let (element, block) = if is_v {
                (all + (of_head + pos) * dim + c, all_scales + (of_head + pos) * blocks + c / 32)
            } else {
                let element = (of_head + panel) * dim + (c / 4 * 32 + pos % 32) * 4 + c % 4;
                (element, (of_head + panel) * blocks + c / 32 * 32 + pos % 32)
            };
            places.push(Place { element, scale: 2 * all / 4 + block });
        }
    }
    places
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
        let (shape, words) = GpuBackend::read_cache(self, cache).await.unwrap();
        [false, true].map(|is_v| {
            let half =
                |word: usize, high| half::f16::from_bits((words[word] >> if high { 16 } else { 0 }) as u16);
            let places = places(shape, is_v).into_iter();
            let value = |Place { element, scale }: Place| match shape.kv {
                KvType::F32 => f32::from_bits(words[element]),
                KvType::F16 => half(element / 2, element % 2 == 1).to_f32(),
                KvType::Q8_0 => {
                    let quant = (words[element / 4] >> (8 * (element % 4))) as u8 as i8;
                    f32::from_bits(words[scale]) * f32::from(quant)
                }
            };
            places.map(value).collect()
        })
    }

    async fn write_cache(&self, cache: &GpuCache, k: &[f32], v: &[f32]) {
        let (shape, mut words) = GpuBackend::read_cache(self, cache).await.unwrap();
        for (is_v, values) in [(false, k), (true, v)] {
            let (dim, places) = (shape.head_dim as usize, places(shape, is_v));
            // Blocks of 32 elements of a head at a position, the last of which may be shorter.
            let places = places.chunks_exact(dim).flat_map(|head| head.chunks(32));
            let blocks = values.chunks_exact(dim).flat_map(|head| head.chunks(32));
            for (places, block) in places.zip(blocks) {
                let (quants, factor) = quantize(block);
                for (i, Place { element, scale }) in places.iter().enumerate() {
                    match shape.kv {
                        KvType::F32 => words[*element] = block[i].to_bits(),
                        KvType::F16 => {
                            let shift = 16 * (element % 2);
                            words[element / 2] &= !(0xffff << shift);
                            words[element / 2] |= u32::from(half::f16::from_f32(block[i]).to_bits()) << shift;
                        }
                        KvType::Q8_0 => {
                            let shift = 8 * (element % 4);
                            words[element / 4] &= !(0xff << shift);
                            words[element / 4] |= u32::from(quants[i] as u8) << shift;
                            words[*scale] = factor.to_bits();
                        }
                    }
                }
            }
        }
        GpuBackend::write_cache(self, cache, &words);
    }

    fn activation_error(dtype: DType) -> f64 {
        let whole = VARIANT.get().decode.activations == Activations::Int16;
        if whole && !dtype.is_float() { WHOLE_HALF_STEP } else { 0.0 }
    }

    fn half_sums() -> bool {
        let KernelPair { decode, prefill } = VARIANT.get();
        decode.activations == Activations::F16 || prefill == MatmulKernel::Half
    }
}
