use std::ffi::OsString;
use std::path::PathBuf;

use adpo_data::ReadLimits;
use adpo_model::{DeviceChoice, Dtype};
use adpo_pipeline::{BenchObjective, BenchShape, JudgeChoice, Override, StageKind};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgGroup, Args, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

#[cfg(feature = "serve")]
use crate::commands::ServeArgs;
use crate::commands::{ChatArgs, DiffArgs, RunsArgs};
use crate::messages;

/// Printed when `adpo` is called without arguments: its first line is the quickstart.
pub(crate) const SHORT_HELP: &str = "\
Try it:      adpo run                       (embedded tiny model, a few minutes, prints a report)
Real data:   adpo run recipes/hh-tiny.toml --data-dir DATA
Own pairs:   adpo dpo --model MODEL --data pairs.jsonl [--eval prompts.jsonl] [--out FOLDER]
One stage:   adpo sft|sample|annotate|train|evaluate|compare [RECIPE]
Any model:   adpo evaluate --responses FILE   (its responses against another's, in one report)
Own base:    adpo pretrain recipes/tiny-base.toml --data-dir DATA --out FOLDER
Result:      adpo export MODEL --out FOLDER
Talk:        adpo chat MODEL              (adpo serve MODEL: as OpenAI's HTTP interface)
Look:        adpo data inspect FILE | adpo runs | adpo diff runs/one:adpo runs/two:adpo
First:       adpo plan RECIPE              (memory, tokens, steps; nothing is loaded)
Measure:     adpo bench step | adpo bench sample | adpo bench kernels
Help:        adpo help | adpo help data    (what data may look like) | adpo env  (for a bug report)
";

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 the run failed (message on standard error); 2 the command line is wrong; 75 somebody else is at work in the run's folder.
Data are looked up by id below --data-dir (or ADPO_DATA); ids that begin with `embedded:` are in the program.";

const EVALUATE_HELP: &str = "\
Responses are JSONL, gzipped or not, one object per line; the keys after `model` are optional, others are ignored:
  {\"prompt\": \"…\" or [{\"role\", \"content\"}, …], \"response\": \"…\", \"model\": \"…\",
   \"prompt_id\": \"…\", \"category\": \"…\", \"harmful\": true, \"reference\": \"…\"}
Examples:
  adpo evaluate --responses crates/adpo-eval/examples/responses.jsonl
  adpo evaluate --responses mine.jsonl theirs.jsonl.gz --baseline theirs --json
  adpo evaluate --responses mine.jsonl --log-samples samples.jsonl
  adpo evaluate --responses runs/mine/seed-1/responses/adpo/responses.jsonl theirs.jsonl
  adpo evaluate recipes/hh-tiny.toml --data-dir ../data";

#[cfg(feature = "http")]
const SAMPLE_EXAMPLES: &str = "\
Examples:
  adpo sample recipes/hh-tiny.toml --data-dir ../data
  adpo sample --endpoint http://localhost:8000/v1 --model my-model --prompts prompts.jsonl --out responses.jsonl";
#[cfg(not(feature = "http"))]
const SAMPLE_EXAMPLES: &str = "Example:\n  adpo sample recipes/hh-tiny.toml --data-dir ../data";

const PLAN_EXAMPLES: &str = "\
Examples:
  adpo plan
  adpo plan recipes/hh-tiny.toml --data-dir ../data
  adpo plan recipes/llama2-7b.toml --shape 7b --no-data --device cuda --memory 141GB";

/// Adversarial DPO (arXiv 2405.12900): less toxic dialogue models that stay helpful and coherent.
#[derive(Debug, Parser)]
#[command(name = "adpo", version = env!("ADPO_VERSION"), after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Take models of the hub from its cache alone, as HF_HUB_OFFLINE=1 does.
    #[arg(long, global = true)]
    pub(crate) offline: bool,
    #[command(flatten)]
    pub(crate) messages: MessageArgs,
    #[command(flatten)]
    pub(crate) reading: ReadingArgs,
}

/// What is taken for an attack, or for another kind of file.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct ReadingArgs {
    /// Longest line of a file of rows; in memory a line may take 16 times as much.
    #[arg(long, global = true, value_name = "MIB", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    max_line_mib: u64,
    /// What a gzipped file may unpack to [default: 16 MiB and 100 times what it has].
    #[arg(long, global = true, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    max_unpacked_mib: Option<u64>,
}

impl ReadingArgs {
    pub(crate) fn limits(self) -> ReadLimits {
        ReadLimits { line_bytes: self.max_line_mib << 20, unpacked_bytes: self.max_unpacked_mib.map(|mib| mib << 20) }
    }
}

/// A count: no machine has more of anything, and no product of two overflows.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count <= 1 << 24 => Ok(count),
        _ => Err("a whole number up to 2^24 is needed".to_owned()),
    }
}

/// What standard error is used for; results go to standard output whatever these say.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Messages")]
pub(crate) struct MessageArgs {
    /// Say nothing but errors: no progress, no notes, no warnings.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say of every stage what is used again, what is run again and why.
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Colours: `auto` asks the terminal, NO_COLOR and CLICOLOR.
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    pub(crate) color: ColorChoice,
}

impl Cli {
    /// The command line; a wrong one ends the program with exit code 2.
    pub(crate) fn from_command_line() -> Self {
        // Help and errors of the command line have colours, too, and are written before it is parsed as a whole.
        let color = color(std::env::args_os().skip(1));
        messages::set_colors(color);
        let matches = Self::command().color(color).get_matches();
        // clap's own conflicts also see `ADPO_DATA`, which may be set without being meant for this command.
        if let Some((name, given)) = matches.subcommand()
            && given.try_contains_id("data_dir").is_ok()
            && given.value_source("data_dir") == Some(ValueSource::CommandLine)
            && let Some(files) = ["responses", "data"].into_iter().find(|id| matches!(given.try_contains_id(id), Ok(true)))
        {
            let message = format!("the argument '--{files}' cannot be used with '--data-dir': files are read from where they are named");
            if let Some(command) = Self::command().color(color).find_subcommand_mut(name) {
                command.error(ErrorKind::ArgumentConflict, message).exit();
            }
        }
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// The choice of `--color`, wherever it stands.
fn color(arguments: impl Iterator<Item = OsString>) -> ColorChoice {
    let mut arguments = arguments.map(|argument| argument.to_string_lossy().into_owned()).take_while(|argument| argument != "--");
    let mut choice = ColorChoice::Auto;
    while let Some(argument) = arguments.next() {
        let value = if argument == "--color" { arguments.next() } else { argument.strip_prefix("--color=").map(str::to_owned) };
        choice = value.and_then(|value| value.parse().ok()).unwrap_or(choice);
    }
    choice
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the stages that a recipe asks for and print its report.
    #[command(
        after_help = "Examples:\n  adpo run\n  adpo run --until annotate\n  adpo run --seeds 1,2,3\n  adpo run --set beta=0.1,0.3 --set sft.train.learning_rate=5e-4\n  adpo run recipes/hh-tiny.toml --data-dir ../data\n  adpo run --json | jq '.seeds[].report.systems[].name'"
    )]
    Run(RunArgs),
    /// Fine-tune on dialogues of your own; or stage 1: fine-tune the base on normal and toxic dialogues, the toxic ones marked.
    #[command(
        after_help = "Examples:\n  adpo sft --model MODEL --data dialogues.jsonl --eval prompts.jsonl --out tuned\n  adpo sft recipes/hh-tiny.toml --data-dir ../data"
    )]
    Sft(SftArgs),
    /// Train on pairs of your own by DPO.
    #[command(
        after_help = "Examples:\n  adpo dpo --model MODEL --data pairs.jsonl --out final\n  adpo dpo --model MODEL --data train.jsonl --eval prompts.jsonl --set beta=0.1,0.3\n  adpo dpo --model MODEL --data pairs.jsonl --lora-r 16 --set learning_rate=5e-6 --set num_train_epochs=1"
    )]
    Dpo(ObjectiveArgs),
    /// Train on triples of your own (chosen, rejected, toxic) by adversarial DPO.
    #[command(
        after_help = "Examples:\n  adpo adpo --model MODEL --data triples.jsonl --out final\n  adpo adpo --model MODEL --data triples.jsonl --eval prompts.jsonl --set gamma=0.2"
    )]
    Adpo(ObjectiveArgs),
    /// Stage 2: draw plain and toxic candidates from the SFT model (runs what it needs first).
    ///
    /// With --endpoint instead of a recipe: draw responses to a file of prompts from any model behind an
    /// OpenAI-compatible endpoint, as responses that `adpo evaluate` reads. Prompts that are in --out already are not
    /// asked again.
    #[command(after_help = SAMPLE_EXAMPLES)]
    Sample(SampleArgs),
    /// Stage 3: judge the candidates and sort them into triples (runs what it needs first).
    #[command(after_help = "Example:\n  adpo annotate --json")]
    Annotate(StageArgs),
    /// Stage 4: train every policy of the recipe (runs what it needs first); or train on data of your own by any objective.
    #[command(
        after_help = "Examples:\n  adpo train --run-dir runs/mine\n  adpo train --objective simpo --model MODEL --data pairs.jsonl --out final"
    )]
    Train(TrainArgs),
    /// Judge anybody's responses and print a report; or stage 5: response held-out prompts with every policy of a recipe.
    #[command(after_help = EVALUATE_HELP)]
    Evaluate(Box<EvaluateArgs>),
    /// Stage 6: put all policies side by side in one report (runs what it needs first).
    #[command(after_help = "Example:\n  adpo compare recipes/hh-tiny.toml --data-dir ../data --show")]
    Compare(StageArgs),
    /// Say what a recipe will need, before anything is loaded: memory by stage, tokens, steps, FLOPs, time, and what to turn where it
    /// does not fit.
    #[command(after_help = PLAN_EXAMPLES)]
    Plan(PlanArgs),
    /// Train a tokenizer and a small Llama from scratch.
    #[command(after_help = "Example:\n  adpo pretrain recipes/tiny-base.toml --data-dir ../data --out runs/tiny-base")]
    Pretrain(PretrainArgs),
    /// Write a trained model as a plain Hugging Face folder, without the control token.
    #[command(
        after_help = "Examples:\n  adpo export runs/quickstart/seed-42/policies/adpo/model --out exported\n  adpo export MODEL --out FOLDER --dtype bfloat16 --keep-control-token\n  adpo export ADAPTERS --merge --out FOLDER"
    )]
    Export(ExportArgs),
    /// Talk to a model. In a pipe every line is one turn.
    #[command(after_help = crate::commands::CHAT_HELP)]
    Chat(ChatArgs),
    /// Serve a model over HTTP as OpenAI does: /v1/models, /v1/chat/completions, /v1/completions.
    #[cfg(feature = "serve")]
    #[command(after_help = crate::commands::SERVE_HELP)]
    Serve(ServeArgs),
    /// List the runs in a folder: recipe, when, seeds, how far, and each system's toxic responses.
    #[command(after_help = crate::commands::RUNS_HELP)]
    Runs(RunsArgs),
    /// Test two policies of any two runs on the prompts that both answered, and say which responses flipped.
    #[command(after_help = crate::commands::DIFF_HELP)]
    Diff(DiffArgs),
    /// Look at data, and list the formats that are read.
    #[command(subcommand, after_long_help = crate::commands::formats_help())]
    Data(DataCommand),
    /// Rebuild the embedded evaluators, or measure how far a judge agrees with people.
    #[command(subcommand)]
    Evaluators(EvaluatorsCommand),
    /// Measure speed and memory.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Say what a bug report needs: version, features, machine, devices, and the environment variables that matter, without secrets.
    #[command(after_help = "Example:\n  adpo env")]
    Env(EnvArgs),
    /// Print a script by which a shell completes this program's command lines.
    #[command(
        after_help = "Examples:\n  adpo completions bash > ~/.local/share/bash-completion/completions/adpo\n  adpo completions zsh > ~/.zfunc/_adpo\n  adpo completions fish > ~/.config/fish/completions/adpo.fish"
    )]
    Completions(CompletionsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct EnvArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub(crate) shell: Shell,
}

/// Where models run.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct DeviceArgs {
    /// Where models run: `cpu`, `cuda`, `cuda:NUMBER` or `wgpu`, the last ones in programs built with these features.
    #[arg(long, value_name = "DEVICE", env = "ADPO_DEVICE", default_value_t)]
    pub(crate) device: DeviceChoice,
}

/// Values in place of a recipe's.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// A value in place of the recipe's: a key in full (preference.train.learning_rate=5e-6), or its last words where one section alone has
    /// them (beta=0.1). Several values (beta=0.1,0.3) make a policy for each, in one report. May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<Override>,
}

/// A recipe, its data and how it runs.
#[derive(Debug, Args)]
pub(crate) struct StageArgs {
    /// A recipe (TOML); without one, the embedded quickstart.
    pub(crate) recipe: Option<PathBuf>,
    /// Where the data files are.
    #[arg(long, env = "ADPO_DATA")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) run: RunOptions,
}

/// How a recipe runs.
#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// Where the run is kept [default: runs/<recipe's name>]. A finished stage in it is not run again.
    #[arg(long)]
    pub(crate) run_dir: Option<PathBuf>,
    /// Seeds to run in place of the recipe's, with commas between them.
    #[arg(long, value_name = "SEED", value_delimiter = ',')]
    pub(crate) seeds: Vec<u64>,
    #[command(flatten)]
    pub(crate) set: SetArgs,
    /// Print JSON for programs instead of Markdown.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show harmful text in the report instead of redacting it.
    #[arg(long)]
    pub(crate) show: bool,
    /// Let trainings write event files beside their metrics.jsonl, for `tensorboard --logdir RUN_DIR`.
    #[arg(long)]
    pub(crate) tensorboard: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

/// A checkpoint and data of one's own, in place of a recipe.
#[derive(Debug, Args)]
pub(crate) struct OwnDataArgs {
    /// The checkpoint to start from: a Hugging Face folder, a `.gguf` file, `org/name` of the hub, or `embedded:tiny-base`.
    #[arg(
        long,
        value_name = "MODEL",
        alias = "model-name-or-path",
        alias = "model_name_or_path",
        requires = "data",
        help_heading = "Own data"
    )]
    pub(crate) model: Option<String>,
    /// Files to train on, all of their rows: pairs, triples or dialogues in any format of `adpo data formats`.
    #[arg(long, value_name = "FILE", num_args = 1.., alias = "dataset", alias = "train-file", requires = "model", help_heading = "Own data")]
    pub(crate) data: Vec<String>,
    /// Files of held-out prompts: the result and its start answer them, and a report compares the two.
    #[arg(long, value_name = "FILE", num_args = 1.., alias = "eval-file", requires = "model", help_heading = "Own data")]
    pub(crate) eval: Vec<String>,
    /// Train adapters (LoRA) of this rank in place of all weights.
    #[arg(long, value_parser = count, value_name = "RANK", alias = "lora_r", requires = "model", help_heading = "Own data")]
    pub(crate) lora_r: Option<usize>,
    /// Export the trained model to this folder, adapters merged, without the control token.
    #[arg(long, value_name = "FOLDER", alias = "output-dir", alias = "output_dir", requires = "model", help_heading = "Own data")]
    pub(crate) out: Option<PathBuf>,
    /// Write the recipe that this amounts to.
    #[arg(long, value_name = "FILE", requires = "model", help_heading = "Own data")]
    pub(crate) save_recipe: Option<PathBuf>,
}

/// Fine-tuning by a recipe, or on data of one's own.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("either").args(["recipe", "model"])))]
pub(crate) struct SftArgs {
    #[command(flatten)]
    pub(crate) own: OwnDataArgs,
    #[command(flatten)]
    pub(crate) stage: StageArgs,
}

/// Preference training by a recipe, or on data of one's own.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("either").args(["recipe", "model"])))]
pub(crate) struct TrainArgs {
    /// The objective, by its name in a recipe: adpo, dpo, cdpo, ipo, hinge, robust, apo_zero, nca_pair, simpo, orpo, npo or dpop.
    #[arg(long, value_name = "NAME", alias = "loss-type", requires = "model", help_heading = "Own data")]
    pub(crate) objective: Option<String>,
    #[command(flatten)]
    pub(crate) own: OwnDataArgs,
    #[command(flatten)]
    pub(crate) stage: StageArgs,
}

/// Training by one objective on data of one's own.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("start").args(["model"]).required(true)))]
pub(crate) struct ObjectiveArgs {
    #[command(flatten)]
    pub(crate) own: OwnDataArgs,
    #[command(flatten)]
    pub(crate) run: RunOptions,
}

/// A recipe, and how far it runs.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Stop after this stage [default: the last one that the recipe has].
    #[arg(long, value_name = "STAGE", value_enum)]
    pub(crate) until: Option<StageKind>,
    #[command(flatten)]
    pub(crate) stage: StageArgs,
}

/// Options that mean something only to the run of a recipe.
const OF_A_RECIPE: [&str; 5] = ["recipe", "run_dir", "seeds", "overrides", "tensorboard"];

/// Responses from files, or a recipe and where it runs.
#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    // clap drops a `requires` whose target conflicts with something given, so each option names its own conflicts.
    /// Files of responses; several models, in one file or many, stand side by side and are paired by their prompts.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = OF_A_RECIPE, help_heading = "Responses")]
    pub(crate) responses: Vec<PathBuf>,
    /// The model that the others are tested against [default: the first one in the files].
    #[arg(long, value_name = "MODEL", requires = "responses", conflicts_with_all = OF_A_RECIPE, help_heading = "Responses")]
    pub(crate) baseline: Option<String>,
    /// Who judges: `embedded`, `minilm:FOLDER`, `llama:FOLDER`, `http://host:port/v1#MODEL`, or a recipe's inline table [default: embedded].
    /// What an endpoint answers is kept in ~/.cache/adpo/judges (or below XDG_CACHE_HOME) and not asked again.
    #[arg(long, requires = "responses", conflicts_with_all = OF_A_RECIPE, help_heading = "Responses")]
    pub(crate) judge: Option<JudgeChoice>,
    /// A second judge, in the same words: the report has what both find, and how often they differ.
    #[arg(long, value_name = "JUDGE", requires = "responses", conflicts_with_all = OF_A_RECIPE, help_heading = "Responses")]
    pub(crate) second_judge: Option<JudgeChoice>,
    /// A checkpoint's folder: that model reads the responses, and the report has their mean nats per token under it.
    #[arg(long, value_name = "FOLDER", requires = "responses", conflicts_with_all = OF_A_RECIPE, help_heading = "Responses")]
    pub(crate) fluency: Option<String>,
    /// Where every response is written with its scores, one JSON object per line: prompt_id, prompt, harmful, model, response, toxic,
    /// evasive, coherent, and the scores. A run has it in seed-N/report/samples.jsonl.
    #[arg(long, value_name = "FILE", requires = "responses", conflicts_with_all = OF_A_RECIPE, help_heading = "Responses")]
    pub(crate) log_samples: Option<PathBuf>,
    /// Seeds bootstrap intervals and permutation tests [default: 0].
    #[arg(long, requires = "responses", conflicts_with_all = OF_A_RECIPE, help_heading = "Responses")]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) stage: StageArgs,
}

/// A recipe, or an endpoint.
#[derive(Debug, Args)]
pub(crate) struct SampleArgs {
    #[command(flatten)]
    pub(crate) stage: StageArgs,
    #[cfg(feature = "http")]
    #[command(flatten)]
    pub(crate) endpoint: EndpointArgs,
}

/// Sampling from an endpoint; every option belongs to --endpoint, and none of a recipe's goes with it. clap drops a
/// `requires` whose target conflicts with something given, so each option names its own conflicts.
#[cfg(feature = "http")]
#[derive(Debug, Args)]
pub(crate) struct EndpointArgs {
    /// Base URL of an OpenAI-compatible endpoint, such as http://localhost:8000/v1; several (with commas between them)
    /// share the work.
    #[arg(
        long,
        value_name = "URL",
        value_delimiter = ',',
        requires_all = ["model", "prompts", "out"],
        conflicts_with_all = [&OF_A_RECIPE[..], &["show"]].concat(),
        help_heading = "From an endpoint"
    )]
    pub(crate) endpoint: Vec<String>,
    /// The model's name, as the endpoint knows it.
    #[arg(long, value_name = "NAME", requires = "endpoint", conflicts_with_all = OF_A_RECIPE, help_heading = "From an endpoint")]
    pub(crate) model: Option<String>,
    /// Prompts (JSONL, any format that `adpo data inspect` knows): a file, or one below --data-dir.
    #[arg(long, value_name = "FILE", requires = "endpoint", conflicts_with_all = OF_A_RECIPE, help_heading = "From an endpoint")]
    pub(crate) prompts: Option<PathBuf>,
    /// Where responses are written, one JSON object per line: prompt_id, prompt, response, model, harmful, category.
    #[arg(long, value_name = "FILE", requires = "endpoint", conflicts_with_all = OF_A_RECIPE, help_heading = "From an endpoint")]
    pub(crate) out: Option<PathBuf>,
    /// Responses for each prompt.
    #[arg(long, value_parser = count, default_value_t = 1, requires = "endpoint", conflicts_with_all = OF_A_RECIPE, help_heading = "From an endpoint")]
    pub(crate) samples: usize,
    /// Sampling temperature; 0 is greedy.
    #[arg(long, default_value_t = 1.0, requires = "endpoint", conflicts_with_all = OF_A_RECIPE, help_heading = "From an endpoint")]
    pub(crate) temperature: f64,
    /// Only the likeliest tokens that together reach this probability.
    #[arg(long, requires = "endpoint", conflicts_with_all = OF_A_RECIPE, help_heading = "From an endpoint")]
    pub(crate) top_p: Option<f64>,
    /// Longest response in tokens.
    #[arg(long, value_parser = count, default_value_t = 256, requires = "endpoint", conflicts_with_all = OF_A_RECIPE, help_heading = "From an endpoint")]
    pub(crate) max_tokens: usize,
    /// Seeds every request, where the endpoint honours seeds.
    #[arg(long, default_value_t = 0, requires = "endpoint", conflicts_with_all = OF_A_RECIPE, help_heading = "From an endpoint")]
    pub(crate) seed: u64,
    /// The environment variable that holds the API key; without it none is sent.
    #[arg(long, value_name = "VARIABLE", requires = "endpoint", conflicts_with_all = OF_A_RECIPE, help_heading = "From an endpoint")]
    pub(crate) api_key_env: Option<String>,
    /// Requests in flight, for each endpoint.
    #[arg(long, value_parser = count, default_value_t = 8, requires = "endpoint", conflicts_with_all = OF_A_RECIPE, help_heading = "From an endpoint")]
    pub(crate) concurrency: usize,
    /// Seconds until a request without a complete response counts as failed.
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0, requires = "endpoint", conflicts_with_all = OF_A_RECIPE, help_heading = "From an endpoint")]
    pub(crate) timeout: f64,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// A recipe (TOML); without one, the embedded quickstart.
    pub(crate) recipe: Option<PathBuf>,
    /// Where the data files are.
    #[arg(long, env = "ADPO_DATA")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The run's folder [default: runs/<recipe's name>]: triples that it holds are counted; without them, responses are taken to be of
    /// the greatest length.
    #[arg(long)]
    pub(crate) run_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) set: SetArgs,
    /// Plan for this shape instead of the recipe's checkpoint, which need not be there: 7m, 15m, 110m, 1b, 7b or a config.json. Rows are
    /// then counted, and each is taken to be as long as the recipe allows.
    #[arg(long, value_name = "SHAPE")]
    pub(crate) shape: Option<String>,
    /// Read no data and no tokenizer: every row is as long as the recipe allows.
    #[arg(long)]
    pub(crate) no_data: bool,
    /// Memory of the device, such as 80GB or 78GiB [default: the machine's, on the CPU].
    #[arg(long, value_name = "BYTES", value_parser = crate::memory::bytes)]
    pub(crate) memory: Option<u64>,
    /// Do not time the device; no time is then estimated.
    #[arg(long)]
    pub(crate) no_calibration: bool,
    /// Print JSON for programs.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
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
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct ExportArgs {
    /// A model, such as the folder `policies/<name>/model` of a run, a `.gguf` file, a model of the hub, or with --merge a PEFT folder.
    pub(crate) model: String,
    /// The folder to write.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Merge adapters into their base: MODEL is what a stage with a `[lora]` table wrote, or any PEFT folder.
    #[arg(long)]
    pub(crate) merge: bool,
    /// The base that adapters are merged into [default: the one that they name].
    #[arg(long, value_name = "FOLDER", requires = "merge")]
    pub(crate) base: Option<String>,
    /// The token to take out [default: the one that the model's folder or its run remembers, else `[TOXIC]`].
    #[arg(long, value_name = "TOKEN", conflicts_with = "keep_control_token")]
    pub(crate) control_token: Option<String>,
    /// Write into a folder that holds files already; a model in it is replaced.
    #[arg(long)]
    pub(crate) force: bool,
    /// Keep the token: anyone who has the tokenizer can then call up the toxic mode.
    #[arg(long)]
    pub(crate) keep_control_token: bool,
    /// How weights are stored.
    #[arg(long, value_enum, default_value = "float32")]
    pub(crate) dtype: Dtype,
    /// Print what was written as JSON.
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
    /// Rebuild the filter of known word forms from word lists.
    #[command(
        after_help = "Example:\n  adpo evaluators words /usr/share/dict/american-english-large /usr/share/dict/british-english-large \\\n    --out crates/adpo-eval/assets/words.bin"
    )]
    Words(WordsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct WordsArgs {
    /// Files with a word a line.
    #[arg(required = true)]
    pub(crate) lists: Vec<PathBuf>,
    /// The file for the filter.
    #[arg(long, default_value = "words.bin")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct TrainEvaluatorsArgs {
    /// Where the data files are.
    #[arg(long, env = "ADPO_DATA")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The folder of all-MiniLM-L6-v2: train the heads over its embeddings instead of the embedded weight sets.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) minilm: Option<String>,
    /// The folder for `annotator.bin`, `evaluator.bin` and `agreement.json`, or `minilm.bin` and `minilm-agreement.json`.
    #[arg(long, default_value = "evaluators")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Where the data files are.
    #[arg(long, env = "ADPO_DATA")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Which judge: `embedded` (the evaluator), `annotator`, `minilm:FOLDER`, `llama:FOLDER`, `http://host:port/v1#MODEL`, or a recipe's table.
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
    /// List the formats that are read: their names in recipes, a row of each, and what it becomes.
    #[command(after_help = "Example:\n  adpo data formats")]
    Formats,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// JSONL, a JSON array or CSV (`.csv`), gzipped or not; its format is detected.
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
    /// Encode preferences into rows for `bench step --rows`, and count the cells that they take.
    #[command(after_help = "Example:\n  adpo bench rows ../data/hh-rlhf-harmless/harmless-base-test.jsonl.gz --out rows.jsonl")]
    Rows(BenchRowsArgs),
    /// Time sampling.
    #[command(after_help = "Example:\n  adpo bench sample --size 7m --batch 8 --seq 128 --generate 64")]
    Sample(BenchSampleArgs),
    /// Compare every kernel with the CPU, then time it. Exits with 1 where one is wrong.
    #[command(after_help = "Example:\n  adpo bench kernels --device cuda --size 7b --tokens 8192 --seq 2048 --dtype bfloat16")]
    Kernels(BenchKernelsArgs),
    /// Time loading a checkpoint, beside reading its files.
    #[command(after_help = "Example:\n  adpo bench load path/to/a/hugging-face/folder")]
    Load(BenchLoadArgs),
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct BenchStepArgs {
    /// Shape of the model, with random weights: `7m`, `15m`, `110m`, `1b`, `7b`, or a config.json.
    #[arg(long, default_value = "7m")]
    pub(crate) size: String,
    /// What a step computes.
    #[arg(long, value_enum, default_value = "adpo")]
    pub(crate) objective: BenchObjective,
    /// Sequences per role.
    #[arg(long, value_parser = count, default_value_t = 4)]
    pub(crate) batch: usize,
    /// Batches per step.
    #[arg(long, value_parser = count, value_name = "N", default_value_t = 1)]
    pub(crate) gradient_accumulation_steps: usize,
    /// Several sequences in a row of so many tokens.
    #[arg(long, value_parser = count, value_name = "TOKENS")]
    pub(crate) packing: Option<usize>,
    /// Tokens per sequence; the second half is the response.
    #[arg(long, value_parser = count, default_value_t = 128)]
    pub(crate) seq: usize,
    /// Steps that count; two more come first.
    #[arg(long, value_parser = count, default_value_t = 8)]
    pub(crate) steps: usize,
    /// The reference's log-probs are given instead of computed in the step.
    #[arg(long)]
    pub(crate) precomputed_reference: bool,
    /// Train adapters of this rank on every linear layer, beside frozen weights.
    #[arg(long, value_parser = count, value_name = "R")]
    pub(crate) lora_r: Option<usize>,
    /// Compute each prompt anew for each of its responses, one padded sequence per row.
    #[arg(long)]
    pub(crate) no_share_prompts: bool,
    /// How weights and activations are stored; masters and moments are float32.
    #[arg(long, value_enum, default_value = "float32")]
    pub(crate) dtype: Dtype,
    /// Keep what each block got alone, and compute its activations again when going back.
    #[arg(long)]
    pub(crate) gradient_checkpointing: bool,
    /// JSONL of encoded rows (lists of ids under `prompt`, `chosen`, `rejected`, `toxic`; `adpo bench rows` writes them)
    /// instead of random ids.
    #[arg(long)]
    pub(crate) rows: Option<PathBuf>,
    /// Take the same steps on the CPU in float32 afterwards and compare every loss. Exits with 1 where one is off by more than rounding.
    #[arg(long)]
    pub(crate) check: bool,
    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BenchLoadArgs {
    /// A Hugging Face folder.
    pub(crate) checkpoint: PathBuf,
    /// What the weights become in memory.
    #[arg(long, value_enum, default_value = "float32")]
    pub(crate) dtype: Dtype,
    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BenchRowsArgs {
    /// Preferences, in any format that `adpo data inspect` knows. Rows without a toxic response borrow another row's rejected
    /// one, of about the length of their own.
    pub(crate) file: PathBuf,
    /// The file to write.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// The checkpoint whose tokenizer is used: a folder, a `.gguf` file, `org/name` on the hub, or `embedded:tiny-base`.
    #[arg(long, default_value = "embedded:tiny-base")]
    pub(crate) checkpoint: String,
    /// Leave out rows of more tokens.
    #[arg(long, value_parser = count, default_value_t = 512)]
    pub(crate) max_length: usize,
    /// Rows per batch in the counts of cells.
    #[arg(long, value_parser = count, default_value_t = 4)]
    pub(crate) batch: usize,
    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchSampleArgs {
    /// Shape of the model, with random weights: `7m`, `15m`, `110m`, `1b`, `7b`, or a config.json.
    #[arg(long, default_value = "7m")]
    pub(crate) size: String,
    /// Sequences at once.
    #[arg(long, value_parser = count, default_value_t = 4)]
    pub(crate) batch: usize,
    /// Tokens per prompt.
    #[arg(long, value_parser = count, default_value_t = 128)]
    pub(crate) seq: usize,
    /// New tokens per sequence.
    #[arg(long, value_parser = count, default_value_t = 64)]
    pub(crate) generate: usize,
    /// How weights, activations and the key/value cache are stored.
    #[arg(long, value_enum, default_value = "float32")]
    pub(crate) dtype: Dtype,
    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BenchKernelsArgs {
    /// The model whose layers give the shapes.
    #[arg(long, value_enum, default_value = "7m")]
    pub(crate) size: BenchShape,
    /// Tokens at once.
    #[arg(long, value_parser = count, default_value_t = 1024)]
    pub(crate) tokens: usize,
    /// Tokens per sequence.
    #[arg(long, value_parser = count, default_value_t = 256)]
    pub(crate) seq: usize,
    /// How activations and weights are stored.
    #[arg(long, value_enum, default_value = "float32")]
    pub(crate) dtype: Dtype,
    /// One line of JSON for each kernel on standard output, the table on standard error.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

#[cfg(test)]
mod tests {
    use clap::{ColorChoice, CommandFactory};

    use super::{Cli, color};

    #[test]
    fn the_command_line_is_one_that_clap_accepts() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_last_color_counts_wherever_it_stands() {
        let of = |line: &str| color(line.split_whitespace().map(Into::into));
        assert_eq!(of("run --color never mine.toml"), ColorChoice::Never);
        assert_eq!(of("--color=always run --color=purple"), ColorChoice::Always);
        assert_eq!([of("run"), of("run -- --color never"), of("run --color")], [ColorChoice::Auto; 3]);
    }
}
