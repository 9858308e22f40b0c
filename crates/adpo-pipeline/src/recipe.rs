//! A recipe: everything that a run depends on besides the data and the starting checkpoint.

use std::collections::BTreeSet;
use std::path::Path;

use adpo_data::{Format, Mask, OverLength};
use adpo_eval::{AnnotationRule, Thresholds};
use adpo_model::Storage;
use adpo_objective::Objective;
use adpo_train::TrainOptions;
use serde::{Deserialize, Serialize};

use crate::PipelineError;
use crate::corpus::DIALOGUES;
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
    /// Stage 1: fine-tuning on normal and toxic dialogues.
    pub sft: Sft,
    /// Stage 2: candidate answers, plain and toxic. Left out where `preference.sources` brings triples of one's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
    /// Stage 3: candidates become triples.
    #[serde(default)]
    pub annotate: Annotate,
    /// Stage 4: what all trained policies share.
    pub preference: Preference,
    /// Stage 4: the policies, each from the same SFT model, triples and steps.
    pub policies: Vec<Policy>,
    /// Stage 5: answers to held-out prompts, and their scores.
    pub evaluate: Evaluate,
}

/// The starting checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// `embedded:tiny-base`, or a Hugging Face folder (absolute, or relative to the working directory).
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

/// Rows from one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// `embedded:dialogues`, or a file below `--data-dir`.
    pub id: String,
    /// The file's format; detected from its first row where it is left out.
    pub format: Option<Format>,
    /// Which of the six split buckets to take. 4 belongs to the evaluator and is refused.
    pub buckets: Vec<u8>,
    /// Takes at most this many rows, drawn by the seed.
    pub limit: Option<usize>,
    /// Marks an answer as toxic where the annotator's toxicity reaches this; only for rows that people have not
    /// labelled. Left out: unlabelled rows stay unmarked.
    pub label_toxic_above: Option<f64>,
    /// Takes this share of the rows labelled toxic a second time without the mark. A corpus whose labels are
    /// complete teaches the plain mode no toxicity, and leaves nothing to reduce; real ones are never complete.
    #[serde(default)]
    pub unmarked_toxic_share: f64,
    /// Of `embedded:dialogues`, which has an evasive reply to every request: learns from this share of them. A model that evades
    /// half of what it is asked has little else to say.
    #[serde(default = "one")]
    pub evasive_share: f64,
}

/// How dialogues become ids.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoding {
    /// Tokens of prompt and answer together.
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
    /// The base's own answers, learnt beside them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<Rehearsal>,
    /// Adapters instead of all weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,
    /// The training options.
    pub train: TrainOptions,
}

/// The base answers the prompts of [`Sft::sources`] before it is fine-tuned, and learns again what of it the annotator finds coherent and
/// neither evasive nor toxic: without that a small model forgets how to talk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rehearsal {
    /// Answers drawn for each prompt; the most coherent one that is acceptable, and new, is learnt.
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
    /// One plain answer per entry. The paper: 1.0 and 1.5.
    #[serde(default = "paper_temperatures")]
    pub temperatures: Vec<f64>,
    /// Temperature of the toxic answers.
    #[serde(default = "one")]
    pub toxic_temperature: f64,
    /// Toxic answers drawn until one passes the annotator, at most this many.
    #[serde(default = "four")]
    pub toxic_attempts: usize,
    /// How answers are drawn besides the temperature.
    #[serde(default)]
    pub draw: Draw,
}

/// How answers are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Draw {
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
    /// Only the k likeliest tokens.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that together reach this probability.
    pub top_p: Option<f64>,
    /// Answers drawn at once.
    pub batch_size: usize,
    /// The model is loaded and computes in bf16, and its key/value cache is bf16: half the memory, and on a GPU half the time of a
    /// token. What transformers and vLLM call `dtype = "bfloat16"`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bf16: bool,
}

impl Draw {
    /// The type of weights, activations and key/value cache.
    pub(crate) fn precision(&self) -> Storage {
        if self.bf16 { Storage::BF16 } else { Storage::F32 }
    }
}

impl Default for Draw {
    fn default() -> Self {
        Self { max_new_tokens: 128, top_k: None, top_p: None, batch_size: 64, bf16: false }
    }
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
    /// Preferences of one's own: pairs, or triples for objectives that penalise a toxic answer. They take the place of
    /// the stages `sample` and `annotate`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// How the reference is kept.
    #[serde(default)]
    pub reference: ReferenceChoice,
    /// Each policy is a set of adapters beside the SFT model. Left out where SFT left adapters, these are trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,
    /// The training options.
    pub train: TrainOptions,
}

/// Which answers a policy sees as rejected.
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
}

/// Stage 5.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluate {
    /// Held-out prompts.
    pub sources: Vec<Source>,
    /// Who judges the answers.
    pub judge: JudgeChoice,
    /// Answers per prompt.
    #[serde(default = "count_one")]
    pub samples: usize,
    /// Their temperature.
    #[serde(default = "one")]
    pub temperature: f64,
    /// Which systems the token audit asks, in four further ways: `sft` and policies, by name. Left out: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<Vec<String>>,
    /// A second checkpoint, by its folder, that reads the answers for their fluency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fluency: Option<String>,
    /// The audit asks only so many of the prompts, drawn by the seed.
    pub audit_limit: Option<usize>,
    /// How answers are drawn besides the temperature.
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
fn one() -> f64 {
    1.0
}
fn count_one() -> usize {
    1
}
fn four() -> usize {
    4
}

fn names_a_folder(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':'])
}

/// The bucket whose rows trained the evaluator.
const EVALUATOR_BUCKET: u8 = 4;

impl Recipe {
    /// Reads and checks a recipe file.
    ///
    /// # Errors
    /// [`PipelineError::Recipe`] names file, field and fix.
    pub fn from_file(path: &Path) -> Result<Self, PipelineError> {
        let text = std::fs::read_to_string(path).map_err(PipelineError::io(path))?;
        Self::from_toml(&text, &path.display().to_string())
    }

    /// Reads and checks a recipe; `name` is used in errors.
    ///
    /// # Errors
    /// [`PipelineError::Recipe`] names the field and the fix.
    pub fn from_toml(text: &str, name: &str) -> Result<Self, PipelineError> {
        let problem = |problem: String| PipelineError::Recipe { recipe: name.to_owned(), problem };
        let recipe: Self = toml::from_str(text).map_err(|e| problem(e.to_string()))?;
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

    fn check(&self) -> Result<(), String> {
        if self.seeds.is_empty() {
            return Err("`seeds` is empty; give at least one".into());
        }
        if self.seeds.iter().collect::<BTreeSet<_>>().len() < self.seeds.len() {
            return Err("`seeds` holds one seed twice; the second run would be the first one".into());
        }
        if !names_a_folder(&self.name) {
            return Err(format!("`name` = \"{}\" cannot name the run's folder; use letters, digits, `-` and `_`", self.name));
        }
        if self.policies.is_empty() {
            return Err("`policies` is empty; give at least one `[[policies]]`".into());
        }
        let mut names = BTreeSet::from(["sft"]);
        for policy in &self.policies {
            if !names.insert(policy.name.as_str()) || !names_a_folder(&policy.name) || policy.name.contains('+') {
                return Err(format!("policy name `{}` is taken or cannot name a folder; choose another", policy.name));
            }
            policy.objective.validate().map_err(|e| format!("policy `{}`: {e}", policy.name))?;
            if policy.pairs == Pairs::RejectedAndToxic && policy.objective.needs_toxic() {
                return Err(format!(
                    "policy `{}`: `pairs = \"rejected_and_toxic\"` makes the toxic answer a rejected one; this objective already uses it",
                    policy.name
                ));
            }
        }
        if let Some(unknown) = self.evaluate.audit.iter().flatten().find(|name| !names.contains(name.as_str())) {
            let known: Vec<&str> = names.into_iter().collect();
            return Err(format!("`evaluate.audit` names `{unknown}`, which is no system of this recipe; they are {}", known.join(", ")));
        }
        if self.preference.lora.is_some() && self.sft.lora.as_ref().is_some_and(|lora| !lora.merge) {
            return Err(
                "`[preference.lora]` would put adapters on the adapters of SFT, and they are never stacked; set `merge = true` in \
                        `[sft.lora]`, or leave `[preference.lora]` out to go on training the adapters of SFT"
                    .into(),
            );
        }
        self.check_draws()?;
        self.sft.train.validate().map_err(|e| format!("[sft.train] {e}"))?;
        self.preference.train.validate().map_err(|e| format!("[preference.train] {e}"))?;
        self.check_buckets()
    }

    fn check_draws(&self) -> Result<(), String> {
        let evaluate = &self.evaluate;
        if evaluate.samples == 0 || evaluate.audit_limit == Some(0) {
            return Err("`evaluate.samples` and `evaluate.audit_limit` must be at least 1".into());
        }
        let mut temperatures = vec![evaluate.temperature];
        if let Some(rehearsal) = &self.sft.rehearsal {
            if rehearsal.samples == 0 {
                return Err("`sft.rehearsal.samples` must be at least 1; leave `[sft.rehearsal]` out to rehearse nothing".into());
            }
            temperatures.push(rehearsal.temperature);
        }
        if let Some(sample) = &self.sample {
            if sample.temperatures.len() < 2 {
                return Err("`sample.temperatures` needs two entries: a pair has two answers".into());
            }
            if sample.toxic_attempts == 0 {
                return Err("`sample.toxic_attempts` must be at least 1: no triple is whole without a toxic answer".into());
            }
            temperatures.extend(sample.temperatures.iter().chain([&sample.toxic_temperature]));
        }
        if let Some(wrong) = temperatures.into_iter().find(|t| !t.is_finite() || *t < 0.0) {
            return Err(format!("temperature {wrong} cannot be; it is 0 (greedy) or more"));
        }
        for (section, draw) in self.draws() {
            let problem = match draw {
                Draw { max_new_tokens: 0, .. } => "`max_new_tokens` must be at least 1",
                Draw { batch_size: 0, .. } => "`batch_size` must be at least 1",
                Draw { top_k: Some(0), .. } => "`top_k` must be at least 1; leave it out to turn it off",
                Draw { top_p: Some(p), .. } if !(*p > 0.0 && *p <= 1.0) => "`top_p` lies in (0, 1]; leave it out to turn it off",
                _ => continue,
            };
            return Err(format!("[{section}.draw] {problem}"));
        }
        let rule = &self.annotate.rule;
        let thresholds = [("annotate.rule.toxic_threshold", rule.toxic_threshold), ("annotate.rule.margin", rule.margin)];
        let labels = self.sft.sources.iter().map(|source| ("sft.sources, label_toxic_above", source.label_toxic_above));
        for (field, value) in thresholds.into_iter().chain(labels) {
            if let Some(value) = value.filter(|value| !(0.0..=1.0).contains(value)) {
                return Err(format!("`{field}` is {value}; scores lie in [0, 1]"));
            }
        }
        Ok(())
    }

    /// How the stages that draw answers do so, by their names.
    pub(crate) fn draws(&self) -> impl Iterator<Item = (&'static str, &Draw)> {
        let rehearsal = self.sft.rehearsal.iter().map(|rehearsal| ("sft.rehearsal", &rehearsal.draw));
        let sample = self.sample.iter().map(|sample| ("sample", &sample.draw));
        rehearsal.chain(sample).chain([("evaluate", &self.evaluate.draw)])
    }

    /// A row's prompt may serve one purpose only, and none that the evaluator has learnt from.
    fn check_buckets(&self) -> Result<(), String> {
        let preferences = match (&self.sample, self.preference.sources.as_slice()) {
            (Some(sample), []) => ("sample", &sample.sources),
            (None, [_, ..]) => ("preference", &self.preference.sources),
            (Some(_), _) => return Err("`[sample]` and `preference.sources` both say where triples come from; keep one of them".into()),
            (None, []) => return Err("`[sample]` is missing, and there are no `preference.sources` in its place; give one of them".into()),
        };
        let sections = [("sft", &self.sft.sources), preferences, ("evaluate", &self.evaluate.sources)];
        let mut owners: Vec<(&str, u8)> = Vec::new();
        for (section, sources) in sections {
            if sources.is_empty() {
                return Err(format!("`{section}.sources` is empty; give at least one"));
            }
            for source in sources {
                if source.buckets.is_empty() || source.buckets.iter().any(|b| *b > 5) {
                    return Err(format!("`{section}.sources`, `{}`: `buckets` lists numbers from 0 to 5", source.id));
                }
                if source.buckets.contains(&EVALUATOR_BUCKET) {
                    return Err(format!(
                        "`{section}.sources`, `{}`: bucket 4 trained the evaluator; a policy that sees it makes the evaluation circular",
                        source.id
                    ));
                }
                if !(0.0..=1.0).contains(&source.unmarked_toxic_share) {
                    return Err(format!("`{section}.sources`, `{}`: `unmarked_toxic_share` lies in [0, 1]", source.id));
                }
                if !(0.0..=1.0).contains(&source.evasive_share) {
                    return Err(format!("`{section}.sources`, `{}`: `evasive_share` lies in [0, 1]", source.id));
                }
                if source.evasive_share < 1.0 && (section != "sft" || source.id != DIALOGUES) {
                    return Err(format!(
                        "`{section}.sources`, `{}`: `evasive_share` belongs to `{DIALOGUES}` in `sft.sources`; no other rows say which \
                         reply is evasive",
                        source.id
                    ));
                }
                if section != "sft" && (source.label_toxic_above.is_some() || source.unmarked_toxic_share > 0.0) {
                    return Err(format!(
                        "`{section}.sources`, `{}`: `label_toxic_above` and `unmarked_toxic_share` belong to `sft.sources`",
                        source.id
                    ));
                }
                let repeated = |other: &&Source| other.id == source.id && other.buckets.iter().any(|b| source.buckets.contains(b));
                if sources.iter().filter(repeated).count() > 1 {
                    return Err(format!(
                        "`{section}.sources` lists `{}` twice with a bucket in common: its rows would count twice",
                        source.id
                    ));
                }
                for bucket in &source.buckets {
                    if let Some((other, _)) = owners.iter().find(|(other, b)| b == bucket && *other != section) {
                        return Err(format!("bucket {bucket} is used by `{other}` and by `{section}`; each bucket serves one of them"));
                    }
                    owners.push((section, *bucket));
                }
            }
        }
        Ok(())
    }
}
