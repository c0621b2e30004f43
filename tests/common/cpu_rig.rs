//! The CPU under test.

use std::cell::Cell;

use emberglass::cpu::{Bits, CpuCache, CpuImages, CpuOptions, CpuTensor, Level, Team};
use emberglass::{CpuBackend, DType};

use super::cases::image::ImageRig;
use super::rig::{INT8_HALF_STEP, INT16_HALF_STEP, Rig};

/// What backends are made of.
#[derive(Clone, Copy)]
pub struct Wish {
    /// An index of [`Level::available`]: 0 is the best, the last works everywhere.
    pub level: usize,
    pub bits: Bits,
    pub threads: usize,
}

/// The best vectors, activations as exact as they get.
pub const DEFAULT: Wish = Wish { level: 0, bits: Bits::Sixteen, threads: 1 };

thread_local! {
    static WISH: Cell<Wish> = const { Cell::new(DEFAULT) };
}

/// Says what this thread's backends are made of from now on.
pub fn choose(wish: Wish) {
    WISH.set(wish);
}

impl ImageRig for CpuImages {
    async fn make() -> Self {
        let levels = Level::available();
        CpuImages::new(levels[WISH.get().level.min(levels.len() - 1)])
    }

    fn is_half(&self) -> bool {
        false
    }
}

impl Rig for CpuBackend {
    async fn make() -> Self {
        let Wish { level, bits, threads } = WISH.get();
        let levels = Level::available();
        #[cfg(not(target_arch = "wasm32"))]
        let team = Team::threads(threads).unwrap();
        #[cfg(target_arch = "wasm32")]
        let team = {
            assert_eq!(threads, 1, "helpers are tested on the page");
            Team::solo()
        };
        CpuBackend::new(CpuOptions { level: levels[level.min(levels.len() - 1)], bits, team })
    }

    async fn read_raw(&self, tensor: &CpuTensor) -> Vec<f32> {
        CpuBackend::read_raw(self, tensor)
    }

    fn write_raw(&self, tensor: &CpuTensor, values: &[f32]) {
        CpuBackend::write_raw(self, tensor, values);
    }

    fn stride(&self, tensor: &CpuTensor) -> usize {
        CpuBackend::stride(self, tensor)
    }

    async fn read_cache(&self, cache: &CpuCache) -> [Vec<f32>; 2] {
        CpuBackend::read_cache(self, cache)
    }

    async fn write_cache(&self, cache: &CpuCache, k: &[f32], v: &[f32]) {
        let shape = self.cache_shape(cache);
        let (dim, capacity) = (shape.head_dim as usize, shape.slots() as usize);
        for pos in 0..capacity {
            let [k, v] = [k, v].map(|values| {
                let heads = values.chunks_exact(capacity * dim);
                heads.flat_map(|head| &head[pos * dim..(pos + 1) * dim]).copied().collect::<Vec<_>>()
            });
            CpuBackend::write_cache(self, cache, pos, &k, &v);
        }
    }

    fn activation_error(dtype: DType) -> f64 {
        match WISH.get().bits {
            _ if dtype.is_float() => 0.0,
            Bits::Eight | Bits::Mixed => INT8_HALF_STEP,
            Bits::Sixteen => INT16_HALF_STEP,
        }
    }
}
