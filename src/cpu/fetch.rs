//! Reads memory ahead of the kernels.
//!
//! A kernel does so much with each cache line that a processor has few lines on their way at a time, and waits for each.
//! WebAssembly has no prefetch instruction. A loop that does nothing but read one byte of each line keeps all requests busy.

/// Bytes that are read ahead at once: they fit into an L2 cache with what else a kernel reads.
pub const AT_ONCE: usize = 64 << 10;
/// Bytes of a cache line; a few processors have longer ones.
const LINE: usize = 64;
/// Places that are read in turns. Processors foresee each by itself, up to the end of its page.
const STREAMS: usize = 4;

/// Brings memory into the cache.
#[inline(always)]
pub fn fetch<T>(memory: &[T]) {
    let (first, len) = (memory.as_ptr().cast::<u8>(), size_of_val(memory));
    let part = len / STREAMS / LINE * LINE;
    for at in (0..part).step_by(LINE) {
        for stream in 0..STREAMS {
            // SAFETY: within the slice. Volatile, so that the read is not left out; the byte is not used.
            let _ = unsafe { first.add(stream * part + at).read_volatile() };
        }
    }
    for at in (STREAMS * part..len).step_by(LINE) {
        // SAFETY: the same.
        let _ = unsafe { first.add(at).read_volatile() };
    }
}
