//! What an engine and its helpers share: the job, who has which chunk of it, who sleeps.
//!
//! There is one job at a time. A job is a function and at most [`JOB_BYTES`] bytes that it works on; its chunks are
//! independent. Whoever has nothing to do takes the next chunk by raising the *ticket*, one word that holds the job's
//! number, how many chunks it has and how many are taken.
//!
//! | kind | a helper writes | at the end the engine |
//! |---|---|---|
//! | pieces | into its own strip, and publishes the chunk in the chunk's state | copies the strips; a chunk that is late it takes back and computes itself, so that the helper's publishing fails |
//! | in place | to the chunk's own places | waits until no helper is busy |
//!
//! A helper that has died is known by a flag. What it may have left undone is computed again.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::error::Result;

use super::super::memory::zeroed;

/// Most helpers.
pub const MAX_HELPERS: usize = 32;
/// Most pieces of a job: a bit of a word for each.
pub const MAX_PIECES: usize = 64;
/// Most chunks of a job in place.
pub const MAX_CHUNKS: usize = COUNT as usize;
/// Floats of a strip: the largest output that is computed in pieces.
pub const STRIP: usize = 1 << 18;
/// Floats of working memory that a chunk may use.
pub const SCRATCH: usize = 1 << 18;
/// What a job may bring along.
pub const JOB_BYTES: usize = 256;

/// How often a helper looks for work before it sleeps: about 30 µs, which is longer than the engine needs between two
/// jobs of a token.
#[cfg(not(target_arch = "wasm32"))]
const LOOKS: u32 = 600;
#[cfg(target_arch = "wasm32")]
const LOOKS: u32 = 15_000;

/// A ticket: 40 bits of number, 12 of chunks, 12 of chunks taken. Forty bits are two years of 15,000 jobs a second, so no
/// number comes again while a helper holds an old one.
const COUNT: u64 = 0xfff;
const COUNT_SHIFT: u32 = 12;
const EPOCH_SHIFT: u32 = 24;

/// A chunk's state: its job's number above, and below this or who.
const OPEN: u64 = 0;
const TAKEN_BACK: u64 = 0xff;
const STATE_SHIFT: u32 = 8;

/// Keeps what different threads write in different cache lines; processors fetch lines in pairs.
#[repr(C, align(128))]
struct Line<T>(T);

/// A job's code: runs one chunk. Arguments: its bytes, the chunk, strip and scratch of who runs it.
pub type Run = unsafe fn(*const u8, usize, *mut f32, *mut f32);

/// The job's bytes, aligned for what they hold.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub struct Bytes(pub MaybeUninit<[u8; JOB_BYTES]>);

/// What a helper copies when it has taken a chunk of a job that is new to it.
#[derive(Clone, Copy)]
pub struct Job {
    pub run: Run,
    pub bytes: Bytes,
    /// Whether chunks are pieces.
    pub pieces: bool,
}

/// A helper's place.
#[repr(C, align(128))]
pub struct Post {
    /// Raised to wake the helper, which waits for it to change.
    pub bell: AtomicU32,
    /// Set when the helper's thread is gone for good: by the helper itself, or by the engine once the page has told it.
    pub dead: AtomicU32,
    /// 1 from before the helper sleeps until it is awake or the bell is rung.
    asleep: AtomicU32,
    /// 1 while the helper may hold a chunk.
    busy: AtomicU32,
    /// 1 when the helper has left and will touch nothing any more.
    gone: AtomicU32,
    strip: *mut f32,
    scratch: *mut f32,
    /// Only tests: what the helper does between taking a chunk and computing it.
    #[cfg(test)]
    pub delay: std::sync::Mutex<Option<Box<dyn FnMut() + Send>>>,
}

/// All of it.
pub struct Control {
    ticket: Line<AtomicU64>,
    /// How many helpers are invited: those with a lower index.
    invited: Line<AtomicU32>,
    leaving: AtomicU32,
    job: Line<UnsafeCell<MaybeUninit<Job>>>,
    states: Line<[AtomicU64; MAX_PIECES]>,
    posts: Box<[Post]>,
    /// Strips and scratch of all helpers.
    _memory: UnsafeCell<Vec<f32>>,
}

// SAFETY: `job` is written by the engine alone, and read as `Control::copy` says; `_memory` is only held, and each
// helper writes its own part of it, which the engine reads as `Control::piece` says. The rest are atomics.
unsafe impl Sync for Control {}
// SAFETY: it is bound to no thread.
unsafe impl Send for Control {}

const fn pack(epoch: u64, count: usize) -> u64 {
    epoch << EPOCH_SHIFT | (count as u64) << COUNT_SHIFT
}

/// The chunk that this ticket gives to who raises it.
fn free(ticket: u64) -> Option<usize> {
    let (count, taken) = (ticket >> COUNT_SHIFT & COUNT, ticket & COUNT);
    (taken < count).then_some(taken as usize)
}

fn epoch_of(ticket: u64) -> u64 {
    ticket >> EPOCH_SHIFT
}

/// Where the engine finds the result of a chunk that it has not computed.
pub enum Piece {
    /// Nowhere yet.
    Open,
    /// In the strip that begins here.
    In(*const f32),
}

impl Control {
    /// For so many helpers, all asleep.
    pub fn new(helpers: usize) -> Result<Self> {
        let helpers = helpers.min(MAX_HELPERS);
        let mut memory: Vec<f32> =
            zeroed("the working memory of threads", (helpers * (STRIP + SCRATCH)) as u64)?;
        let posts = memory.chunks_exact_mut(STRIP + SCRATCH).map(|own| {
            let (strip, scratch) = own.split_at_mut(STRIP);
            Post {
                bell: AtomicU32::new(0),
                dead: AtomicU32::new(0),
                asleep: AtomicU32::new(1),
                busy: AtomicU32::new(0),
                gone: AtomicU32::new(0),
                strip: strip.as_mut_ptr(),
                scratch: scratch.as_mut_ptr(),
                #[cfg(test)]
                delay: std::sync::Mutex::new(None),
            }
        });
        Ok(Control {
            posts: posts.collect(),
            ticket: Line(AtomicU64::new(0)),
            invited: Line(AtomicU32::new(helpers as u32)),
            leaving: AtomicU32::new(0),
            job: Line(UnsafeCell::new(MaybeUninit::uninit())),
            states: Line([const { AtomicU64::new(0) }; MAX_PIECES]),
            _memory: UnsafeCell::new(memory),
        })
    }

    pub fn posts(&self) -> &[Post] {
        &self.posts
    }

    // The engine's side. There is one engine; it calls these from one thread.

    /// Invites the first `count` helpers that live to the jobs that follow.
    pub fn invite(&self, count: usize) {
        let alive = self.posts.iter().enumerate().filter(|(_, post)| post.dead.load(Ordering::Relaxed) == 0);
        let last = alive.take(count).last().map_or(0, |(index, _)| index + 1);
        // Relaxed: the next ticket publishes it.
        self.invited.0.store(last as u32, Ordering::Relaxed);
    }

    /// Whether anybody is invited.
    pub fn invites(&self) -> bool {
        self.invited.0.load(Ordering::Relaxed) > 0
    }

    /// Offers a job to the helpers that are invited, and calls `ring` for each that sleeps.
    pub fn offer(&self, epoch: u64, chunks: usize, job: Job, mut ring: impl FnMut(usize, &Post)) {
        // Closes the last job for a helper that has taken a chunk of it and has not copied it yet (only where chunks are
        // taken back; see `copy`). Release fence: the ticket changes before the job does.
        self.ticket.0.store(pack(epoch, 0), Ordering::Relaxed);
        fence(Ordering::Release);
        // SAFETY: this thread alone writes. A helper reads after it has taken a chunk of this job, that is after it has
        // seen the ticket below; or late, and then finds that the ticket has changed.
        unsafe { (*self.job.0.get()).write(job) };
        if job.pieces {
            for state in self.states.0.iter().take(chunks) {
                // Relaxed: the ticket publishes it. A late helper's exchange expects an older number, and fails.
                state.store(epoch << STATE_SHIFT | OPEN, Ordering::Relaxed);
            }
        }
        // SeqCst with the loads of `asleep` below: either this thread sees that a helper is falling asleep, or the helper,
        // which says so before it looks for the last time, sees this ticket. It releases all that is written above.
        self.ticket.0.store(pack(epoch, chunks), Ordering::SeqCst);
        let invited = self.invited.0.load(Ordering::Relaxed) as usize;
        for (index, post) in self.posts.iter().enumerate().take(invited) {
            if post.asleep.load(Ordering::SeqCst) == 1 && post.dead.load(Ordering::Relaxed) == 0 {
                self.wake(index, post, &mut ring);
            }
        }
    }

    fn wake(&self, index: usize, post: &Post, ring: &mut impl FnMut(usize, &Post)) {
        // Whoever sets it to 0 has woken the helper; the bell changes before the helper is called, so that a helper that is
        // not asleep yet does not fall asleep.
        if post.asleep.swap(0, Ordering::SeqCst) == 1 {
            // One thread rings; 31 bits, so that a helper's answer can be negative.
            let bell = post.bell.load(Ordering::Relaxed).wrapping_add(1) & 0x7fff_ffff;
            post.bell.store(bell, Ordering::SeqCst);
            ring(index, post);
        }
    }

    /// The next chunk, for the engine itself.
    pub fn take(&self) -> Option<usize> {
        self.claim().map(|(_, chunk)| chunk)
    }

    /// The next chunk, and the number of its job.
    fn claim(&self) -> Option<(u64, usize)> {
        // Acquire: the job of this ticket is to be read. AcqRel: what was read of an earlier job was read before; and who
        // finds the ticket used up finds who is busy with it.
        let mut ticket = self.ticket.0.load(Ordering::Acquire);
        while let Some(chunk) = free(ticket) {
            let raised =
                self.ticket.0.compare_exchange_weak(ticket, ticket + 1, Ordering::AcqRel, Ordering::Acquire);
            match raised {
                Ok(_) => return Some((epoch_of(ticket), chunk)),
                Err(now) => ticket = now,
            }
        }
        None
    }

    /// The result of a chunk of the job offered last.
    pub fn piece(&self, epoch: u64, chunk: usize) -> Piece {
        // Acquire: with the helper's exchange, which releases what it wrote into its strip. It writes there again only when
        // it has taken a chunk of a later job.
        let state = self.states.0[chunk].load(Ordering::Acquire);
        match (state & ((1 << STATE_SHIFT) - 1)) as usize {
            who if state >> STATE_SHIFT == epoch && (1..=self.posts.len()).contains(&who) => {
                Piece::In(self.posts[who - 1].strip)
            }
            _ => Piece::Open,
        }
    }

    /// Takes a chunk back from whoever has it. Whether it was still open.
    pub fn take_back(&self, epoch: u64, chunk: usize) -> bool {
        let open = epoch << STATE_SHIFT | OPEN;
        // Relaxed: nothing of the helper's is read if it succeeds; if it does not, `piece` is asked again.
        self.states.0[chunk]
            .compare_exchange(open, epoch << STATE_SHIFT | TAKEN_BACK, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Whether some helper that lives holds a chunk. To be asked when no chunk is free.
    pub fn is_somebody_busy(&self) -> bool {
        // Acquire: with the store in `work`, so that what a helper wrote in place is seen.
        self.posts
            .iter()
            .any(|post| post.busy.load(Ordering::Acquire) == 1 && post.dead.load(Ordering::Acquire) == 0)
    }

    /// Whether a helper died while it held a chunk; told once.
    pub fn has_lost_one(&self) -> bool {
        let mut lost = false;
        for post in &self.posts {
            if post.dead.load(Ordering::Acquire) == 1 {
                // The helper is gone: this thread alone writes the word.
                lost |= post.busy.swap(0, Ordering::Relaxed) == 1;
            }
        }
        lost
    }

    /// Helpers that live.
    pub fn alive(&self) -> usize {
        self.posts.iter().filter(|post| post.dead.load(Ordering::Relaxed) == 0).count()
    }

    /// Tells all helpers to leave.
    pub fn dismiss(&self, mut ring: impl FnMut(usize, &Post)) {
        // SeqCst, as the ticket in `offer`.
        self.leaving.store(1, Ordering::SeqCst);
        for (index, post) in self.posts.iter().enumerate() {
            self.wake(index, post, &mut ring);
        }
    }

    /// Whether all helpers that live have left.
    #[cfg(target_arch = "wasm32")]
    pub fn is_deserted(&self) -> bool {
        let gone =
            |post: &Post| post.gone.load(Ordering::Acquire) == 1 || post.dead.load(Ordering::Acquire) == 1;
        self.posts.iter().all(gone)
    }

    // A helper's side.

    /// Works until there has been nothing to do for a while, and returns the bell as last heard: the helper sleeps until
    /// it is another, and comes again. `None`: the helper leaves, and must not come again.
    pub fn help(&self, index: usize) -> Option<u32> {
        let post = self.posts.get(index)?;
        post.asleep.store(0, Ordering::SeqCst);
        let mut looks = 0;
        loop {
            if self.leaving.load(Ordering::Relaxed) == 1 {
                // Release: all that this helper has read and written was before.
                post.gone.store(1, Ordering::Release);
                return None;
            }
            if self.is_wanted(index) {
                self.work(post, index);
                looks = 0;
                continue;
            }
            looks += 1;
            if looks < LOOKS {
                rest(looks);
                continue;
            }
            let bell = post.bell.load(Ordering::SeqCst);
            // SeqCst with the ticket: see `offer`. A bell that is rung from here on is another than the one just read.
            post.asleep.store(1, Ordering::SeqCst);
            if !self.is_wanted(index) && self.leaving.load(Ordering::SeqCst) == 0 {
                return Some(bell);
            }
            post.asleep.store(0, Ordering::SeqCst);
            looks = 0;
        }
    }

    fn is_wanted(&self, index: usize) -> bool {
        // SeqCst: the last look before sleep, see `offer`. On x86 and in WebAssembly it costs no more than Acquire.
        free(self.ticket.0.load(Ordering::SeqCst)).is_some()
            && index < self.invited.0.load(Ordering::Relaxed) as usize
    }

    fn work(&self, post: &Post, index: usize) {
        // Relaxed: the exchange that takes a chunk comes after and releases it, see `claim`.
        post.busy.store(1, Ordering::Relaxed);
        let mut known: Option<(u64, Job)> = None;
        while let Some((epoch, chunk)) = self.claim() {
            let job = match known {
                Some((of, job)) if of == epoch => job,
                _ => match self.copy(epoch) {
                    Some(job) => {
                        known = Some((epoch, job));
                        job
                    }
                    None => continue,
                },
            };
            #[cfg(test)]
            if let Some(delay) = post.delay.lock().ok().as_deref_mut().and_then(Option::as_mut) {
                delay();
            }
            // SAFETY: the bytes are those that go with `run`; strip and scratch are this helper's own. That what the bytes
            // point to may still be used is the promise of who offered the job (`Team::pieces`, `Team::each`).
            unsafe { (job.run)(job.bytes.0.as_ptr().cast(), chunk, post.strip, post.scratch) };
            if job.pieces {
                let open = epoch << STATE_SHIFT | OPEN;
                let mine = epoch << STATE_SHIFT | (index as u64 + 1);
                // Release: with `piece`. It fails if the chunk was taken back; the result is dropped then.
                let _ =
                    self.states.0[chunk].compare_exchange(open, mine, Ordering::Release, Ordering::Relaxed);
            }
        }
        // Release: with `is_somebody_busy`.
        post.busy.store(0, Ordering::Release);
    }

    /// The job of which this helper has taken a chunk, unless it is over.
    fn copy(&self, epoch: u64) -> Option<Job> {
        // SAFETY: natively the engine waits for every chunk that is taken, so the job stays as it is until this helper
        // publishes or is no longer busy: no race. In WebAssembly a chunk may have been taken back and the engine may be
        // writing the next job now. Reads that race give some bytes there; they are looked at only if the ticket has
        // not changed, and it changes before the job does.
        let job = unsafe { std::ptr::read_volatile(self.job.0.get()) };
        // Acquire fence: the job is read before the ticket is.
        fence(Ordering::Acquire);
        let is_current = epoch_of(self.ticket.0.load(Ordering::Relaxed)) == epoch;
        // SAFETY: written before the ticket of this number was.
        is_current.then(|| unsafe { job.assume_init() })
    }
}

/// Between two looks.
fn rest(looks: u32) {
    #[cfg(not(target_arch = "wasm32"))]
    if looks > LOOKS / 2 {
        // Where there are more threads than cores, another one may have work.
        std::thread::yield_now();
    }
    let _ = looks;
    std::hint::spin_loop();
}
