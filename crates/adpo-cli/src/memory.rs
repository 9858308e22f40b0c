//! Memory: what the allocator does with freed blocks, which is a third of a training step; how much of it is in use at most; how much the
//! machine has.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use anyhow::{Result, anyhow};

/// The system's allocator, which counts while [`peak_of`] runs.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// What `work` gives, and the most bytes that were allocated at one time while it ran, beyond those that were before: no code, no stacks,
/// no mapped files, and none of what the allocator holds back.
pub(crate) fn peak_of<T>(work: impl FnOnce() -> T) -> (T, u64) {
    LIVE.store(0, Relaxed);
    PEAK.store(0, Relaxed);
    COUNTS.store(true, Relaxed);
    let done = work();
    COUNTS.store(false, Relaxed);
    (done, PEAK.load(Relaxed) as u64)
}

fn more(bytes: usize) {
    if COUNTS.load(Relaxed) {
        let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
        PEAK.fetch_max(live, Relaxed);
    }
}

fn less(bytes: usize) {
    if COUNTS.load(Relaxed) {
        // Blocks of before may go: never below nothing.
        let _ = LIVE.try_update(Relaxed, Relaxed, |live| Some(live.saturating_sub(bytes)));
    }
}

// SAFETY: every block comes from the system's allocator and goes back to it, with the layout that the caller gave; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: the caller keeps the contract of this method, which is that of the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: the caller keeps the contract of this method, which is that of the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        more(size);
        less(layout.size());
        // SAFETY: the caller keeps the contract of this method, which is that of the system's.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        less(layout.size());
        // SAFETY: the caller keeps the contract of this method, which is that of the system's.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Keeps freed memory in the process. glibc gives large blocks back at once and the top of its heap soon after, and a step
/// allocates the same gradients and activations again: the kernel then clears every page of them anew.
/// Other allocators are left as they are.
pub(crate) fn keep_what_is_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: called before any other thread exists; a refused setting changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// Bytes of memory that the machine has, where the system says so.
pub(crate) fn of_machine() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes: u64 = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
/// `80GB`, `78GiB`, `500MB`.
pub(crate) fn bytes(text: &str) -> Result<u64> {
    let units = [("GiB", f64::from(1 << 30)), ("MiB", f64::from(1 << 20)), ("GB", 1e9), ("MB", 1e6)];
    let amount = |unit| text.strip_suffix(unit).and_then(|number| number.trim().parse::<f64>().ok());
    let found = units.iter().find_map(|(unit, size)| amount(unit).map(|number| number * size));
    found
        .filter(|bytes| bytes.is_finite() && *bytes > 0.0)
        .map(|bytes| bytes as u64)
        .ok_or_else(|| anyhow!("give a number with GB, GiB, MB or MiB, such as 80GB"))
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn memory_is_a_number_with_its_unit() {
        assert_eq!(bytes("80GB").expect("a unit"), 80_000_000_000);
        assert_eq!(bytes("1.5 GiB").expect("a unit"), 3 << 29);
        for wrong in ["80", "GB", "-1GB", "80 gb", "infGB", ""] {
            assert!(bytes(wrong).expect_err(wrong).to_string().contains("80GB"));
        }
    }
}
