//! Memory: what the allocator does with freed blocks, which is a third of a training step; how much of it is in use at most; how much the
//! machine has.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use anyhow::{Result, anyhow};

/// The system's allocator, which counts while [`peak_of`] runs and holds back large blocks that were freed.
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

// SAFETY: every block is the system's allocator's. One that `FREED` holds is nobody's, and is handed out for its own layout alone.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: the caller keeps the contract of this method, which is that of the system's.
        taken(layout).unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        if let Some(block) = taken(layout) {
            // SAFETY: a block of this layout, which nobody else has.
            unsafe { block.write_bytes(0, layout.size()) };
            return block;
        }
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
        if layout.size() >= LARGE
            && let Ok(mut freed) = FREED.lock()
        {
            freed.put(Block { start: block, layout });
        } else {
            // SAFETY: the caller keeps the contract of this method, which is that of the system's.
            unsafe { System.dealloc(block, layout) }
        }
    }
}

/// What counts as a large block. glibc keeps smaller ones in its heaps; for larger ones, on every thread but the first, it goes to the kernel
/// whatever it is told.
const LARGE: usize = 32 << 20;
/// The most bytes of large blocks that are held back.
const MOST_FREED: usize = 1 << 30;

/// Large blocks that were freed: a step allocates the same gradients again, and the kernel would clear every page of them anew.
static FREED: Mutex<Freed> = Mutex::new(Freed { blocks: [const { None }; 16], bytes: 0 });

/// A large block of this layout that was freed before.
fn taken(layout: Layout) -> Option<*mut u8> {
    if layout.size() < LARGE {
        return None;
    }
    FREED.lock().ok()?.take(layout)
}

struct Block {
    start: *mut u8,
    layout: Layout,
}

// SAFETY: nobody has a freed block, and any thread may be given it.
unsafe impl Send for Block {}

/// Freed blocks, the latest first.
struct Freed {
    blocks: [Option<Block>; 16],
    bytes: usize,
}

impl Freed {
    fn take(&mut self, layout: Layout) -> Option<*mut u8> {
        let block = self.blocks.iter_mut().find(|block| block.as_ref().is_some_and(|block| block.layout == layout))?.take()?;
        self.bytes -= block.layout.size();
        Some(block.start)
    }

    /// Holds a block back, and gives the oldest ones to the system until the rest is within the bounds.
    fn put(&mut self, block: Block) {
        self.bytes += block.layout.size();
        let free = self.blocks.iter().position(Option::is_none).unwrap_or(self.blocks.len() - 1);
        self.blocks[..=free].rotate_right(1);
        let mut oldest = self.blocks[0].replace(block);
        loop {
            if let Some(Block { start, layout }) = oldest.take() {
                self.bytes -= layout.size();
                // SAFETY: the system's allocator gave it with this layout, and nobody has it.
                unsafe { System.dealloc(start, layout) };
            }
            if self.bytes <= MOST_FREED {
                return;
            }
            oldest = self.blocks.iter_mut().rev().find_map(Option::take);
        }
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
    use super::*;

    #[test]
    fn a_freed_block_is_taken_by_its_own_layout_alone_and_the_oldest_go_first() {
        let layout = |size| Layout::from_size_align(size, 64).unwrap();
        let mut freed = Freed { blocks: [const { None }; 16], bytes: 0 };
        // SAFETY: the layout is not empty.
        let put = |freed: &mut Freed, layout| freed.put(Block { start: unsafe { System.alloc(layout) }, layout });
        for size in 1..=20 {
            put(&mut freed, layout(size));
        }
        assert_eq!(freed.bytes, (5..=20).sum::<usize>());
        assert!(freed.take(layout(4)).is_none());
        let block = freed.take(layout(7)).expect("one of the latest sixteen");
        assert!(freed.take(layout(7)).is_none());
        freed.put(Block { start: block, layout: layout(7) });
        put(&mut freed, layout(MOST_FREED));
        assert_eq!(freed.bytes, MOST_FREED, "nothing fits beside it");
        put(&mut freed, layout(MOST_FREED + 1));
        assert_eq!(freed.bytes, 0, "nor does what is larger");
    }

    #[test]
    fn memory_is_a_number_with_its_unit() {
        assert_eq!(bytes("80GB").expect("a unit"), 80_000_000_000);
        assert_eq!(bytes("1.5 GiB").expect("a unit"), 3 << 29);
        for wrong in ["80", "GB", "-1GB", "80 gb", "infGB", ""] {
            assert!(bytes(wrong).expect_err(wrong).to_string().contains("80GB"));
        }
    }
}
