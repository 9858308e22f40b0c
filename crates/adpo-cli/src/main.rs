//! The `adpo` program: arguments in, pipeline calls, output. One file per group of subcommands.

mod args;
mod assets;
mod commands;
mod memory;

use std::io::ErrorKind;
use std::process::ExitCode;

use args::{BenchCommand, Cli, Command, DataCommand, EvaluatorsCommand, SHORT_HELP};

fn main() -> ExitCode {
    if std::env::args_os().len() == 1 {
        print!("{SHORT_HELP}");
        return ExitCode::SUCCESS;
    }
    memory::keep_what_is_freed();
    match run(Cli::from_command_line().command) {
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

fn run(command: Command) -> anyhow::Result<()> {
    use adpo_pipeline::Stage;
    match command {
        Command::Run(args) | Command::Compare(args) => commands::stage::run(&args, Stage::Compare),
        Command::Sft(args) => commands::stage::run(&args, Stage::Sft),
        Command::Sample(args) => commands::sample::run(&args),
        Command::Annotate(args) => commands::stage::run(&args, Stage::Annotate),
        Command::Plan(args) => commands::plan::run(&args),
        Command::Train(args) => commands::stage::run(&args, Stage::Train),
        Command::Evaluate(args) if args.responses.is_empty() => commands::stage::run(&args.stage, Stage::Evaluate),
        Command::Evaluate(args) => commands::evaluate::run(&args),
        Command::Pretrain(args) => commands::pretrain::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::Data(DataCommand::Inspect(args)) => commands::data::inspect(&args),
        Command::Evaluators(EvaluatorsCommand::Train(args)) => commands::evaluators::rebuild(&args),
        Command::Evaluators(EvaluatorsCommand::Validate(args)) => commands::evaluators::check(&args),
        Command::Evaluators(EvaluatorsCommand::Words(args)) => commands::evaluators::words(&args),
        Command::Bench(BenchCommand::Step(args)) => commands::bench::step(&args),
        Command::Bench(BenchCommand::Rows(args)) => commands::bench::rows(&args),
        Command::Bench(BenchCommand::Load(args)) => commands::bench::load(&args),
        Command::Bench(BenchCommand::Sample(args)) => commands::bench::sample(&args),
        Command::Bench(BenchCommand::Kernels(args)) => commands::bench::kernels(&args),
    }
}
