//! The `adpo` program: arguments in, pipeline calls, output. One file per group of subcommands.

mod args;
mod assets;
mod commands;
mod memory;

use std::io::ErrorKind;
use std::process::ExitCode;

use args::{Cli, SHORT_HELP};

fn main() -> ExitCode {
    if std::env::args_os().len() == 1 {
        print!("{SHORT_HELP}");
        return ExitCode::SUCCESS;
    }
    memory::keep_what_is_freed();
    let Cli { command, offline } = Cli::from_command_line();
    match commands::run(command, offline) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error with its causes, each told once, and what to do where there was no room: the system's own words are all that there is.
fn told(error: &anyhow::Error) -> String {
    let mut told = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !told.contains(&cause) {
            told.extend([": ", &cause]);
        }
    }
    let kinds = error.chain().filter_map(|cause| Some(cause.downcast_ref::<std::io::Error>()?.kind()));
    if kinds.into_iter().any(|kind| matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)) {
        told += "; make room and run the same again, what is finished is kept";
    }
    told
}
