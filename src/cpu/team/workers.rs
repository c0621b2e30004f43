//! Helpers in a browser: workers, each with another instance of this module on the same memory.
//!
//! A helper's instance has no part in what Rust's standard library or wasm-bindgen keep in that memory: it is never
//! initialised, imports nothing but the memory, and only ever runs [`crew_help`] on a stack that lies in the engine's heap.
//! What JavaScript does beside is in `pkg/src/helper-host.ts`: it waits for the bell, which Rust cannot.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::sync::atomic::AtomicI32;

use js_sys::{Atomics, Int32Array, SharedArrayBuffer, WebAssembly};
use wasm_bindgen::JsCast;

use crate::error::{Error, Result};

use super::super::memory::zeroed;
use super::control::{Control, Post, SCRATCH, STRIP};

/// Bytes of a helper's stack.
const STACK: usize = 1 << 20;
/// What lies at a stack's end, so that it shows if it was too small.
const GUARD: Unit = Unit([0x7e57_ab1e_57ac_c0de; 2]);
/// Looks for the end of a job before the engine sleeps between them.
const SPINS: u32 = 20_000;
/// One sleep of the engine, in milliseconds, and looks before sleeps get longer.
const NAP_MS: f64 = 0.1;
const NAPS: u32 = SPINS + 1000;
const LONG_NAP_MS: f64 = 10.0;
/// Looks and time after which a helper counts as lost. Time alone would do so after the computer has slept, looks alone where
/// a nap ends early.
const PATIENT: u32 = NAPS + 2000;
const PATIENCE_MS: f64 = 20_000.0;
/// Naps that the engine gives helpers to leave.
const FAREWELL: u32 = 500;

/// How stacks are aligned.
#[derive(Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(16))]
struct Unit([u64; 2]);

type Stack = Vec<Unit>;

/// Addresses in the memory of what one helper needs.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// First argument of `crew_help`.
    pub control: usize,
    /// Where its stack begins: it grows down.
    pub stack_top: usize,
    /// A word: it waits for this to change from what `crew_help` returned.
    pub bell: usize,
    /// A word: to be set to 1 when the helper is gone for good.
    pub dead: usize,
}

/// What they share with the engine.
pub struct Helpers {
    pub control: ManuallyDrop<Box<Control>>,
    stacks: ManuallyDrop<Vec<Stack>>,
    words: Int32Array,
    /// Never changes.
    quiet: Box<AtomicI32>,
    clock: web_sys::Performance,
    /// When the long naps of the present job began.
    naps_began: Cell<f64>,
}

impl Helpers {
    /// Bytes that each needs.
    pub const BYTES_OF_ONE: usize = STACK + 4 * (STRIP + SCRATCH);

    pub fn new(count: usize) -> Result<Self> {
        let memory = wasm_bindgen::memory().unchecked_into::<WebAssembly::Memory>();
        let clock = js_sys::Reflect::get(&js_sys::global(), &"performance".into())
            .ok()
            .and_then(|clock| clock.dyn_into().ok());
        let (true, Some(clock)) = (memory.buffer().is_instance_of::<SharedArrayBuffer>(), clock) else {
            return Err(Error::Internal { what: "threads need a shared memory".to_owned() });
        };
        let control = ManuallyDrop::new(Box::new(Control::new(count)?));
        let stack = |_: &Post| {
            let mut stack: Stack = zeroed("the stacks of threads", (STACK / size_of::<Unit>()) as u64)?;
            stack[0] = GUARD;
            Ok(stack)
        };
        let stacks = control.posts().iter().map(stack).collect::<Result<Vec<Stack>>>()?;
        let quiet = Box::new(AtomicI32::new(0));
        let buffer = memory.buffer();
        // A memory that grows later leaves this view as it is, and all that it is used for lies within.
        let words = Int32Array::new(&buffer);
        Ok(Helpers {
            control,
            stacks: ManuallyDrop::new(stacks),
            words,
            quiet,
            clock,
            naps_began: Cell::new(0.0),
        })
    }

    pub fn places(&self) -> Vec<Place> {
        let place = |(post, stack): (&Post, &Stack)| Place {
            control: (&raw const **self.control).addr(),
            stack_top: stack.as_ptr_range().end.addr(),
            bell: post.bell.as_ptr().addr(),
            dead: post.dead.as_ptr().addr(),
        };
        self.control.posts().iter().zip(self.stacks.iter()).map(place).collect()
    }

    /// Wakes a helper whose bell has changed.
    pub fn ring(&self, _: usize, post: &Post) {
        // It fails for an index beyond the view; then the helper sleeps on, and its chunks are taken by others.
        let _ = Atomics::notify(&self.words, word(post.bell.as_ptr().addr()));
    }

    /// Waits a little for the helpers, the longer the more often this was done since the job was given. Whether it is worth
    /// while: a worker that was ended without a word holds its chunk for ever.
    pub fn wait(&self, looks: u32) -> bool {
        match looks {
            0..SPINS => std::hint::spin_loop(),
            SPINS..NAPS => self.nap(NAP_MS),
            _ => {
                if looks == NAPS {
                    self.naps_began.set(self.now());
                }
                if looks >= PATIENT && self.now() - self.naps_began.get() > PATIENCE_MS {
                    return false;
                }
                self.nap(LONG_NAP_MS);
            }
        }
        true
    }

    fn nap(&self, ms: f64) {
        // It fails where a thread must not block; then this is a look like the others.
        let quiet = word(self.quiet.as_ptr().addr());
        let _ = Atomics::wait_with_timeout(&self.words, quiet, 0, ms);
    }

    pub fn now(&self) -> f64 {
        self.clock.now()
    }

    /// Whether a stack was too small.
    pub fn is_stack_broken(&self) -> bool {
        self.stacks.iter().any(|stack| stack[0] != GUARD)
    }
}

/// Index of a word by its address.
fn word(address: usize) -> u32 {
    (address / 4) as u32
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.control.dismiss(|index, post| self.ring(index, post));
        let mut naps = 0;
        while !self.control.is_deserted() && naps < FAREWELL {
            self.nap(NAP_MS);
            naps += 1;
        }
        // Somebody who has not left may still write to its strip and its stack. They end with the memory, that is with the
        // engine's worker, before which the page ends those of the helpers.
        if self.control.is_deserted() {
            // SAFETY: once, and nobody uses them any more.
            unsafe {
                ManuallyDrop::drop(&mut self.control);
                ManuallyDrop::drop(&mut self.stacks);
            }
        }
    }
}

/// What a helper runs, again and again, see [`Control::help`]. Returns what the bell word must differ from before it is called
/// again, or a negative number: then never again.
///
/// # Safety
/// The address is that of a [`Place`], whose stack is in use and nobody else's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crew_help(control: *const Control, index: usize) -> i32 {
    // SAFETY: the control block lives until all helpers have left.
    let bell = unsafe { (*control).help(index) };
    bell.map_or(-1, |bell| bell as i32)
}
