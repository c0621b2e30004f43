//! Who computes a product: one thread, a pool of threads that share memory (natively), or helper
//! workers that hold their own rows (in a browser).

#[cfg(target_arch = "wasm32")]
mod helpers;
#[cfg(not(target_arch = "wasm32"))]
mod pool;
#[cfg(target_arch = "wasm32")]
mod shared;

use crate::error::{Error, Result};

use super::activations::{Activations, Bits};
use super::attention::{self, Head, Query};
use super::panel::ROWS;
use super::simd::Level;
use super::weight::CpuWeight;

#[cfg(target_arch = "wasm32")]
pub use helpers::run_helper;
#[cfg(target_arch = "wasm32")]
pub use shared::SHARED_BYTES;

/// How a product is computed.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Which vectors.
    pub level: Level,
    /// Of the activations.
    pub bits: Bits,
}

/// One or more that compute together.
pub struct Team(Kind);

enum Kind {
    Solo,
    #[cfg(not(target_arch = "wasm32"))]
    Pool(pool::Pool),
    #[cfg(target_arch = "wasm32")]
    Helpers(helpers::Helpers),
}

impl Team {
    /// This thread alone.
    #[must_use]
    pub fn solo() -> Self {
        Team(Kind::Solo)
    }

    /// `count` threads; one is this thread alone.
    ///
    /// # Errors
    /// The system gives no threads.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn threads(count: usize) -> Result<Self> {
        if count <= 1 { Ok(Self::solo()) } else { pool::Pool::new(count).map(|pool| Team(Kind::Pool(pool))) }
    }

    /// This worker and `count` helpers, which wait in [`run_helper`] on the same shared memory of
    /// [`SHARED_BYTES`].
    #[cfg(target_arch = "wasm32")]
    #[must_use]
    pub fn helpers(shared: &js_sys::SharedArrayBuffer, count: usize) -> Self {
        Team(Kind::Helpers(helpers::Helpers::new(shared, count)))
    }

    /// Threads that compute.
    pub(super) fn size(&self) -> usize {
        match &self.0 {
            Kind::Solo => 1,
            #[cfg(not(target_arch = "wasm32"))]
            Kind::Pool(pool) => pool.size(),
            #[cfg(target_arch = "wasm32")]
            Kind::Helpers(helpers) => helpers.size(),
        }
    }

    /// Wasm memory of the others, in bytes.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn helper_heap_bytes(&self) -> u64 {
        match &self.0 {
            Kind::Solo => 0,
            Kind::Helpers(helpers) => helpers.heap_bytes(),
        }
    }

    /// Row borders of those who each hold a part of a matrix in memory of their own, this one first.
    pub(super) fn borders(&self, rows: usize) -> Vec<usize> {
        match &self.0 {
            #[cfg(target_arch = "wasm32")]
            Kind::Helpers(helpers) => borders(rows, helpers.size()),
            _ => vec![0, rows],
        }
    }

    /// Tells the others to hold their rows of a new part of weight `id`.
    #[allow(unused_variables)]
    pub(super) fn create(
        &mut self,
        id: usize,
        dtype: crate::formats::DType,
        borders: &[usize],
        cols: usize,
    ) -> Result<()> {
        match &mut self.0 {
            #[cfg(target_arch = "wasm32")]
            Kind::Helpers(helpers) => helpers.create(id, dtype, borders, cols),
            _ => Ok(()),
        }
    }

    /// Sends file bytes of whole rows to the holder (1 is the first helper).
    #[allow(unused_variables)]
    pub(super) fn fill(
        &mut self,
        id: usize,
        part: usize,
        holder: usize,
        row: usize,
        file: &[u8],
    ) -> Result<()> {
        match &mut self.0 {
            #[cfg(target_arch = "wasm32")]
            Kind::Helpers(helpers) => helpers.fill(id, part, holder, row, file),
            _ => Err(Error::Internal { what: "a row of somebody who is not there".to_owned() }),
        }
    }

    /// The values of one row.
    pub(super) fn row(&mut self, weight: &CpuWeight, row: usize, out: &mut [f32]) -> Result<()> {
        let Some((index, part, row)) = weight.find(row) else {
            return Err(Error::Internal { what: format!("{}: no row {row}", weight.label) });
        };
        let holder = part.holder(row);
        if holder == 0 {
            part.matrix.read().row(row, out);
            return Ok(());
        }
        match &mut self.0 {
            #[cfg(target_arch = "wasm32")]
            Kind::Helpers(helpers) => helpers.row(weight.id, index, holder, row - part.borders[holder], out),
            _ => Err(Error::Internal { what: format!("part {index} is held by nobody") }),
        }
    }

    /// out (T, rows) = x Wᵀ.
    pub(super) fn project(
        &mut self,
        how: How,
        weight: &CpuWeight,
        x: &mut Activations,
        out: &mut [f32],
    ) -> Result<()> {
        match &mut self.0 {
            Kind::Solo => {
                own_rows(how, weight, x, out);
                Ok(())
            }
            #[cfg(not(target_arch = "wasm32"))]
            Kind::Pool(pool) => {
                pool.project(how, weight, x, out);
                Ok(())
            }
            #[cfg(target_arch = "wasm32")]
            Kind::Helpers(helpers) => helpers.project(how, weight, x, out),
        }
    }

    /// Attention of all KV heads with their queries.
    pub(super) fn attend(&self, level: Level, work: Vec<(Head<'_>, Vec<Query<'_>>)>) {
        match &self.0 {
            #[cfg(not(target_arch = "wasm32"))]
            Kind::Pool(pool) => pool.attend(level, work),
            _ => {
                for (head, mut queries) in work {
                    attention::attend(level, head, &mut queries);
                }
            }
        }
    }
}

/// The rows held here, of all tokens.
fn own_rows(how: How, weight: &CpuWeight, x: &mut Activations, out: &mut [f32]) {
    for part in &weight.parts {
        let matrix = part.matrix.read();
        matrix.prepare(how.level, how.bits, x);
        matrix.project(how.level, x, 0..matrix.panels(), &mut out[part.row_base..], weight.rows());
    }
}

/// 0, …, rows in `count` shares of whole panels.
pub(super) fn borders(rows: usize, count: usize) -> Vec<usize> {
    let panels = rows.div_ceil(ROWS);
    (0..=count).map(|i| (panels * i / count * ROWS).min(rows)).collect()
}
