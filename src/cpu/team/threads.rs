//! Native helpers: threads of the system.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Error, Result};

use super::control::{Control, Post, SCRATCH, STRIP};

/// Looks for the end of a job before the engine gives its core away.
const SPINS: u32 = 300;
/// Looks before it sleeps between them.
const YIELDS: u32 = 3000;

/// Threads that help, and what they share with the engine.
pub struct Helpers {
    pub control: Arc<Control>,
    threads: Vec<JoinHandle<()>>,
}

impl Helpers {
    /// Bytes that each needs beside its stack.
    pub const BYTES_OF_ONE: usize = 4 * (STRIP + SCRATCH);

    pub fn new(count: usize) -> Result<Self> {
        let mut helpers = Helpers { control: Arc::new(Control::new(count)?), threads: Vec::new() };
        for index in 0..helpers.control.posts().len() {
            let control = helpers.control.clone();
            let thread = std::thread::Builder::new()
                .name(format!("emberglass {}", index + 1))
                .spawn(move || live(&control, index))
                .map_err(|e| Error::Internal { what: format!("no thread: {e}") })?;
            helpers.threads.push(thread);
        }
        Ok(helpers)
    }

    /// Wakes a helper whose bell has changed.
    pub fn ring(&self, index: usize, _: &Post) {
        if let Some(thread) = self.threads.get(index) {
            thread.thread().unpark();
        }
    }

    /// Waits a little for the helpers, the longer the more often this was done since the job was given. Whether it is worth
    /// while: always, since a thread that ends says so.
    pub fn wait(&self, looks: u32) -> bool {
        match looks {
            0..SPINS => std::hint::spin_loop(),
            SPINS..YIELDS => std::thread::yield_now(),
            _ => std::thread::sleep(Duration::from_micros(50)),
        }
        true
    }

    pub fn now(&self) -> f64 {
        crate::clock::now_ms()
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.control.dismiss(|index, post| self.ring(index, post));
        for thread in self.threads.drain(..) {
            // One that has panicked has said so.
            let _ = thread.join();
        }
    }
}

/// A helper's whole life.
fn live(control: &Control, index: usize) {
    /// Says that a helper is gone, however it ends.
    struct Last<'a>(&'a Post);
    impl Drop for Last<'_> {
        fn drop(&mut self) {
            // Release: what it has written, though nobody reads it.
            self.0.dead.store(1, Ordering::Release);
        }
    }
    let Some(post) = control.posts().get(index) else { return };
    let _last = Last(post);
    while let Some(bell) = control.help(index) {
        // A bell that rang before this is another number, and one that rings before the thread is parked lets it pass.
        while post.bell.load(Ordering::SeqCst) == bell {
            std::thread::park();
        }
    }
}
