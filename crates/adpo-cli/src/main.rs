//! The `adpo` program: arguments in, pipeline calls, output. One file per group of subcommands.

mod args;
mod assets;
mod commands;
mod memory;
mod messages;
mod text;

use std::io::ErrorKind;
use std::process::ExitCode;

use adpo_pipeline::PipelineError;
use args::{Cli, SHORT_HELP};

fn main() -> ExitCode {
    if std::env::args_os().len() == 1 {
        print!("{SHORT_HELP}");
        return ExitCode::SUCCESS;
    }
    memory::keep_what_is_freed();
    outlive_a_full_file();
    let Cli { command, offline, messages, reading } = Cli::from_command_line();
    messages::listen(messages);
    reading.limits().apply();
    match commands::run(command, offline) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            messages::error(&told(&error));
            let busy = matches!(error.downcast_ref(), Some(PipelineError::Busy { .. }));
            if busy { ExitCode::from(BUSY) } else { ExitCode::FAILURE }
        }
    }
}

/// Somebody else is at work in the folder: the same command may succeed later (`EX_TEMPFAIL` of sysexits.h).
const BUSY: u8 = 75;

/// A file that reaches its size limit (`ulimit -f`) fails to be written, with an error that names it, instead of ending the program.
fn outlive_a_full_file() {
    #[cfg(unix)]
    // SAFETY: this is called once, before any thread is started, and to ignore a signal runs no code of ours.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// The error with its causes, each told once, and what to do about what the system said: its own words are all that there is.
fn told(error: &anyhow::Error) -> String {
    let mut told = error.to_string().trim_end().to_owned();
    for cause in error.chain().skip(1).map(|cause| cause.to_string().trim_end().to_owned()) {
        if !told.contains(&cause) {
            told.extend([": ", &cause]);
        }
    }
    let kind = error.chain().find_map(|cause| Some(cause.downcast_ref::<std::io::Error>()?.kind()));
    told += match kind {
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) => {
            "; make room and run the same again, what is finished is kept"
        }
        Some(ErrorKind::NotFound) => "; check the path",
        Some(ErrorKind::IsADirectory) => "; give a file",
        Some(ErrorKind::NotADirectory) => "; give a folder",
        Some(ErrorKind::PermissionDenied) => "; this user needs the right to it, or another path",
        _ => "",
    };
    told
}
