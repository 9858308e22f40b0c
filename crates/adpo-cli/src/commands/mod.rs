mod bench;
mod chat;
mod completions;
mod data;
mod diff;
mod env;
mod evaluate;
mod evaluators;
mod export;
mod next;
mod own_data;
mod plan;
mod pretrain;
mod runs;
mod sample;
#[cfg(feature = "serve")]
mod serve;
mod stage;

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use adpo_eval::Judge;
use adpo_model::DeviceChoice;
use adpo_pipeline::{Override, Recipe, Resources, StageKind};

use crate::args::{BenchCommand, Command, DataCommand, EvaluatorsCommand};
use crate::assets;
use crate::text::{inert, inert_json};

pub(crate) use chat::{ChatArgs, HELP as CHAT_HELP};
pub(crate) use data::formats_help;
pub(crate) use diff::{DiffArgs, HELP as DIFF_HELP};
pub(crate) use runs::{HELP as RUNS_HELP, RunsArgs};
#[cfg(feature = "serve")]
pub(crate) use serve::{HELP as SERVE_HELP, ServeArgs};

/// Whether nothing is fetched from the hub, whatever the command.
static OFFLINE: AtomicBool = AtomicBool::new(false);

/// Runs a subcommand.
pub(crate) fn run(command: Command, offline: bool) -> anyhow::Result<()> {
    OFFLINE.store(offline, Ordering::Relaxed);
    match command {
        Command::Run(args) => stage::run(&args.stage, args.until),
        Command::Compare(args) => stage::run(&args, Some(StageKind::Compare)),
        Command::Sft(args) if args.own.model.is_some() => own_data::train(&args.own, None, &args.stage.run),
        Command::Sft(args) => stage::run(&args.stage, Some(StageKind::Sft)),
        Command::Dpo(args) => own_data::train(&args.own, Some("dpo"), &args.run),
        Command::Adpo(args) => own_data::train(&args.own, Some("adpo"), &args.run),
        Command::Sample(args) => sample::run(&args),
        Command::Annotate(args) => stage::run(&args, Some(StageKind::Annotate)),
        Command::Plan(args) => plan::run(&args),
        Command::Train(args) if args.own.model.is_some() => own_data::train_by(&args),
        Command::Train(args) => stage::run(&args.stage, Some(StageKind::Train)),
        Command::Evaluate(args) if args.responses.is_empty() => stage::run(&args.stage, Some(StageKind::Evaluate)),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Pretrain(args) => pretrain::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Chat(args) => chat::run(&args),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(&args),
        Command::Runs(args) => runs::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Data(DataCommand::Inspect(args)) => data::inspect(&args),
        Command::Data(DataCommand::Formats) => data::formats(),
        Command::Evaluators(EvaluatorsCommand::Train(args)) => evaluators::rebuild(&args),
        Command::Evaluators(EvaluatorsCommand::Validate(args)) => evaluators::check(&args),
        Command::Evaluators(EvaluatorsCommand::Words(args)) => evaluators::words(&args),
        Command::Bench(BenchCommand::Step(args)) => bench::step(&args),
        Command::Bench(BenchCommand::Rows(args)) => bench::rows(&args),
        Command::Bench(BenchCommand::Load(args)) => bench::load(&args),
        Command::Bench(BenchCommand::Sample(args)) => bench::sample(&args),
        Command::Bench(BenchCommand::Kernels(args)) => bench::kernels(&args),
        Command::Env(args) => env::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}

/// Where responses of judges behind endpoints are kept outside of runs: with the user's other caches, and not wherever the command is
/// started.
fn judge_cache() -> PathBuf {
    let caches = std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    caches.unwrap_or_else(|| std::env::home_dir().unwrap_or_default().join(".cache")).join("adpo/judges")
}

/// Tells what a judge has to say of its work, and fails if it is gone: what it answered rests in its cache.
fn still_there(judge: &dyn Judge) -> anyhow::Result<()> {
    for warning in judge.warnings() {
        log::warn!("{warning}");
    }
    match judge.unavailable() {
        Some(reason) => anyhow::bail!("judge {} is gone: {reason}; the same command goes on from what it answered", judge.name()),
        None => Ok(()),
    }
}

/// Prints a result, text or JSON: names, ids and messages in it come from files and servers. A reader that has seen enough (`| head`) is
/// no error.
fn print(text: &str) -> anyhow::Result<()> {
    let inert = if text.starts_with(['{', '[']) { inert_json(text) } else { inert(text) };
    match writeln!(std::io::stdout().lock(), "{}", inert.trim_end()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// The recipe in a file, or the embedded quickstart, with these values in it, and the folder that its run is kept in.
fn recipe(file: Option<&Path>, overrides: &[Override], run_dir: Option<&Path>) -> anyhow::Result<(Recipe, PathBuf)> {
    let recipe = match file {
        Some(path) => Recipe::from_file(path)?,
        None => Recipe::from_toml(assets::QUICKSTART, "quickstart (embedded)")?,
    }
    .with_overrides(overrides)?;
    let run_dir = run_dir.map_or_else(|| Path::new("runs").join(&recipe.name), Path::to_path_buf);
    Ok((recipe, run_dir))
}

fn resources(data_dir: Option<PathBuf>, show_harmful: bool, device: DeviceChoice) -> anyhow::Result<Resources> {
    Ok(Resources {
        tiny_base: Some(assets::TINY_BASE),
        dialogues: Some(assets::DIALOGUES),
        data_dir,
        offline: OFFLINE.load(Ordering::Relaxed),
        device: device.open()?,
        show_harmful,
        tensorboard: false,
        commit: option_env!("ADPO_COMMIT"),
    })
}
