//! What the allocator does with freed memory, which is a third of a training step.

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
