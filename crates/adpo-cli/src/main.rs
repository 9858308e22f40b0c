//! The `adpo` program: arguments in, pipeline calls, output. One file per group of subcommands.

mod args;
mod assets;
mod commands;

use std::process::ExitCode;

use args::{BenchCommand, Cli, Command, DataCommand, EvaluatorsCommand, SHORT_HELP};
use clap::Parser;

fn main() -> ExitCode {
    if std::env::args_os().len() == 1 {
        print!("{SHORT_HELP}");
        return ExitCode::SUCCESS;
    }
    // A wrong command line ends here with exit code 2.
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    use adpo_pipeline::Stage;
    match command {
        Command::Run(args) | Command::Compare(args) => commands::stage::run(&args, Stage::Compare),
        Command::Sft(args) => commands::stage::run(&args, Stage::Sft),
        Command::Sample(args) => commands::stage::run(&args, Stage::Sample),
        Command::Annotate(args) => commands::stage::run(&args, Stage::Annotate),
        Command::Train(args) => commands::stage::run(&args, Stage::Train),
        Command::Evaluate(args) => commands::stage::run(&args, Stage::Evaluate),
        Command::Pretrain(args) => commands::pretrain::run(&args),
        Command::Data(DataCommand::Inspect(args)) => commands::data::inspect(&args),
        Command::Evaluators(EvaluatorsCommand::Train(args)) => commands::evaluators::rebuild(&args),
        Command::Evaluators(EvaluatorsCommand::Validate(args)) => commands::evaluators::check(&args),
        Command::Bench(BenchCommand::Step(args)) => commands::bench::step(&args),
        Command::Bench(BenchCommand::Sample(args)) => commands::bench::sample(&args),
    }
}
