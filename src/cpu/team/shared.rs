//! The memory that an engine and its helpers share: control words, then room for input and output.
//!
//! The engine writes a command and its operands, raises `EPOCH` and wakes the helpers; each helper
//! does what it is told and sets its `DONE` word to that epoch. Only one command is under way at a
//! time. Nobody waits in a page: the engine runs in a worker of its own.

use js_sys::{Atomics, Float32Array, Int32Array, SharedArrayBuffer, Uint8Array};

use crate::error::{Error, Result};

/// Most helpers.
pub const MAX_HELPERS: usize = 32;

/// Control words.
const EPOCH: u32 = 0;
const COMMAND: u32 = 1;
const OPERANDS: u32 = 2;
const OPERAND_COUNT: usize = 6;
const HELPERS: u32 = 12;
const DONE: u32 = 16;
const FAILED: u32 = DONE + MAX_HELPERS as u32;

const HEAP_PAGES: u32 = FAILED + MAX_HELPERS as u32;

const CONTROL_BYTES: u32 = 4096;
/// Room for activations, or for file bytes of rows.
pub const INPUT_BYTES: u32 = 8 << 20;
/// Room for results, divided among the helpers.
const OUTPUT_BYTES: u32 = 16 << 20;
/// What a team of any size needs.
pub const SHARED_BYTES: u32 = CONTROL_BYTES + INPUT_BYTES + OUTPUT_BYTES;

/// How often a thread looks at a word before it sleeps. Looking is faster than being woken while every thread has a core;
/// where another program needs the core it only delays (docs/MEASUREMENTS.md).
const SPINS: u32 = 1000;
/// One sleep, in milliseconds.
const SLEEP_MS: f64 = 1000.0;
/// Sleeps after which a helper counts as dead.
const PATIENCE: u32 = 20;

/// What the helpers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Command {
    /// Hold a new part: weight, dtype, rows of each helper are in the input, columns.
    Create = 1,
    /// Take file bytes: helper, weight, part, row, bytes.
    Fill = 2,
    /// Multiply: weight, tokens, columns, which of `Bits::ALL`.
    Project = 3,
    /// Give a row: helper, weight, part, row.
    Row = 4,
    /// Leave.
    Quit = 5,
}

impl Command {
    fn of(value: i32) -> Option<Self> {
        [Command::Create, Command::Fill, Command::Project, Command::Row, Command::Quit]
            .into_iter()
            .find(|&command| command as i32 == value)
    }
}

/// Views of the shared memory.
pub struct Shared {
    words: Int32Array,
    input_bytes: Uint8Array,
    input: Float32Array,
    output: Float32Array,
    helpers: usize,
}

impl Shared {
    /// The engine's, which says how many helpers there are.
    pub fn new(buffer: &SharedArrayBuffer, helpers: usize) -> Self {
        let shared = Shared { helpers, ..Self::attach(buffer) };
        let _ = shared.set(HELPERS, helpers as i32);
        shared
    }

    /// A helper's, who hears how many there are with the first command.
    pub fn attach(buffer: &SharedArrayBuffer) -> Self {
        let words = CONTROL_BYTES / 4;
        let output_at = CONTROL_BYTES + INPUT_BYTES;
        Shared {
            words: Int32Array::new_with_byte_offset_and_length(buffer, 0, words),
            input_bytes: Uint8Array::new_with_byte_offset_and_length(buffer, CONTROL_BYTES, INPUT_BYTES),
            input: Float32Array::new_with_byte_offset_and_length(buffer, CONTROL_BYTES, INPUT_BYTES / 4),
            output: Float32Array::new_with_byte_offset_and_length(buffer, output_at, OUTPUT_BYTES / 4),
            helpers: 1,
        }
    }

    /// Floats of the input.
    pub fn input_floats() -> usize {
        INPUT_BYTES as usize / 4
    }

    /// Floats of one helper's output.
    pub fn output_floats(&self) -> usize {
        OUTPUT_BYTES as usize / 4 / self.helpers.max(1)
    }

    pub fn helpers(&self) -> usize {
        self.helpers
    }

    pub fn put_bytes(&self, bytes: &[u8]) {
        self.input_bytes.subarray(0, bytes.len() as u32).copy_from(bytes);
    }

    pub fn take_bytes(&self, bytes: &mut [u8]) {
        self.input_bytes.subarray(0, bytes.len() as u32).copy_to(bytes);
    }

    pub fn put_input(&self, at: usize, values: &[f32]) {
        self.input.subarray(at as u32, (at + values.len()) as u32).copy_from(values);
    }

    pub fn take_input(&self, at: usize, values: &mut [f32]) {
        self.input.subarray(at as u32, (at + values.len()) as u32).copy_to(values);
    }

    fn output_of(&self, helper: usize, at: usize, len: usize) -> Float32Array {
        let at = (helper * self.output_floats() + at) as u32;
        self.output.subarray(at, at + len as u32)
    }

    pub fn put_output(&self, helper: usize, at: usize, values: &[f32]) {
        self.output_of(helper, at, values.len()).copy_from(values);
    }

    pub fn take_output(&self, helper: usize, at: usize, values: &mut [f32]) {
        self.output_of(helper, at, values.len()).copy_to(values);
    }

    /// Gives a command; [`Shared::finish`] waits for it.
    pub fn start(&self, command: Command, operands: &[usize]) -> Result<()> {
        self.set(COMMAND, command as i32)?;
        for (i, &operand) in (0..).zip(operands.iter().take(OPERAND_COUNT)) {
            self.set(OPERANDS + i, operand as i32)?;
        }
        Atomics::add(&self.words, EPOCH, 1).map_err(|_| broken())?;
        Atomics::notify(&self.words, EPOCH).map_err(|_| broken())?;
        Ok(())
    }

    /// Waits until all helpers have done the last command.
    pub fn finish(&self) -> Result<()> {
        let epoch = self.get(EPOCH)?;
        for helper in 0..self.helpers as u32 {
            self.wait_until(DONE + helper, |done| done == epoch)?;
            if self.get(FAILED + helper)? != 0 {
                return Err(Error::OutOfMemory {
                    what: "a helper's share of the weights".to_owned(),
                    bytes: 0,
                });
            }
        }
        Ok(())
    }

    /// A helper's side: waits for a command after `epoch`. `None` for one that is not known.
    pub fn next(&mut self, epoch: i32) -> Result<(i32, Option<Command>, [usize; OPERAND_COUNT])> {
        let mut found = epoch;
        // An idle engine is no dead one.
        while found == epoch {
            found = self.look(EPOCH, |now| now != epoch)?;
        }
        self.helpers = self.get(HELPERS)?.clamp(1, MAX_HELPERS as i32) as usize;
        let mut operands = [0; OPERAND_COUNT];
        for (i, operand) in (0..).zip(&mut operands) {
            *operand = self.get(OPERANDS + i)? as usize;
        }
        Ok((found, Command::of(self.get(COMMAND)?), operands))
    }

    /// A helper's side: says that the command of `epoch` is done.
    pub fn done(&self, helper: usize, epoch: i32, failed: bool) -> Result<()> {
        let pages = std::arch::wasm32::memory_size(0);
        self.set(HEAP_PAGES + helper as u32, pages as i32)?;
        if failed {
            self.set(FAILED + helper as u32, 1)?;
        }
        self.set(DONE + helper as u32, epoch)?;
        Atomics::notify(&self.words, DONE + helper as u32).map_err(|_| broken())?;
        Ok(())
    }

    /// Wasm memory of all helpers when they last did something.
    pub fn heap_bytes(&self) -> u64 {
        let pages = |helper| self.get(HEAP_PAGES + helper).map_or(0, |pages| pages as u64);
        (0..self.helpers as u32).map(pages).sum::<u64>() * 65_536
    }

    fn wait_until(&self, word: u32, is: impl Fn(i32) -> bool + Copy) -> Result<()> {
        for _ in 0..PATIENCE {
            if is(self.look(word, is)?) {
                return Ok(());
            }
        }
        Err(Error::WorkerFailed { what: "a helper of the CPU path does not answer".to_owned() })
    }

    /// The word once it is as wanted, or after a while.
    fn look(&self, word: u32, is: impl Fn(i32) -> bool) -> Result<i32> {
        for _ in 0..SPINS {
            let value = self.get(word)?;
            if is(value) {
                return Ok(value);
            }
        }
        let value = self.get(word)?;
        if !is(value) {
            Atomics::wait_with_timeout(&self.words, word, value, SLEEP_MS).map_err(|_| broken())?;
        }
        self.get(word)
    }

    fn get(&self, word: u32) -> Result<i32> {
        Atomics::load(&self.words, word).map_err(|_| broken())
    }

    fn set(&self, word: u32, value: i32) -> Result<()> {
        Atomics::store(&self.words, word, value).map(drop).map_err(|_| broken())
    }
}

fn broken() -> Error {
    Error::Internal { what: "the helpers' shared memory cannot be used".to_owned() }
}
