//! Who computes: one thread, or an engine and helpers that take chunks of its work as they become free.
//!
//! A thread that is slow or busy takes fewer chunks, so nobody waits for its share. Results are the same bits whoever
//! computes what: chunks are independent, and their borders do not depend on who is there.
//!
//! | file | job |
//! |---|---|
//! | `control.rs` | what all share: the job, who has which chunk, who sleeps |
//! | `threads.rs` | helpers of a native program: threads |
//! | `workers.rs` | helpers in a browser: workers with an instance of this module on the same memory |
//! | `pace.rs` | how many of them compute a token |
//! | `spread.rs` | an output that several write |

mod control;
mod pace;
mod spread;
#[cfg(not(target_arch = "wasm32"))]
mod threads;
#[cfg(target_arch = "wasm32")]
mod workers;

use std::mem::MaybeUninit;

use crate::error::{Error, Result};

use control::{Bytes, JOB_BYTES, Job, MAX_CHUNKS, MAX_PIECES, Piece, STRIP};
use pace::Pace;
#[cfg(not(target_arch = "wasm32"))]
use threads::Helpers;
#[cfg(target_arch = "wasm32")]
use workers::Helpers;

pub use control::SCRATCH;
pub use spread::Spread;
#[cfg(target_arch = "wasm32")]
pub use workers::Place;

/// Most chunks that work is cut into: many, so that a slow thread takes fewer.
const MOST: usize = 32;
const _: () = assert!(MOST <= MAX_PIECES);
/// Bytes of weights that are not worth a chunk of their own: they take two or three microseconds.
const LEAST: usize = 32 << 10;
/// Milliseconds that a chunk may be late, beside the time that the engine needs for one, before it is taken back.
#[cfg(target_arch = "wasm32")]
const PATIENCE: f64 = 0.03;

/// One or more that compute together.
pub struct Team {
    helpers: Option<Helpers>,
    /// Number of the last job.
    epoch: u64,
    /// Working memory of this thread's chunks.
    scratch: Vec<f32>,
    /// Whether chunks that are late are taken back, after so many milliseconds beside the time of one.
    patience: Option<f64>,
    /// Chooses how many compute a step; otherwise all do.
    pace: Option<Pace>,
    /// Whether a helper holds a chunk and has not been heard of for very long.
    lost: bool,
}

impl Team {
    /// This thread alone.
    #[must_use]
    pub fn solo() -> Self {
        Team { helpers: None, epoch: 0, scratch: Vec::new(), patience: None, pace: None, lost: false }
    }

    /// `count` threads; one is this thread alone.
    ///
    /// # Errors
    /// The system gives no threads.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn threads(count: usize) -> Result<Self> {
        let helpers = if count > 1 { Some(Helpers::new(count - 1)?) } else { None };
        // To take a chunk back, its helper must be allowed to read on in memory that is no longer borrowed.
        Ok(Team { helpers, ..Self::solo() })
    }

    /// This worker and `count` others, which are to come to their [`Team::places`].
    ///
    /// # Errors
    /// The memory is not shared, or too small.
    #[cfg(target_arch = "wasm32")]
    pub fn workers(count: usize) -> Result<Self> {
        let helpers = if count > 0 { Some(Helpers::new(count)?) } else { None };
        Ok(Team { helpers, patience: Some(PATIENCE), ..Self::solo() })
    }

    /// The same, but steps that repeat are timed, and as many threads compute them as is fastest; `start` at first.
    #[must_use]
    pub fn paced(self, start: usize) -> Self {
        let all = self.size();
        Team { pace: (all > 1).then(|| Pace::new(start, all)), ..self }
    }

    /// Threads that compute a step that repeats.
    pub(super) fn threads_of_step(&self) -> usize {
        self.pace.as_ref().map_or(usize::MAX, Pace::kept).min(self.size())
    }

    /// Begins a step. One that repeats is timed: returns the time.
    pub(super) fn begin(&mut self, repeats: bool) -> Option<f64> {
        let helpers = self.helpers.as_ref()?;
        let pace = self.pace.as_ref().filter(|_| repeats);
        let invited = pace.map_or(helpers.control.posts().len(), |pace| pace.threads() - 1);
        helpers.control.invite(invited);
        pace.map(|_| helpers.now())
    }

    /// Ends what [`Team::begin`] began.
    pub(super) fn end(&mut self, begun: Option<f64>) {
        if let (Some(helpers), Some(pace), Some(begun)) = (&self.helpers, &mut self.pace, begun) {
            pace.took(helpers.now() - begun);
        }
    }

    /// Where the helpers find what they need.
    #[cfg(target_arch = "wasm32")]
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        self.helpers.as_ref().map(Helpers::places).unwrap_or_default()
    }

    /// Threads that compute.
    #[must_use]
    pub fn size(&self) -> usize {
        1 + self.helpers.as_ref().map_or(0, |helpers| helpers.control.alive())
    }

    /// Whether helpers answer, and keep within their memory. Nothing is computed any more where they do not.
    ///
    /// # Errors
    /// [`Error::WorkerFailed`], [`Error::Internal`].
    pub(super) fn check(&self) -> Result<()> {
        if self.lost {
            return Err(Error::WorkerFailed { what: "a helper of the CPU path does not answer".to_owned() });
        }
        #[cfg(target_arch = "wasm32")]
        if self.helpers.as_ref().is_some_and(Helpers::is_stack_broken) {
            return Err(Error::Internal { what: "a thread's stack is too small".to_owned() });
        }
        Ok(())
    }

    /// Bytes that so many threads need of their own.
    pub(super) fn bytes(threads: usize) -> u64 {
        (threads.saturating_sub(1) * Helpers::BYTES_OF_ONE) as u64
    }

    /// How many of `units` make a chunk, if a unit takes a thread about as long as `bytes` bytes of weights of one token.
    pub(super) fn units_of_chunk(units: usize, bytes: usize) -> usize {
        LEAST.div_ceil(bytes.max(1)).max(units.div_ceil(MOST)).clamp(1, units.max(1))
    }

    /// Runs `job(chunk, scratch)` for all chunks below `chunks`, on all threads. The scratch holds anything. Writes go through
    /// [`Spread`]; no chunk reads what any chunk writes, since some run twice where a helper dies.
    pub(super) fn each<F: Fn(usize, &mut [f32]) + Copy + Send>(&mut self, chunks: usize, job: F) {
        let Team { helpers, epoch, scratch, lost, .. } = self;
        scratch.resize(SCRATCH, 0.0);
        let Some(helpers) = helpers.as_ref().filter(|helpers| chunks > 1 && helpers.control.invites()) else {
            (0..chunks).for_each(|chunk| job(chunk, scratch));
            return;
        };
        for first in (0..chunks).step_by(MAX_CHUNKS) {
            let count = MAX_CHUNKS.min(chunks - first);
            *epoch += 1;
            helpers
                .control
                .offer(*epoch, count, InPlace { job, first }.job(), |at, post| helpers.ring(at, post));
            while let Some(chunk) = helpers.control.take() {
                job(first + chunk, scratch);
            }
            let mut looks = 0;
            while helpers.control.is_somebody_busy() {
                if !helpers.wait(looks) {
                    // It may live and write yet, so nothing can be computed in its place.
                    *lost = true;
                    return;
                }
                looks += 1;
            }
            if helpers.control.has_lost_one() {
                (first..first + count).for_each(|chunk| job(chunk, scratch));
            }
        }
    }

    /// Runs `job(row, scratch)` for all rows of about so many floats: on this thread where they are few. Else as [`Team::each`].
    pub(super) fn rows<F: Fn(usize, &mut [f32]) + Copy + Send>(
        &mut self,
        count: usize,
        floats: usize,
        job: F,
    ) {
        let each = Self::units_of_chunk(count, 4 * floats);
        self.each(count.div_ceil(each), move |chunk, scratch| {
            (chunk * each..count.min((chunk + 1) * each)).for_each(|row| job(row, scratch));
        });
    }

    /// Runs `job(chunk, piece of out, scratch)` for all pieces of `piece` floats (the last may be shorter), on all threads.
    /// Piece and scratch hold anything before.
    ///
    /// # Safety
    /// In WebAssembly a helper that has lost its core may run the job when this has long returned, on memory that has
    /// changed or been freed since; its result is dropped. So the job must read through plain slices that it brings
    /// along, write nothing but piece and scratch, and not use what it reads as an index or a length.
    pub(super) unsafe fn pieces<F>(&mut self, out: &mut [f32], piece: usize, job: F)
    where
        F: Fn(usize, &mut [f32], &mut [f32]) + Copy + Send,
    {
        let (len, piece) = (out.len(), piece.max(1));
        let count = len.div_ceil(piece);
        let place = |chunk: usize| chunk * piece..len.min((chunk + 1) * piece);
        if count > MAX_PIECES || len > STRIP {
            let out = Spread::new(out);
            // SAFETY: each piece is a chunk's own.
            self.each(count, move |chunk, scratch| job(chunk, unsafe { out.part(place(chunk)) }, scratch));
            return;
        }
        let Team { helpers, epoch, scratch, patience, .. } = self;
        scratch.resize(SCRATCH, 0.0);
        let Some(helpers) = helpers.as_ref().filter(|helpers| count > 1 && helpers.control.invites()) else {
            for (chunk, out) in out.chunks_mut(piece).enumerate() {
                job(chunk, out, scratch);
            }
            return;
        };
        let control = &helpers.control;
        let began = patience.map(|_| helpers.now());
        *epoch += 1;
        control.offer(*epoch, count, InPieces { job, piece, len }.job(), |at, post| helpers.ring(at, post));
        let mut open = u64::MAX >> (64 - count);
        while let Some(chunk) = control.take() {
            job(chunk, &mut out[place(chunk)], scratch);
            open &= !(1 << chunk);
        }
        let mut limit = None;
        let mut looks = 0;
        while open != 0 {
            let before = open;
            for chunk in (0..count).filter(|chunk| before >> chunk & 1 == 1) {
                if let Piece::In(strip) = control.piece(*epoch, chunk) {
                    let place = place(chunk);
                    // SAFETY: the helper has written this part of its strip and published it, see `Control::piece`; strips
                    // have STRIP floats, at least `len`.
                    let piece = unsafe { std::slice::from_raw_parts(strip.add(place.start), place.len()) };
                    out[place].copy_from_slice(piece);
                    open &= !(1 << chunk);
                }
            }
            if open != before {
                continue;
            }
            // Late is who takes twice as long as this thread needs for a chunk, and some time more.
            let is_late = match (*patience, began) {
                (Some(patience), Some(began)) => {
                    let now = helpers.now();
                    let own = (count - open.count_ones() as usize).max(1) as f64;
                    now > *limit.get_or_insert(now + patience + (now - began) / own)
                }
                _ => false,
            };
            if is_late || !control.is_somebody_busy() {
                let chunk = open.trailing_zeros() as usize;
                if control.take_back(*epoch, chunk) {
                    job(chunk, &mut out[place(chunk)], scratch);
                    open &= !(1 << chunk);
                }
            } else {
                let _ = helpers.wait(looks);
                looks += 1;
            }
        }
    }
}

/// A job's code, as helpers call it.
trait Chunks: Copy {
    /// Whether it has pieces.
    const PIECES: bool;

    /// Runs a chunk.
    ///
    /// # Safety
    /// The strip has [`STRIP`] floats and is the caller's own.
    unsafe fn run(self, chunk: usize, strip: *mut f32, scratch: &mut [f32]);

    /// As it is put into the control block.
    fn job(self) -> Job {
        /// # Safety
        /// The bytes are a `C`; strip and scratch are the caller's own and have their sizes.
        unsafe fn run<C: Chunks>(bytes: *const u8, chunk: usize, strip: *mut f32, scratch: *mut f32) {
            // SAFETY: as promised.
            unsafe {
                let chunks = bytes.cast::<C>().read();
                chunks.run(chunk, strip, std::slice::from_raw_parts_mut(scratch, SCRATCH));
            }
        }
        const { assert!(size_of::<Self>() <= JOB_BYTES && align_of::<Self>() <= align_of::<Bytes>()) }
        let mut bytes = Bytes(MaybeUninit::uninit());
        // SAFETY: it fits, as was just checked.
        unsafe { bytes.0.as_mut_ptr().cast::<Self>().write(self) };
        Job { run: run::<Self>, bytes, pieces: Self::PIECES }
    }
}

/// See [`Team::each`]; chunks are counted from `first` on.
#[derive(Clone, Copy)]
struct InPlace<F> {
    job: F,
    first: usize,
}

impl<F: Fn(usize, &mut [f32]) + Copy> Chunks for InPlace<F> {
    const PIECES: bool = false;

    unsafe fn run(self, chunk: usize, _: *mut f32, scratch: &mut [f32]) {
        (self.job)(self.first + chunk, scratch);
    }
}

/// See [`Team::pieces`]; `len` floats in all.
#[derive(Clone, Copy)]
struct InPieces<F> {
    job: F,
    piece: usize,
    len: usize,
}

impl<F: Fn(usize, &mut [f32], &mut [f32]) + Copy> Chunks for InPieces<F> {
    const PIECES: bool = true;

    unsafe fn run(self, chunk: usize, strip: *mut f32, scratch: &mut [f32]) {
        let first = chunk * self.piece;
        // SAFETY: within `len`, which is at most STRIP.
        let piece =
            unsafe { std::slice::from_raw_parts_mut(strip.add(first), self.piece.min(self.len - first)) };
        (self.job)(chunk, piece, scratch);
    }
}

#[cfg(test)]
mod tests;
