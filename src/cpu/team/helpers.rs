//! Helpers in a browser: each is a worker with its own instance of this module and its own rows of
//! every matrix. Activations and results pass through a small shared memory.
//!
//! Why not WebAssembly threads: they need the standard library rebuilt with atomics by a nightly
//! compiler and a second pair of builds, since a module with shared memory does not start in a page
//! that is not isolated. This way one module serves both, and the weights are still held only once.

use js_sys::SharedArrayBuffer;

use crate::error::{Error, Result};
use crate::formats::DType;

use super::super::activations::{Activations, Bits};
use super::super::matrix::Matrix;
use super::super::simd::Level;
use super::super::weight::CpuWeight;
use super::shared::{Command, INPUT_BYTES, MAX_HELPERS, Shared};
use super::{How, own_rows};

/// The engine's side.
pub struct Helpers {
    shared: Shared,
    strip: Vec<f32>,
}

impl Helpers {
    pub fn new(buffer: &SharedArrayBuffer, count: usize) -> Self {
        Helpers { shared: Shared::new(buffer, count.min(MAX_HELPERS)), strip: Vec::new() }
    }

    pub fn size(&self) -> usize {
        self.shared.helpers() + 1
    }

    pub fn heap_bytes(&self) -> u64 {
        self.shared.heap_bytes()
    }

    fn tell(&self, command: Command, operands: &[usize]) -> Result<()> {
        self.shared.start(command, operands)?;
        self.shared.finish()
    }

    pub fn create(&mut self, id: usize, dtype: DType, borders: &[usize], cols: usize) -> Result<()> {
        let rows: Vec<u8> =
            borders[1..].windows(2).flat_map(|b| ((b[1] - b[0]) as u32).to_le_bytes()).collect();
        self.shared.put_bytes(&rows);
        self.tell(Command::Create, &[id, dtype.ggml() as usize, cols])
    }

    pub fn fill(&mut self, id: usize, part: usize, holder: usize, row: usize, file: &[u8]) -> Result<()> {
        // Rows are sent in pieces that fit; the caller sends whole rows.
        if file.len() > INPUT_BYTES as usize {
            return Err(Error::OutOfMemory {
                what: "rows for a helper".to_owned(),
                bytes: file.len() as u64,
            });
        }
        self.shared.put_bytes(file);
        self.tell(Command::Fill, &[holder - 1, id, part, row, file.len()])
    }

    pub fn row(&mut self, id: usize, part: usize, holder: usize, row: usize, out: &mut [f32]) -> Result<()> {
        self.tell(Command::Row, &[holder - 1, id, part, row])?;
        self.shared.take_output(holder - 1, 0, out);
        Ok(())
    }

    pub fn project(
        &mut self,
        how: How,
        weight: &CpuWeight,
        x: &mut Activations,
        out: &mut [f32],
    ) -> Result<()> {
        // A product of too many tokens for the shared memory is cut.
        let share: usize = (1..self.size())
            .map(|h| weight.parts.iter().map(|p| p.borders[h + 1] - p.borders[h]).sum())
            .max()
            .unwrap_or(0);
        let fits =
            (Shared::input_floats() / weight.cols().max(1)).min(self.shared.output_floats() / share.max(1));
        if fits == 0 {
            return Err(Error::OutOfMemory { what: weight.label.clone(), bytes: u64::from(INPUT_BYTES) });
        }
        let tokens = x.rows();
        let mut own_done = false;
        for first in (0..tokens).step_by(fits) {
            let count = fits.min(tokens - first);
            for t in 0..count {
                self.shared.put_input(t * weight.cols(), x.row(first + t));
            }
            self.shared.start(Command::Project, &[weight.id, count, weight.cols(), how.bits as usize])?;
            if !own_done {
                own_rows(how, weight, x, out);
                own_done = true;
            }
            self.shared.finish()?;
            self.collect(weight, first, count, out);
        }
        Ok(())
    }

    /// Puts the helpers' rows in their places.
    fn collect(&mut self, weight: &CpuWeight, first: usize, count: usize, out: &mut [f32]) {
        for helper in 0..self.shared.helpers() {
            let mut at = 0;
            for part in &weight.parts {
                let (from, to) = (part.borders[helper + 1], part.borders[helper + 2]);
                let rows = to - from;
                self.strip.resize(rows * count, 0.0);
                self.shared.take_output(helper, at, &mut self.strip);
                at += rows * count;
                for (t, values) in self.strip.chunks_exact(rows.max(1)).enumerate() {
                    let place = (first + t) * weight.rows() + part.row_base + from;
                    out[place..place + rows].copy_from_slice(values);
                }
            }
        }
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        // Whoever does not hear this is terminated with its worker.
        let _ = self.shared.start(Command::Quit, &[]);
    }
}

/// A helper's whole life: does what the engine says until told to leave. Blocks its worker.
///
/// # Errors
/// Shared memory that cannot be used.
pub fn run_helper(buffer: &SharedArrayBuffer, index: usize) -> Result<()> {
    let mut helper = Helper {
        shared: Shared::attach(buffer),
        index,
        level: Level::best(),
        weights: Vec::new(),
        x: Activations::default(),
        out: Vec::new(),
    };
    let mut epoch = 0;
    loop {
        let (now, command, operands) = helper.shared.next(epoch)?;
        epoch = now;
        let result = match command {
            Some(Command::Quit) => return helper.shared.done(index, epoch, false),
            Some(command) => helper.obey(command, operands),
            None => Err(Error::Internal { what: "an unknown command".to_owned() }),
        };
        helper.shared.done(index, epoch, result.is_err())?;
    }
}

/// A helper's side.
struct Helper {
    shared: Shared,
    index: usize,
    level: Level,
    /// By number; each a list of parts.
    weights: Vec<Vec<Matrix>>,
    x: Activations,
    out: Vec<f32>,
}

impl Helper {
    fn obey(&mut self, command: Command, operands: [usize; 6]) -> Result<()> {
        let [a, b, c, d, e, _] = operands;
        match command {
            Command::Create => self.create(a, b, c),
            Command::Fill if a == self.index => {
                let mut bytes = vec![0; e.min(INPUT_BYTES as usize)];
                self.shared.take_bytes(&mut bytes);
                self.part(b, c)?.fill(d, &bytes)
            }
            Command::Row if a == self.index => {
                let matrix = self.part(b, c)?;
                let mut out = vec![0.0; matrix.cols()];
                matrix.row(d, &mut out);
                self.shared.put_output(self.index, 0, &out);
                Ok(())
            }
            Command::Project => {
                let bits = Bits::ALL.get(d).copied();
                let bits = bits.ok_or_else(|| Error::Internal { what: format!("bits number {d}") })?;
                self.project(a, b, c, bits)
            }
            Command::Fill | Command::Row | Command::Quit => Ok(()),
        }
    }

    fn create(&mut self, id: usize, dtype: usize, cols: usize) -> Result<()> {
        let mut rows = vec![0; 4 * self.shared.helpers()];
        self.shared.take_bytes(&mut rows);
        let unknown = |what: String| Error::Internal { what };
        let rows = rows.as_chunks().0.get(self.index).map(|b| u32::from_le_bytes(*b));
        let rows = rows.ok_or_else(|| unknown(format!("no rows for helper {}", self.index)))?;
        let known = u32::try_from(dtype).ok().and_then(DType::from_ggml);
        let dtype = known.ok_or_else(|| unknown(format!("a helper was told of type {dtype}")))?;
        let matrix = Matrix::new("a helper's rows", dtype, rows as usize, cols)?;
        if self.weights.len() <= id {
            self.weights.resize_with(id + 1, Vec::new);
        }
        self.weights[id].push(matrix);
        Ok(())
    }

    fn part(&mut self, id: usize, part: usize) -> Result<&mut Matrix> {
        self.weights
            .get_mut(id)
            .and_then(|parts| parts.get_mut(part))
            .ok_or_else(|| Error::Internal { what: format!("no part {part} of weight {id}") })
    }

    fn project(&mut self, id: usize, tokens: usize, cols: usize, bits: Bits) -> Result<()> {
        let shared = &self.shared;
        self.x.set(tokens, cols, |t, row| shared.take_input(t * cols, row));
        let mut at = 0;
        let matrices = self.weights.get(id);
        let matrices = matrices.ok_or_else(|| Error::Internal { what: format!("no weight {id}") })?;
        for matrix in matrices {
            matrix.prepare(self.level, bits, &mut self.x);
            self.out.resize(matrix.rows() * tokens, 0.0);
            matrix.project(self.level, &self.x, 0..matrix.panels(), &mut self.out, matrix.rows());
            self.shared.put_output(self.index, at, &self.out);
            at += self.out.len();
        }
        Ok(())
    }
}
