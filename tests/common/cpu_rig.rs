//! The CPU under test.

use std::cell::Cell;

use emberglass::cpu::{CpuCache, CpuOptions, CpuTensor, Level, Team};
use emberglass::{CpuBackend, DType};

use super::rig::{INT8_HALF_STEP, Rig};

thread_local! {
    /// Vectors (an index of [`Level::available`]) and threads of the backends made from now on.
    static WISH: Cell<(usize, usize)> = const { Cell::new((0, 1)) };
}

/// Sets the vectors and the threads of this thread's backends: `level` 0 is the best, the last one
/// works everywhere.
pub fn choose(level: usize, threads: usize) {
    WISH.set((level.min(Level::available().len() - 1), threads));
}

impl Rig for CpuBackend {
    async fn make() -> Self {
        let (level, threads) = WISH.get();
        #[cfg(not(target_arch = "wasm32"))]
        let team = Team::threads(threads).unwrap();
        #[cfg(target_arch = "wasm32")]
        let team = {
            assert_eq!(threads, 1, "helpers are tested on the page");
            Team::solo()
        };
        CpuBackend::new(CpuOptions { level: Level::available()[level], team })
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

    fn write_cache(&self, cache: &CpuCache, k: &[f32], v: &[f32]) {
        CpuBackend::write_cache(self, cache, k, v);
    }

    fn activation_error(dtype: DType) -> f64 {
        match dtype {
            DType::F32 | DType::F16 | DType::BF16 => 0.0,
            _ => INT8_HALF_STEP,
        }
    }
}
