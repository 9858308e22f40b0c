//! The report: k systems side by side, with intervals, paired tests, and what the instruments are worth.
//!
//! [`ReportBuilder`] judges the replies and fills a [`Report`]; a report is plain data, the same for the same input.

mod build;
mod markdown;
mod measure;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use build::{Reply, ReportBuilder};

use crate::diversity::Diversity;
use crate::error::EvalError;
use crate::judge::{Thresholds, ToxicityHeads};
use crate::statistics::Interval;
use crate::train::Agreement;

/// Raised whenever a field changes its name or its meaning.
pub const SCHEMA: u32 = 1;

/// The outcome of an evaluation. [`Report::markdown`] is for people, [`Report::json`] for programs,
/// [`Report::snapshot`] for tests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`] at the time of writing.
    pub schema: u32,
    /// What was compared.
    pub title: String,
    /// Why the annotator and the judge are not independent, where they are not. Stands on top of everything.
    pub circular: Option<String>,
    /// The systems, in the order given.
    pub systems: Vec<SystemReport>,
    /// The system that the others are tested against.
    pub baseline: Option<String>,
    /// Paired tests against the baseline.
    pub comparisons: Vec<Comparison>,
    /// Whether the control token raises toxicity.
    pub control_token: Vec<TokenEffect>,
    /// The most toxic replies of each system; texts are redacted unless asked for.
    pub worst: Vec<WorstCase>,
    /// Who judged.
    pub judge: JudgeInfo,
    /// Who made the training triples, if they were made here.
    pub annotator: Option<JudgeInfo>,
    /// Seeds by name; `bootstrap` is the report's own.
    pub seeds: BTreeMap<String, u64>,
    /// Rows dropped on the way, by stage and reason.
    pub dropped: BTreeMap<String, usize>,
    /// Clocks, paths, versions: true of one run, and left out of the snapshot.
    pub environment: BTreeMap<String, String>,
}

/// Who judged, and how far to trust it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgeInfo {
    /// The judge's name.
    pub name: String,
    /// Hash of its weights or rubric.
    pub fingerprint: String,
    /// From which scores on it says yes.
    pub thresholds: Thresholds,
    /// Its measured agreement with labels.
    pub agreement: Vec<Agreement>,
}

/// How an interval was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Wilson's score interval: one outcome for each prompt.
    Wilson,
    /// Percentile bootstrap over prompts: several samples of one prompt are not independent.
    BootstrapOverPrompts,
}

/// A share of replies or prompts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// How many.
    pub hits: usize,
    /// Of how many.
    pub n: usize,
    /// The share with its 95 % interval.
    pub share: Interval,
    /// How the interval was computed.
    pub method: Method,
}

/// Rate and mean of one measure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RateAndMean {
    /// The share at or above the judge's threshold.
    pub rate: Rate,
    /// The mean score, bootstrapped over prompts.
    pub mean: Interval,
}

/// Mean log-ratios against the reference at the end of training: the paper's curves, which are no KL divergence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KlByRole {
    /// Mean of `log π(y|x) − log π_ref(y|x)` over chosen replies, in nats per reply.
    pub chosen: f64,
    /// The same over rejected replies.
    pub rejected: f64,
    /// The same over toxic replies.
    pub toxic: Option<f64>,
}

/// One system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SystemReport {
    /// Its name.
    pub name: String,
    /// Distinct prompts.
    pub prompts: usize,
    /// Replies, over all prompts and samples.
    pub replies: usize,
    /// Replies by the state of their judgement. All measures below rest on the scored ones.
    pub judgements: BTreeMap<String, usize>,
    /// Replies that are toxic.
    pub toxicity: RateAndMean,
    /// Prompts with any toxic reply among their samples.
    pub any_toxic: Rate,
    /// The largest number of samples of one prompt: the k of any-of-k.
    pub samples: usize,
    /// Mean of each toxicity head.
    pub heads: ToxicityHeads,
    /// Evasiveness on safe prompts: over-refusal.
    pub evasive_safe: Option<RateAndMean>,
    /// Evasiveness on prompts marked harmful, where it may be right.
    pub evasive_harmful: Option<RateAndMean>,
    /// Mean coherence.
    pub coherence: Interval,
    /// Replies that are empty, looping or copied.
    pub degenerate: Rate,
    /// Mean of (1 − evasiveness) · \[not degenerate\] · \[not toxic\] on safe prompts.
    pub helpfulness: Option<Interval>,
    /// Distinct-n at one token budget for all systems, and self-BLEU.
    pub diversity: Diversity,
    /// Mean words in a reply.
    pub words: f64,
    /// Log-ratios by role, where training measured them.
    pub kl: Option<KlByRole>,
    /// The main measures by category of prompt.
    pub categories: BTreeMap<String, CategoryReport>,
}

/// One category of prompts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CategoryReport {
    /// Toxic replies.
    pub toxicity: Rate,
    /// Evasive replies.
    pub evasiveness: Rate,
    /// Mean coherence.
    pub coherence: f64,
}

/// What a paired test says, at 5 % after Holm's adjustment over all tests of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The system has fewer.
    Lower,
    /// The system has more.
    Higher,
    /// The data do not decide.
    NotDistinguishable,
}

/// A system against the baseline on one yes/no measure, prompt by prompt.
///
/// With several samples a prompt counts as yes where more than half of its scored replies are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The system.
    pub system: String,
    /// The measure.
    pub measure: String,
    /// Prompts that both answered with a score.
    pub pairs: usize,
    /// Share of yes in the system.
    pub rate: f64,
    /// Share of yes in the baseline.
    pub baseline_rate: f64,
    /// Prompts that are yes in the system alone.
    pub only_system: usize,
    /// Prompts that are yes in the baseline alone.
    pub only_baseline: usize,
    /// Exact two-sided McNemar.
    pub p: f64,
    /// Adjusted by Holm over all comparisons of the report.
    pub p_holm: f64,
    /// What follows.
    pub verdict: Verdict,
}

/// Toxicity of one system without and with the control token, on the same prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenEffect {
    /// The system.
    pub system: String,
    /// Toxic replies without it.
    pub without: Rate,
    /// Toxic replies with it.
    pub with: Rate,
    /// Prompts that are toxic with the token alone (majority of samples).
    pub only_with: usize,
    /// Prompts that are toxic without it alone.
    pub only_without: usize,
    /// Exact two-sided McNemar, not adjusted.
    pub p: f64,
}

/// A reply worth reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorstCase {
    /// The system.
    pub system: String,
    /// The prompt's id.
    pub prompt_id: String,
    /// Its toxicity.
    pub toxicity: f64,
    /// Which head found it.
    pub head: String,
    /// The last user turn, or its length.
    pub prompt: String,
    /// The reply, or its length.
    pub reply: String,
}

impl Report {
    /// Everything, as indented JSON.
    ///
    /// # Errors
    /// [`EvalError::Report`] if a number is not finite.
    pub fn json(&self) -> Result<String, EvalError> {
        serde_json::to_string_pretty(self).map_err(|error| EvalError::Report(error.to_string()))
    }

    /// What a test should compare: all results without clocks, paths and versions, numbers rounded to four digits.
    ///
    /// # Errors
    /// [`EvalError::Report`] if the report does not serialise.
    pub fn snapshot(&self) -> Result<String, EvalError> {
        let fail = |error: serde_json::Error| EvalError::Report(error.to_string());
        let mut value = serde_json::to_value(self).map_err(fail)?;
        if let Some(fields) = value.as_object_mut() {
            fields.remove("environment");
        }
        round(&mut value);
        serde_json::to_string_pretty(&value).map_err(fail)
    }
}

fn round(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::Number(number) if number.is_f64() => {
            let rounded = number.as_f64().map_or(0.0, |x| (x * 1e4).round() / 1e4);
            // Minus zero and zero are one result.
            *value = serde_json::json!(rounded + 0.0);
        }
        Value::Array(items) => items.iter_mut().for_each(round),
        Value::Object(fields) => fields.values_mut().for_each(round),
        _ => {}
    }
}
