//! A stack that is deep enough.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// What the parser needs of it for the longest template, and the engine for the deepest value that fuel pays for, is measured by a test;
/// of the rest no page is ever touched.
const DEPTH: usize = 512 << 20;

thread_local! {
    static IS_DEEP: Cell<bool> = const { Cell::new(false) };
}

/// Does work whose recursion somebody else's text decides. A thread costs about what rendering a dialogue does: who renders many does it
/// in one of these calls.
pub(crate) fn on_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    if IS_DEEP.get() {
        return work();
    }
    let work = Mutex::new(Some(work));
    let take = || work.lock().unwrap_or_else(PoisonError::into_inner).take();
    let deep = || {
        IS_DEEP.set(true);
        take().map(|work| work())
    };
    let done = thread::scope(|scope| {
        // Where the system gives no such thread, the stack at hand has to do.
        let thread = thread::Builder::new().stack_size(DEPTH).spawn_scoped(scope, deep).ok()?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    });
    done.unwrap_or_else(|| take().expect("no thread has taken it")())
}
