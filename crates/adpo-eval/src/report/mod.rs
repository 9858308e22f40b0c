//! The report: k systems side by side, with intervals, paired tests, and what the instruments are worth.
//!
//! ```text
//! responses ─judge─▶ scores ─▶ outcomes (one number per system, measure, prompt) ─▶ comparisons ─▶ verdicts
//!                    └─────▶ systems (rates, means, diversity) ────────────────────────┴──▶ Report
//! ```
//!
//! [`ReportBuilder`] walks that line and fills a [`Report`], which is plain data, the same for the same input. When a
//! comparison may name a winner stands in `verdict` and nowhere else. [`OverSeeds`] sums up the outcomes of several
//! training seeds. The JSON is described by `assets/report.schema.json`.

mod build;
mod compare;
mod example;
mod fluency;
mod instrument;
mod markdown;
mod measure;
mod sanity;
#[cfg(test)]
mod schema;
mod second;
mod seeds;
mod snapshot;
mod system;
mod token;
mod verdict;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use build::{Evaluation, ReportBuilder};
pub use compare::{Comparison, PairedTest};
pub use example::{Example, ExampleResponse};
pub use fluency::{Fluency, ResponseNats};
pub use instrument::{CorrectedRate, JudgeInfo, ModelBias};
pub use measure::{Measure, Method, Outcomes, Rate, RateAndMean, SystemOutcomes};
pub use second::{JudgeAgreement, SecondJudge, SecondSystem};
pub use seeds::{OverSeeds, SeedDifference, SeedValues};
pub use snapshot::{Finding, PromptFindings};
pub use system::{CategoryReport, HeadReports, KlByRole, SystemReport};
pub use token::{TokenEffect, TokenRates};
pub use verdict::{Doubt, Verdict};

use crate::error::EvalError;

/// Raised whenever a field changes its name or its meaning.
pub const SCHEMA: u32 = 6;

/// The outcome of an evaluation. [`Report::markdown`] is for people, [`Report::json`] for programs,
/// [`Report::snapshot`] for tests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    /// The version of this format.
    pub schema: u32,
    /// What was compared.
    pub title: String,
    /// Why the annotator and the judge are not independent, where they are not. Stands on top of everything.
    pub circular: Option<String>,
    /// Evaluated prompts that the judge was trained on; its agreement figures do not hold for them.
    pub prompts_seen_by_judge: usize,
    /// What else a reader has to know before the numbers: responses without scores, prompts that cannot be paired.
    pub notes: Vec<String>,
    /// The systems, in the order given.
    pub systems: Vec<SystemReport>,
    /// Responses whose worth is known through the same judge: the prompts' reference responses where they have some, another prompt's
    /// response, shuffled words.
    pub sanity: Vec<SystemReport>,
    /// Every prompt with what the judge found in the responses to it.
    pub prompts: Vec<PromptFindings>,
    /// A few prompts with what each system said.
    pub examples: Vec<Example>,
    /// The language model that read the responses for [`SystemReport::fluency`], if there was one.
    pub fluency: Option<String>,
    /// The system that the others are tested against.
    pub baseline: Option<String>,
    /// Paired tests against the baseline.
    pub comparisons: Vec<Comparison>,
    /// The token audit: whether the control token raises toxicity, in every form.
    pub control_token: Vec<TokenEffect>,
    /// The most toxic responses of each system; texts are redacted unless asked for.
    pub worst: Vec<WorstCase>,
    /// Who judged.
    pub judge: JudgeInfo,
    /// A second judge on the same responses, and how far the two agree, where one was asked.
    pub second_judge: Option<SecondJudge>,
    /// Who made the training triples, if they were made here.
    pub annotator: Option<JudgeInfo>,
    /// Seeds by name; `bootstrap` is the report's own.
    pub seeds: BTreeMap<String, u64>,
    /// Rows dropped on the way, by stage and reason.
    pub dropped: BTreeMap<String, usize>,
    /// Clocks, paths, versions: true of one run, and left out of the snapshot.
    pub environment: BTreeMap<String, String>,
}

/// A response worth reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WorstCase {
    /// The system.
    pub system: String,
    /// The prompt's id.
    pub prompt_id: String,
    /// Its toxicity.
    pub toxicity: f64,
    /// Which head found it.
    pub head: String,
    /// The last turn of the prompt, or its length.
    pub prompt: String,
    /// The response, or its length.
    pub response: String,
}

impl Report {
    /// Everything, as indented JSON.
    ///
    /// # Errors
    /// [`EvalError::Report`] if a number is not finite.
    pub fn json(&self) -> Result<String, EvalError> {
        serde_json::to_string_pretty(self).map_err(|error| EvalError::Report(error.to_string()))
    }
}
