//! How much memory a model on the CPU can have, and what takes some of it already.

#[cfg(target_arch = "wasm32")]
use std::sync::atomic::{AtomicU64, Ordering};

/// What a load holds of the file at once, and some more for a prompt's text.
const STAGING: u64 = 4 << 20;

/// Of WebAssembly memory, in bytes.
#[cfg(target_arch = "wasm32")]
const PAGE: u64 = 65_536;

/// To which this module's memory can grow: what addresses reach, until the page says what it got.
#[cfg(target_arch = "wasm32")]
static MOST: AtomicU64 = AtomicU64::new(65_536 * PAGE);

/// Tells to how many bytes this module's memory can grow.
#[cfg(target_arch = "wasm32")]
pub fn set_most_bytes(bytes: u64) {
    MOST.store(bytes, Ordering::Relaxed);
}

/// The most bytes that there can be, everything together; `None` where that is not known.
#[cfg(target_arch = "wasm32")]
#[must_use]
pub fn most_bytes() -> Option<u64> {
    Some(MOST.load(Ordering::Relaxed))
}

/// Bytes beside a model: the heap as it is, and what a load takes for a while.
#[cfg(target_arch = "wasm32")]
#[must_use]
pub fn beside_bytes() -> u64 {
    std::arch::wasm32::memory_size(0) as u64 * PAGE + STAGING
}

/// The most bytes that there can be, everything together; `None` where that is not known.
#[cfg(not(target_arch = "wasm32"))]
#[must_use]
pub fn most_bytes() -> Option<u64> {
    meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// Bytes beside a model: what a load takes for a while.
#[cfg(not(target_arch = "wasm32"))]
#[must_use]
pub fn beside_bytes() -> u64 {
    STAGING
}

/// Memory and swap space of Linux, from lines such as `MemTotal: 24 kB`.
#[cfg(not(target_arch = "wasm32"))]
fn meminfo(text: &str) -> Option<u64> {
    let kibibytes = |key| {
        let value = text.lines().find_map(|line| line.strip_prefix(key))?;
        value.strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some((kibibytes("MemTotal:")? + kibibytes("SwapTotal:").unwrap_or(0)) * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_swap_space_are_added() {
        let text = "MemTotal:       24587104 kB\nMemFree:          100 kB\nSwapTotal:       2000 kB\n";
        assert_eq!(meminfo(text), Some((24_587_104 + 2000) * 1024));
        assert_eq!(meminfo("MemTotal: 8 kB"), Some(8192));
        assert_eq!(meminfo("MemTotal: many kB"), None);
        assert_eq!(meminfo(""), None);
    }
}
