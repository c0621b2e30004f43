//! What the adapter can do at best: the yardsticks that kernels are held against, measured by two kernels that do
//! nothing else.

use std::rc::Rc;

use crate::clock::now_ms;
use crate::error::{Error, Result};

use super::adapter::Gpu;
use super::pipeline::PipelineKey;
use super::recorder::{Binding, Grid, Plan, Recorder};

/// Bytes of the copied buffer, where a binding holds so many: far beyond caches.
const COPY_BYTES: u64 = 64 << 20;
/// Fused multiply-adds of a chain, chains of a thread, threads.
const STEPS: u32 = 256;
const CHAINS: u64 = 8;
const THREADS: u32 = 1 << 16;
/// A measurement lasts at least so long, since clocks in browsers are coarse.
const LEAST_MS: f64 = 60.0;
/// Times that it is repeated; the best counts, for what disturbs only ever slows down.
const TRIES: u32 = 3;

/// The best rates of an adapter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Bytes read and bytes written by a copy, together, a second.
    pub copy_bytes_per_second: f64,
    /// Fused multiply-adds of f32 a second; twice as many floating-point operations.
    pub fma_per_second: f64,
}

impl Gpu {
    /// Measures, in about half a second; each kernel's result is checked first.
    ///
    /// # Errors
    /// [`Error::Gpu`] for a kernel that computes something else; device lost, out of memory.
    pub async fn rates(self: &Rc<Self>) -> Result<Rates> {
        Ok(Rates { copy_bytes_per_second: self.copy_rate().await?, fma_per_second: self.fma_rate().await? })
    }

    async fn copy_rate(self: &Rc<Self>) -> Result<f64> {
        let bytes = COPY_BYTES.min(self.max_binding_bytes());
        let (from, to) = (self.storage("copied", bytes)?, self.storage("copy", bytes)?);
        let pattern: Vec<u8> = (0..=255).collect();
        let last = bytes / 256 * 256 - 256;
        self.write(&from, last, &pattern);
        let mut recorder = Recorder::new(self.clone());
        let grid = Grid::folded((bytes / 16).div_ceil(1024) as u32);
        recorder.dispatch_bound(
            &PipelineKey::new("rate_copy"),
            &[Binding(0, &from), Binding(1, &to)],
            grid,
        )?;
        let plan = recorder.finish();
        self.compiled("measuring").await?;
        recorder.run(&[&plan], (0, 1), &[]);
        if self.read(&to, last, 256).await? != pattern {
            return Err(wrong("rate_copy"));
        }
        let runs = self.runs_per_second(&recorder, &plan).await?;
        Ok(runs * 2.0 * bytes as f64)
    }

    async fn fma_rate(self: &Rc<Self>) -> Result<f64> {
        let (a, b) = (0.5f32, 0.25f32);
        let factors = self.storage("factors", 32)?;
        self.write(&factors, 0, bytemuck::cast_slice(&[[a; 4], [b; 4]]));
        let out = self.storage("sums", u64::from(THREADS) * 16)?;
        let mut recorder = Recorder::new(self.clone());
        let key = PipelineKey::new("rate_fma").constant("STEPS", STEPS);
        let grid = Grid::Fixed(THREADS / 256, 1);
        recorder.dispatch_bound(&key, &[Binding(0, &factors), Binding(1, &out)], grid)?;
        let plan = recorder.finish();
        self.compiled("measuring").await?;
        recorder.run(&[&plan], (0, 1), &[]);
        let read = self.read(&out, 16, 16).await?;
        // Every chain ends at the fixed point b / (1 - a).
        let want = CHAINS as f32 * b / (1.0 - a);
        if bytemuck::pod_collect_to_vec::<u8, f32>(&read) != [want; 4] {
            return Err(wrong("rate_fma"));
        }
        let runs = self.runs_per_second(&recorder, &plan).await?;
        Ok(runs * f64::from(STEPS) * f64::from(THREADS) * CHAINS as f64 * 4.0)
    }

    /// How often a plan runs a second, back to back.
    async fn runs_per_second(&self, recorder: &Recorder, plan: &Plan) -> Result<f64> {
        let mut repeats = 1;
        let mut best: f64 = 0.0;
        let mut tries = 0;
        while tries < TRIES {
            let begun = now_ms();
            recorder.run(&vec![plan; repeats], (0, 1), &[]);
            self.settle("measuring").await?;
            let ms = now_ms() - begun;
            if ms < LEAST_MS && repeats < 4096 {
                repeats *= 2;
                continue;
            }
            best = best.max(repeats as f64 / ms.max(1e-3) * 1e3);
            tries += 1;
        }
        Ok(best)
    }
}

fn wrong(kernel: &str) -> Error {
    Error::Gpu { label: kernel.to_owned(), reason: "it computed something else".to_owned() }
}
