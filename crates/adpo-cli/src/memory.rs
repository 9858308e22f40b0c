//! Memory: what the allocator does with freed blocks, which is a third of a training step; how much the machine has.

/// Keeps freed memory in the process. glibc gives large blocks back at once and the top of its heap soon after, and a step
/// allocates the same gradients and activations again: the kernel then clears every page of them anew.
/// Other allocators are left as they are.
pub(crate) fn keep_what_is_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: called before any other thread exists; a refused setting changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        // One arena for all threads: what one has freed the others can use, or each comes to hold what the largest step needs.
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Bytes of memory that the machine has, where the system says so.
pub(crate) fn of_machine() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes: u64 = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
