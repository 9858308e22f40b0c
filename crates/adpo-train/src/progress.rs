//! Progress on standard error: a bar on a terminal, a plain line every few seconds elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use log::Level;

/// How far a piece of work has come, for people who wait for it. Told as far as a program listens to what is logged: nothing where nobody
/// hears [`Level::Info`].
pub struct Progress {
    bar: Option<ProgressBar>,
    name: String,
    total: usize,
    /// Work that follows this one, as a multiple of it.
    rest: f64,
    started: Instant,
    first: usize,
    last_line: Option<Instant>,
    /// What the last line said.
    told: usize,
}

/// Elsewhere than on a terminal, at most one line in this time (and always the last).
const LINE_EVERY: Duration = Duration::from_secs(10);

impl Progress {
    /// Begins at `done` of `total`. `rest` is the work of the run that follows, as a multiple of this one: what is left of the run is told
    /// besides where there is any.
    pub fn new(name: &str, total: usize, done: usize, rest: f64) -> Self {
        let bar = (std::io::stderr().is_terminal() && log::log_enabled!(Level::Info)).then(|| {
            let style =
                ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(total as u64).with_style(style).with_prefix(name.to_owned());
            bar.set_position(done as u64);
            bar
        });
        Self { bar, name: name.to_owned(), total, rest, started: Instant::now(), first: done, last_line: None, told: done }
    }

    /// `done` of the total are done; `message` says more.
    pub fn set(&mut self, done: usize, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{message}{}", self.left(done)));
            bar.set_position(done as u64);
            return;
        }
        let due = self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY);
        if due || done == self.total && self.told != done {
            (self.last_line, self.told) = (Some(Instant::now()), done);
            log::info!("{} {done}/{} {message}{}", self.name, self.total, self.left(done));
        }
    }

    /// Says something above the bar.
    pub(crate) fn warn(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| log::warn!("{text}")),
            None => log::warn!("{text}"),
        }
    }

    /// ", 40 s left, run 12 min": as long as it took so far, for each piece.
    fn left(&self, done: usize) -> String {
        let Some(so_far) = done.checked_sub(self.first).filter(|so_far| *so_far > 0) else { return String::new() };
        let each = self.started.elapsed().as_secs_f64() / so_far as f64;
        let (here, after) = (each * self.total.saturating_sub(done) as f64, each * self.total as f64 * self.rest);
        match (done < self.total, after > 0.0) {
            (true, false) => format!(", {} left", duration(here)),
            (true, true) => format!(", {} left, run {}", duration(here), duration(here + after)),
            (false, true) => format!(", run {} left", duration(after)),
            (false, false) => String::new(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}

/// A time as people say it.
fn duration(seconds: f64) -> String {
    match seconds {
        ..99.5 => format!("{seconds:.0} s"),
        ..5970.0 => format!("{:.0} min", seconds / 60.0),
        ..345_600.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_say_them() {
        assert_eq!([3.2, 99.4, 100.0, 5400.0, 7200.0, 432_000.0].map(duration), ["3 s", "99 s", "2 min", "90 min", "2.0 h", "5 days"]);
    }

    #[test]
    fn the_run_s_time_counts_what_follows_and_a_resumed_start_does_not_count() {
        let mut progress = Progress::new("sft", 10, 4, 2.0);
        assert_eq!(progress.left(4), "", "nothing is known yet");
        progress.started = Instant::now().checked_sub(Duration::from_mins(1)).expect("a machine that is up for a minute");
        // Three steps in a minute: 20 seconds each, 3 to go here and 20 after.
        assert_eq!(progress.left(7), ", 60 s left, run 8 min");
        assert_eq!(progress.left(10), ", run 3 min left");
    }
}
