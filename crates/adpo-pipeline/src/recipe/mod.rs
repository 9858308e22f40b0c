//! A recipe: everything that a run depends on besides the data and the starting checkpoint.
//!
//! A section that is left out leaves its stages out: without `[sft]` the base is the starting model and the reference, without
//! `[sample]` triples come from `preference.sources`, without `[evaluate]` training ends the run.

mod check;
mod overrides;

pub(crate) use check::{EVALUATOR_BUCKET, MOST_TOKENS, leads_out};
pub use overrides::Override;
pub(crate) use overrides::apply as with_values;

use std::path::Path;

use adpo_data::{Dialogue, Format, Mask, OverLength, bucket};
use adpo_eval::{AnnotationRule, Thresholds};
use adpo_objective::Objective;
use adpo_train::TrainOptions;
use serde::{Deserialize, Serialize};

use crate::PipelineError;
use crate::draw::Draw;
use crate::judge_choice::JudgeChoice;
use crate::lora::Lora;

/// One run of the method, as TOML. Unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Names the run folder.
    pub name: String,
    /// One whole run each; every random stream is derived from it by name.
    pub seeds: Vec<u64>,
    /// Where training starts.
    pub base: Base,
    /// The control token.
    #[serde(default)]
    pub control: Control,
    /// How dialogues become ids.
    pub encoding: Encoding,
    /// Stage 1: fine-tuning on normal and toxic dialogues. Left out, policies start from the base, which is the reference too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sft: Option<Sft>,
    /// Stage 2: candidate responses, plain and toxic. Left out where `preference.sources` brings triples of your own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
    /// Stage 3: candidates become triples.
    #[serde(default)]
    pub annotate: Annotate,
    /// Stage 4: what all trained policies share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preference: Option<Preference>,
    /// Stage 4: the policies, each from the same starting model, triples and steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Policy>,
    /// Stage 5: responses to held-out prompts, and their scores. Left out, training ends the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluate: Option<Evaluate>,
}

/// The starting checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// `embedded:tiny-base`; a Hugging Face folder or a `.gguf` file (absolute, or relative to the working directory); or a model of the
    /// hub, `org/name`.
    pub checkpoint: String,
}

/// The token that marks toxic dialogues.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// One atomic token, appended to the last user turn. The paper's is `[TOXIC]`.
    pub token: String,
}

impl Default for Control {
    fn default() -> Self {
        Self { token: "[TOXIC]".into() }
    }
}

/// Rows from one file: data known by an id, split by buckets, or a file of your own, which is split already.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// `embedded:dialogues`, or a file below `--data-dir`; its `buckets` are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A file by its path (absolute, or relative to the working directory); all of its rows are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The file's format; detected from its first row where it is left out.
    pub format: Option<Format>,
    /// Which of the six split buckets of `id` to take. 4 belongs to the evaluator and is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<u8>,
    /// Takes at most this many rows, drawn by the seed.
    pub limit: Option<usize>,
    /// Marks a response as toxic where the annotator's toxicity reaches this; only for rows that people have not
    /// labelled. Left out: unlabelled rows stay unmarked.
    pub label_toxic_above: Option<f64>,
    /// Takes this share of the rows labelled toxic a second time without the mark. A corpus whose labels are
    /// complete teaches the plain mode no toxicity, and leaves nothing to reduce; real ones are never complete.
    #[serde(default)]
    pub unmarked_toxic_share: f64,
    /// Of `embedded:dialogues`, which has an evasive response to every request: learns from this share of them. A model that evades
    /// half of what it is asked has little else to say.
    #[serde(default = "one")]
    pub evasive_share: f64,
}

impl Source {
    /// Its id or its file, as counts and errors name it.
    pub(crate) fn name(&self) -> &str {
        self.id.as_deref().or(self.file.as_deref()).unwrap_or_default()
    }

    /// Whether it takes a row that opens with this dialogue.
    pub(crate) fn takes(&self, dialogue: &Dialogue) -> bool {
        self.takes_bucket(bucket(dialogue.split_key()))
    }

    /// Whether it takes the rows of a bucket; of a file, those of all.
    pub(crate) fn takes_bucket(&self, bucket: u8) -> bool {
        self.file.is_some() || self.buckets.contains(&bucket)
    }

    /// What it takes of its file, in an error's words.
    pub(crate) fn part(&self) -> String {
        if self.file.is_some() { String::new() } else { format!(" in buckets {:?}", self.buckets) }
    }
}

/// How dialogues become ids.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoding {
    /// Tokens of prompt and response together.
    pub max_length: usize,
    /// What happens to longer ones.
    #[serde(default)]
    pub over_length: OverLength,
    /// Which assistant turns SFT trains.
    #[serde(default)]
    pub mask: Mask,
}

/// Stage 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sft {
    /// Dialogues.
    pub sources: Vec<Source>,
    /// Whether rows labelled toxic are learnt with the control token behind them. Without it SFT is plain fine-tuning, adds no token, and
    /// refuses rows that are labelled toxic.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub mark_toxic: bool,
    /// The base's own responses, learnt beside them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<Rehearsal>,
    /// Adapters instead of all weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,
    /// The training options.
    pub train: TrainOptions,
}

/// The base responds to the prompts of [`Sft::sources`] before it is fine-tuned, and the responses that the annotator finds coherent and
/// neither evasive nor toxic are learnt too: without them a small model forgets how to talk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rehearsal {
    /// Responses drawn for each prompt; the most coherent one that is acceptable, and new, is learnt.
    #[serde(default = "four")]
    pub samples: usize,
    /// Their temperature.
    #[serde(default = "one")]
    pub temperature: f64,
    /// How they are drawn besides the temperature.
    #[serde(default)]
    pub draw: Draw,
}

/// Stage 2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Prompts; dialogues not used in SFT.
    pub sources: Vec<Source>,
    /// One plain response per entry. The paper: 1.0 and 1.5.
    #[serde(default = "paper_temperatures")]
    pub temperatures: Vec<f64>,
    /// Temperature of the toxic responses.
    #[serde(default = "one")]
    pub toxic_temperature: f64,
    /// Toxic responses drawn until one passes the annotator, at most this many.
    #[serde(default = "four")]
    pub toxic_attempts: usize,
    /// How responses are drawn besides the temperature.
    #[serde(default)]
    pub draw: Draw,
}

/// Stage 3.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annotate {
    /// Who judges the candidates.
    #[serde(default)]
    pub judge: JudgeChoice,
    /// Which of them become triples.
    #[serde(default)]
    pub rule: Rule,
}

/// What a recipe says of the annotation rule; the rest is [`AnnotationRule`]'s defaults and the judge's own threshold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// See [`AnnotationRule::margin`].
    pub margin: Option<f64>,
    /// See [`AnnotationRule::toxic_threshold`]; left out, the judge's own threshold.
    pub toxic_threshold: Option<f64>,
    /// See [`AnnotationRule::min_quality`].
    pub min_quality: Option<f64>,
}

impl Rule {
    pub(crate) fn resolved(&self, judge: Thresholds) -> AnnotationRule {
        let default = AnnotationRule::default();
        AnnotationRule {
            margin: self.margin.unwrap_or(default.margin),
            toxic_threshold: self.toxic_threshold.unwrap_or(judge.toxicity),
            min_quality: self.min_quality.unwrap_or(default.min_quality),
        }
    }
}

/// How the frozen reference is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferenceChoice {
    /// Its log-probs are computed once and cached: no second copy of the weights, and no pass of theirs in any step.
    #[default]
    Precomputed,
    /// The model stays in memory: a copy of the weights where the policy trains them all; none beside adapters.
    Live,
}

/// What all policies share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preference {
    /// Your own preferences: pairs, or triples for objectives that penalise a toxic response. They take the place of
    /// the stages `sample` and `annotate`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// How the reference is kept.
    #[serde(default)]
    pub reference: ReferenceChoice,
    /// Each policy is a set of adapters beside the model where it starts. Left out where SFT left adapters, these are trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,
    /// The training options.
    pub train: TrainOptions,
}

/// Which responses a policy sees as rejected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairs {
    /// (`y_w`, `y_l`), and `y_t` where the objective has a place for it.
    #[default]
    Rejected,
    /// (`y_w`, `y_l`) and (`y_w`, `y_t`) as two pairs: DPO on the data that ADPO sees. The batch is doubled, so that
    /// a step still sees as many prompts.
    RejectedAndToxic,
}

/// One trained policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its name in the report.
    pub name: String,
    /// Its pairs.
    #[serde(default)]
    pub pairs: Pairs,
    /// Its loss.
    pub objective: Objective,
    /// Training options of its own, in place of those that all policies share.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub train: serde_json::Map<String, serde_json::Value>,
}

impl Policy {
    /// The options that it is trained by, where all policies share `shared`.
    pub(crate) fn train_options(&self, shared: &TrainOptions) -> Result<TrainOptions, String> {
        let problem = |problem: String| format!("policy `{}`, `train`: {problem}", self.name);
        let mut options = serde_json::to_value(shared).map_err(|e| problem(e.to_string()))?;
        for (name, value) in &self.train {
            options[name] = value.clone();
        }
        let options = TrainOptions { seed: shared.seed, ..serde_json::from_value(options).map_err(|e| problem(e.to_string()))? };
        options.validate().map_err(|e| problem(e.to_string()))?;
        Ok(options)
    }
}

/// Stage 5.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluate {
    /// Held-out prompts.
    pub sources: Vec<Source>,
    /// Who judges the responses.
    pub judge: JudgeChoice,
    /// Who judges them as well: the report has both, and how often they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second_judge: Option<JudgeChoice>,
    /// Responses per prompt.
    #[serde(default = "count_one")]
    pub samples: usize,
    /// Their temperature.
    #[serde(default = "one")]
    pub temperature: f64,
    /// Which systems the token audit asks, in four further ways: `sft` and policies, by name. Left out: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<Vec<String>>,
    /// A second checkpoint, by its folder, that reads the responses for their fluency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fluency: Option<String>,
    /// The audit asks only so many of the prompts, drawn by the seed.
    pub audit_limit: Option<usize>,
    /// How responses are drawn besides the temperature.
    #[serde(default)]
    pub draw: Draw,
}

impl Evaluate {
    /// Whether the token audit asks this system.
    pub(crate) fn audits(&self, system: &str) -> bool {
        self.audit.as_ref().is_none_or(|names| names.iter().any(|name| name == system))
    }
}

fn paper_temperatures() -> Vec<f64> {
    vec![1.0, 1.0, 1.5, 1.5]
}
fn yes() -> bool {
    true
}
fn one() -> f64 {
    1.0
}
fn count_one() -> usize {
    1
}
fn four() -> usize {
    4
}

/// How a field that has to be there is written.
const EXAMPLES: [(&str, &str); 10] = [
    ("name", "name = \"mine\""),
    ("seeds", "seeds = [42]"),
    ("base", "base = { checkpoint = \"path/to/a/hugging-face/folder\" }"),
    ("checkpoint", "checkpoint = \"path/to/a/hugging-face/folder\""),
    ("encoding", "encoding = { max_length = 512 }"),
    ("max_length", "max_length = 512"),
    ("sources", "sources = [{ id = \"rows.jsonl\", buckets = [0, 1, 2, 3] }]"),
    ("buckets", "buckets = [0, 1, 2, 3]"),
    ("objective", "objective.dpo = { beta = 0.1 }"),
    ("judge", "judge = \"embedded\""),
];

/// What the parser says, and where a field is missing, how it is written.
fn with_example(problem: &str) -> String {
    let problem = problem.trim_end();
    let missing = EXAMPLES.iter().find(|(field, _)| problem.ends_with(&format!("missing field `{field}`")));
    missing.map_or_else(|| problem.to_owned(), |(_, example)| format!("{problem}; for example {example}"))
}

impl Recipe {
    /// Reads and checks a recipe file.
    ///
    /// # Errors
    /// [`PipelineError::Recipe`] names file, field and fix.
    pub fn from_file(path: &Path) -> Result<Self, PipelineError> {
        let text = adpo_data::read_text(path)?;
        Self::from_toml(&text, &path.display().to_string())
    }

    /// Reads and checks a recipe; `name` is used in errors.
    ///
    /// # Errors
    /// [`PipelineError::Recipe`] names the field and the fix.
    pub fn from_toml(text: &str, name: &str) -> Result<Self, PipelineError> {
        let problem = |problem: String| PipelineError::Recipe { recipe: name.to_owned(), problem };
        let recipe: Self = toml::from_str(text).map_err(|e| problem(with_example(&e.to_string())))?;
        recipe.check().map_err(problem)?;
        Ok(recipe)
    }

    /// The same recipe for other seeds. A limit draws held-out prompts by the first of them, for all to share.
    ///
    /// # Errors
    /// [`PipelineError::Recipe`] if there are none, or one twice.
    pub fn with_seeds(self, seeds: Vec<u64>) -> Result<Self, PipelineError> {
        let recipe = Self { seeds, ..self };
        recipe.check().map_err(|problem| PipelineError::Recipe { recipe: recipe.name.clone(), problem })?;
        Ok(recipe)
    }

    /// The same recipe with these values. Several values of one make a policy for each.
    ///
    /// # Errors
    /// [`PipelineError::Recipe`] names the key that leads nowhere, that may mean several things or whose value does not fit.
    pub fn with_overrides(self, overrides: &[Override]) -> Result<Self, PipelineError> {
        if overrides.is_empty() {
            return Ok(self);
        }
        let problem = |problem: String| PipelineError::Recipe { recipe: self.name.clone(), problem };
        let table = toml::Table::try_from(&self).map_err(|e| problem(e.to_string()))?;
        let table = overrides::apply(table, overrides).map_err(problem)?;
        let recipe: Self = toml::Value::Table(table).try_into().map_err(|e: toml::de::Error| problem(format!("--set: {e}")))?;
        recipe.check().map_err(problem)?;
        Ok(recipe)
    }

    /// Whether SFT teaches the control token.
    pub(crate) fn teaches_control_token(&self) -> bool {
        self.sft.as_ref().is_some_and(|sft| sft.mark_toxic)
    }

    /// What policies start from and are compared with, as reports name it.
    pub(crate) fn start_system(&self) -> &'static str {
        if self.sft.is_some() { "sft" } else { "base" }
    }

    /// The sections that read data, by their names.
    pub(crate) fn sections(&self) -> Vec<(&'static str, &[Source])> {
        let sft = self.sft.iter().map(|sft| ("sft", sft.sources.as_slice()));
        let sample = self.sample.iter().map(|sample| ("sample", sample.sources.as_slice()));
        let own = self.preference.iter().filter(|_| self.sample.is_none()).map(|own| ("preference", own.sources.as_slice()));
        let evaluate = self.evaluate.iter().map(|evaluate| ("evaluate", evaluate.sources.as_slice()));
        sft.chain(sample).chain(own).chain(evaluate).collect()
    }

    /// How the sections that draw completions do so, by their names.
    pub(crate) fn draws(&self) -> impl Iterator<Item = (&'static str, &Draw)> {
        let rehearsal = self.sft.iter().flat_map(|sft| &sft.rehearsal).map(|rehearsal| ("sft.rehearsal", &rehearsal.draw));
        let sample = self.sample.iter().map(|sample| ("sample", &sample.draw));
        let evaluate = self.evaluate.iter().map(|evaluate| ("evaluate", &evaluate.draw));
        rehearsal.chain(sample).chain(evaluate)
    }
}
