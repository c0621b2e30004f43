//! An allocator that ends the process once it holds more than a limit.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::MEMORY_LIMIT;

/// Counts the bytes of the whole process.
#[derive(Debug)]
pub struct Limited;

static HELD: AtomicUsize = AtomicUsize::new(0);

/// Says so and ends the process: an allocator must not panic.
fn too_much(held: usize) -> ! {
    // Printing may allocate: the counter starts anew for it.
    HELD.store(0, Ordering::Relaxed);
    eprintln!("fuzz: {held} bytes of memory, more than {MEMORY_LIMIT}");
    std::process::abort();
}

unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed).saturating_add(layout.size());
        if held > MEMORY_LIMIT {
            too_much(held);
        }
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}
