//! The allocator of the browser's build: the standard library's under a lock.
//!
//! The standard library is compiled without atomics, so its own allocator takes no lock, while the memory is shared with
//! the helpers. They allocate nothing; should one, it waits here rather than break the heap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};

struct Locked {
    taken: AtomicBool,
}

#[global_allocator]
static ALLOCATOR: Locked = Locked { taken: AtomicBool::new(false) };

impl Locked {
    fn locked<T>(&self, run: impl FnOnce() -> T) -> T {
        // Acquire: what the last holder wrote is seen; Release, below, shows what this one wrote.
        while self.taken.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            spin_loop();
        }
        let value = run();
        self.taken.store(false, Ordering::Release);
        value
    }
}

// SAFETY: every call goes to `System`, with what the caller promised, and one at a time.
unsafe impl GlobalAlloc for Locked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.locked(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.locked(|| unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.locked(|| unsafe { System.realloc(old, layout, size) })
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        self.locked(|| unsafe { System.dealloc(old, layout) });
    }
}
