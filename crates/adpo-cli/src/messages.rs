//! What is said on standard error, and in which colours: errors, and as far as `--quiet` and `--verbose` let them, what the libraries log.

use anstyle::{AnsiColor, Style};
use clap::ColorChoice;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::args::MessageArgs;
use crate::text::inert;

/// Colours for everything that is written from here on; `auto` asks the terminal, NO_COLOR, CLICOLOR and CLICOLOR_FORCE.
pub(crate) fn set_colors(choice: ColorChoice) {
    let choice = match choice {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    };
    choice.write_global();
}

/// Lets messages through, from now on.
pub(crate) fn listen(args: MessageArgs) {
    let most = match (args.quiet, args.verbose) {
        (true, _) => LevelFilter::Error,
        (false, true) => LevelFilter::Debug,
        (false, false) => LevelFilter::Info,
    };
    // Nobody has set one before.
    if log::set_logger(&StandardError).is_ok() {
        log::set_max_level(most);
    }
}

/// The error that ends the program.
pub(crate) fn error(text: &str) {
    let red = AnsiColor::Red.on_default().bold();
    anstream::eprintln!("{red}error:{red:#} {}", inert(text));
}

struct StandardError;

impl Log for StandardError {
    /// What other crates log is about themselves.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("adpo") && metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (style, prefix) = match record.level() {
            Level::Error => (AnsiColor::Red.on_default().bold(), "error: "),
            Level::Warn => (AnsiColor::Yellow.on_default().bold(), "warning: "),
            Level::Info => (Style::new(), ""),
            Level::Debug | Level::Trace => (Style::new().dimmed(), ""),
        };
        // Names, ids and what servers say are in it.
        let text = inert(&record.args().to_string());
        if prefix.is_empty() {
            anstream::eprintln!("{style}{text}{style:#}");
        } else {
            anstream::eprintln!("{style}{prefix}{style:#}{text}");
        }
    }

    fn flush(&self) {}
}
