//! Native threads: all read the same panels, each writes its own rows.

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

use super::super::activations::Activations;
use super::super::attention::{self, Head, Query};
use super::super::matrix::Matrix;
use super::super::panel::ROWS;
use super::super::simd::Level;
use super::super::weight::CpuWeight;
use super::{How, borders};

pub struct Pool {
    threads: ThreadPool,
    /// Output of threads for several tokens, before it is put in place.
    strips: Vec<Vec<f32>>,
}

impl Pool {
    pub fn new(count: usize) -> Result<Self> {
        let threads = ThreadPoolBuilder::new()
            .num_threads(count)
            .build()
            .map_err(|e| Error::Internal { what: format!("no threads: {e}") })?;
        Ok(Pool { threads, strips: vec![Vec::new(); count] })
    }

    pub fn size(&self) -> usize {
        self.strips.len()
    }

    pub fn project(&mut self, how: How, weight: &CpuWeight, x: &mut Activations, out: &mut [f32]) {
        for part in &weight.parts {
            let matrix = part.matrix.read();
            matrix.prepare(how.level, how.bits, x);
            self.part(how, &matrix, x, part.row_base, out, weight.rows());
        }
    }

    fn part(
        &mut self,
        how: How,
        matrix: &Matrix,
        x: &Activations,
        row_base: usize,
        out: &mut [f32],
        stride: usize,
    ) {
        let borders = borders(matrix.rows(), self.strips.len());
        self.threads.in_place_scope(|scope| {
            for (strip, border) in self.strips.iter_mut().zip(borders.windows(2)) {
                let (first, rows) = (border[0] / ROWS, border[1] - border[0]);
                if rows > 0 {
                    scope.spawn(move |_| {
                        strip.resize(rows * x.rows(), 0.0);
                        matrix.project(how.level, x, first..first + rows.div_ceil(ROWS), strip, rows);
                    });
                }
            }
        });
        for (strip, border) in self.strips.iter().zip(borders.windows(2)) {
            let rows = border[1] - border[0];
            for (t, values) in strip.chunks_exact(rows.max(1)).take(x.rows()).enumerate() {
                out[t * stride + row_base + border[0]..][..rows].copy_from_slice(&values[..rows]);
            }
        }
    }

    pub fn attend(&self, level: Level, work: Vec<(Head<'_>, Vec<Query<'_>>)>) {
        self.threads.in_place_scope(|scope| {
            for (head, mut queries) in work {
                scope.spawn(move |_| attention::attend(level, head, &mut queries));
            }
        });
    }
}
