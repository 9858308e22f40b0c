use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

/// Printed when `adpo` is called without arguments: its first line is the quickstart.
pub(crate) const SHORT_HELP: &str = "\
Try it:      adpo run                       (embedded tiny model, a few minutes, prints a report)
Real data:   adpo run recipes/hh-tiny.toml --data-dir DATA
One stage:   adpo sft|sample|annotate|train|evaluate|compare [RECIPE]
Any model:   adpo evaluate --responses FILE   (its replies against another's, in one report)
Own base:    adpo pretrain recipes/tiny-base.toml --data-dir DATA --out FOLDER
Look:        adpo data inspect FILE
Measure:     adpo bench step | adpo bench sample
More:        adpo help
";

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 the run failed (message on standard error); 2 the command line is wrong.
Data are looked up by id below --data-dir (or ADPO_DATA); ids that begin with `embedded:` are in the program.";

const EVALUATE_HELP: &str = "\
Replies are JSONL, gzipped or not, one object per line; the keys after `model` are optional, others are ignored:
  {\"prompt\": \"…\" or [{\"role\", \"content\"}, …], \"response\": \"…\", \"model\": \"…\",
   \"prompt_id\": \"…\", \"category\": \"…\", \"harmful\": true}
Examples:
  adpo evaluate --responses crates/adpo-eval/examples/responses.jsonl
  adpo evaluate --responses mine.jsonl theirs.jsonl.gz --baseline theirs --json
  adpo evaluate recipes/hh-tiny.toml --data-dir ../data";

/// Adversarial DPO (arXiv 2405.12900): less toxic dialogue models that stay helpful and coherent.
#[derive(Debug, Parser)]
#[command(name = "adpo", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// The command line; a wrong one ends the program with exit code 2.
    pub(crate) fn from_command_line() -> Self {
        let matches = Self::command().get_matches();
        if let Some(("evaluate", given)) = matches.subcommand() {
            // clap's own conflicts also see `ADPO_DATA`, which may be set without being meant for this command.
            let has_folder = given.value_source("data_dir") == Some(ValueSource::CommandLine);
            if given.contains_id("responses") && has_folder {
                let message = "the argument '--responses' cannot be used with '--data-dir': replies are read from the files named";
                Self::command().error(ErrorKind::ArgumentConflict, message).exit();
            }
        }
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
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
    /// Judge anybody's replies and print a report; or stage 5: answer held-out prompts with every policy of a recipe.
    #[command(after_help = EVALUATE_HELP)]
    Evaluate(EvaluateArgs),
    /// Stage 6: put all policies side by side in one report (runs what it needs first).
    #[command(after_help = "Example:\n  adpo compare recipes/hh-tiny.toml --data-dir ../data --show")]
    Compare(StageArgs),
    /// Train a tokenizer and a small Llama from scratch.
    #[command(after_help = "Example:\n  adpo pretrain recipes/tiny-base.toml --data-dir ../data --out runs/tiny-base")]
    Pretrain(PretrainArgs),
    /// Look at data.
    #[command(subcommand)]
    Data(DataCommand),
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

/// Replies from files, or a recipe and where it runs.
#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    /// Files of replies; several models, in one file or many, stand side by side and are paired by their prompts.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["recipe", "run_dir"], help_heading = "Replies")]
    pub(crate) responses: Vec<PathBuf>,
    /// The model that the others are tested against [default: the first one in the files].
    #[arg(long, value_name = "MODEL", requires = "responses", help_heading = "Replies")]
    pub(crate) baseline: Option<String>,
    /// Who judges.
    #[arg(long, value_enum, requires = "responses", help_heading = "Replies")]
    pub(crate) judge: Option<EvaluateJudge>,
    /// Seeds bootstrap intervals and permutation tests [default: 0].
    #[arg(long, requires = "responses", help_heading = "Replies")]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) stage: StageArgs,
}

/// Judges that need nothing but this program.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum EvaluateJudge {
    /// The embedded evaluator.
    #[default]
    Embedded,
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
