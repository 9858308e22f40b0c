use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Printed when `adpo` is called without arguments: its first line is the quickstart.
pub(crate) const SHORT_HELP: &str = "\
Try it:      adpo run                       (embedded tiny model, a few minutes, prints a report)
Real data:   adpo run recipes/hh-tiny.toml --data-dir DATA
One stage:   adpo sft|sample|annotate|train|evaluate|compare [RECIPE]
Own base:    adpo pretrain recipes/tiny-base.toml --data-dir DATA --out FOLDER
Look:        adpo data inspect FILE
Measure:     adpo bench step | adpo bench sample
More:        adpo help
";

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 the run failed (message on standard error); 2 the command line is wrong.
Data are looked up by id below --data-dir (or ADPO_DATA); ids that begin with `embedded:` are in the program.";

/// Adversarial DPO (arXiv 2405.12900): less toxic dialogue models that stay helpful and coherent.
#[derive(Debug, Parser)]
#[command(name = "adpo", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run all stages of a recipe and print its report.
    #[command(
        after_help = "Examples:\n  adpo run\n  adpo run recipes/hh-tiny.toml --data-dir ../data\n  adpo run --json | jq '.seeds[].report.systems[].name'"
    )]
    Run(StageArgs),
    /// Stage 1: fine-tune the base on normal and toxic dialogues, the toxic ones marked.
    #[command(after_help = "Example:\n  adpo sft recipes/hh-tiny.toml --data-dir ../data")]
    Sft(StageArgs),
    /// Stage 2: draw plain and toxic candidates from the SFT model (runs what it needs first).
    #[command(after_help = "Example:\n  adpo sample recipes/hh-tiny.toml --data-dir ../data")]
    Sample(StageArgs),
    /// Stage 3: judge the candidates and sort them into triples (runs what it needs first).
    #[command(after_help = "Example:\n  adpo annotate --json")]
    Annotate(StageArgs),
    /// Stage 4: train every policy of the recipe (runs what it needs first).
    #[command(after_help = "Example:\n  adpo train --run-dir runs/mine")]
    Train(StageArgs),
    /// Stage 5: answer held-out prompts with every policy and judge the answers (runs what it needs first).
    #[command(after_help = "Example:\n  adpo evaluate recipes/hh-tiny.toml --data-dir ../data")]
    Evaluate(StageArgs),
    /// Stage 6: put all policies side by side in one report (runs what it needs first).
    #[command(after_help = "Example:\n  adpo compare recipes/hh-tiny.toml --data-dir ../data --show")]
    Compare(StageArgs),
    /// Train a tokenizer and a small Llama from scratch.
    #[command(after_help = "Example:\n  adpo pretrain recipes/tiny-base.toml --data-dir ../data --out runs/tiny-base")]
    Pretrain(PretrainArgs),
    /// Look at data.
    #[command(subcommand)]
    Data(DataCommand),
    /// Rebuild the embedded evaluators, or measure how far a judge agrees with people.
    #[command(subcommand)]
    Evaluators(EvaluatorsCommand),
    /// Measure speed: one JSON line per measurement.
    #[command(subcommand)]
    Bench(BenchCommand),
}

/// A recipe and where it runs.
#[derive(Debug, Args)]
pub(crate) struct StageArgs {
    /// A recipe (TOML); without one, the embedded quickstart.
    pub(crate) recipe: Option<PathBuf>,
    /// Where the data files are.
    #[arg(long, env = "ADPO_DATA")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where the run is kept [default: runs/<recipe's name>]. A finished stage in it is not run again.
    #[arg(long)]
    pub(crate) run_dir: Option<PathBuf>,
    /// Print JSON for programs instead of Markdown.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show harmful text in the report instead of redacting it.
    #[arg(long)]
    pub(crate) show: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PretrainArgs {
    /// A recipe for a base model.
    pub(crate) recipe: PathBuf,
    /// Where the data files are.
    #[arg(long, env = "ADPO_DATA")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The folder to write: `model/` in Hugging Face format, `metrics.jsonl`, `evaluation.json`.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Print the evaluation as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EvaluatorsCommand {
    /// Train both weight sets from the data folders and record their agreement.
    #[command(after_help = "Example:\n  adpo evaluators train --data-dir ../data --out crates/adpo-eval/assets")]
    Train(TrainEvaluatorsArgs),
    /// Print a judge's agreement with labels; exits with 1 where it is below the recorded one.
    #[command(after_help = "Example:\n  adpo evaluators validate --data-dir ../data --quick")]
    Validate(ValidateArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TrainEvaluatorsArgs {
    /// Where the data files are.
    #[arg(long, env = "ADPO_DATA")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The folder for `annotator.bin`, `evaluator.bin` and `agreement.json`.
    #[arg(long, default_value = "evaluators")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Where the data files are.
    #[arg(long, env = "ADPO_DATA")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Which judge: `embedded` (the evaluator) or `annotator`.
    #[arg(long, default_value = "embedded")]
    pub(crate) judge: String,
    /// One row in seven: seconds, for CI.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Print JSON for programs instead of Markdown.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Count rows, turns, lengths and labels of a file, and show a sample with its text redacted.
    #[command(after_help = "Examples:\n  adpo data inspect hh.jsonl.gz\n  adpo data inspect triples.jsonl --show --json")]
    Inspect(InspectArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// JSONL or JSONL.gz; its format is detected.
    pub(crate) file: PathBuf,
    /// Show the sample's text.
    #[arg(long)]
    pub(crate) show: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Time training steps: reference forward, policy forward and backward, clipping, AdamW.
    #[command(after_help = "Example:\n  adpo bench step --size 7m --objective adpo --batch 4 --seq 128 --steps 10")]
    Step(BenchStepArgs),
    /// Time sampling.
    #[command(after_help = "Example:\n  adpo bench sample --size 7m --batch 8 --seq 128 --generate 64")]
    Sample(BenchSampleArgs),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Size {
    #[value(name = "7m")]
    M7,
    #[value(name = "15m")]
    M15,
    #[value(name = "110m")]
    M110,
    #[value(name = "1b")]
    B1,
    #[value(name = "7b")]
    B7,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum BenchObjective {
    Sft,
    Dpo,
    Adpo,
}

#[derive(Debug, Args)]
pub(crate) struct BenchStepArgs {
    /// Shape of the model, with random weights.
    #[arg(long, value_enum, default_value = "7m")]
    pub(crate) size: Size,
    /// What a step computes.
    #[arg(long, value_enum, default_value = "adpo")]
    pub(crate) objective: BenchObjective,
    /// Sequences per role.
    #[arg(long, default_value_t = 4)]
    pub(crate) batch: usize,
    /// Tokens per sequence; the second half is the answer.
    #[arg(long, default_value_t = 128)]
    pub(crate) seq: usize,
    /// Steps that count; two more come first.
    #[arg(long, default_value_t = 8)]
    pub(crate) steps: usize,
    /// The reference's log-probs are given instead of computed in the step.
    #[arg(long)]
    pub(crate) precomputed_reference: bool,
    /// JSONL of encoded rows (lists of ids under `prompt`, `chosen`, `rejected`, `toxic`) instead of random ids.
    #[arg(long)]
    pub(crate) rows: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchSampleArgs {
    /// Shape of the model, with random weights.
    #[arg(long, value_enum, default_value = "7m")]
    pub(crate) size: Size,
    /// Sequences at once.
    #[arg(long, default_value_t = 4)]
    pub(crate) batch: usize,
    /// Tokens per prompt.
    #[arg(long, default_value_t = 128)]
    pub(crate) seq: usize,
    /// New tokens per sequence.
    #[arg(long, default_value_t = 64)]
    pub(crate) generate: usize,
}
