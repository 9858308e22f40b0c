//! Progress on standard error: a bar on a terminal, a plain line every few steps elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::StepRecord;

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    name: String,
    total: usize,
    started: Instant,
    first: usize,
    last_line: Option<Instant>,
}

/// Elsewhere than on a terminal, at most one line in this time (and always the last).
const LINE_EVERY: Duration = Duration::from_secs(10);

impl Progress {
    pub(crate) fn new(name: &str, total: usize, done: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} {msg} eta {eta}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(total as u64).with_style(style).with_prefix(name.to_owned());
            bar.set_position(done as u64);
            bar.reset_eta();
            bar
        });
        Self { bar, name: name.to_owned(), total, started: Instant::now(), first: done, last_line: None }
    }

    pub(crate) fn step(&mut self, record: &StepRecord, tokens_per_second: f64) {
        let message = summary(record, tokens_per_second);
        if let Some(bar) = &self.bar {
            bar.set_message(message);
            bar.set_position(record.step as u64);
            return;
        }
        let due = self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY);
        if due || record.step == self.total {
            self.last_line = Some(Instant::now());
            let done = (record.step - self.first).max(1) as f64;
            let left = self.started.elapsed().as_secs_f64() / done * (self.total - record.step) as f64;
            eprintln!("{} {}/{} {message} eta {left:.0}s", self.name, record.step, self.total);
        }
    }

    pub(crate) fn warn(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(format!("warning: {text}")),
            None => eprintln!("warning: {text}"),
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

fn summary(record: &StepRecord, tokens_per_second: f64) -> String {
    let shown = [("loss", "loss"), ("rewards/margins", "margin"), ("kl/chosen", "kl w"), ("kl/rejected", "kl l"), ("kl/toxic", "kl t")];
    let mut text: Vec<String> = shown.iter().filter_map(|(name, short)| Some(format!("{short} {:.3}", record.get(name)?))).collect();
    text.push(format!("{tokens_per_second:.0} tok/s"));
    text.join(" ")
}
