//! Measures dialogue replies: toxicity, evasiveness, coherence, diversity. Everything a report needs besides: judges,
//! intervals, paired tests, and how far each instrument agrees with people.
//!
//! ```
//! use adpo_data::{Dialogue, Role, Turn};
//! use adpo_eval::{EmbeddedJudge, Exchange};
//!
//! # #[cfg(feature = "embedded")] {
//! let judge = EmbeddedJudge::evaluator()?;
//! let turn = Turn { role: Role::User, content: "Any idea for a quick dinner?".to_owned() };
//! let exchange = Exchange {
//!     prompt: Dialogue { turns: vec![turn] },
//!     response: "Nobody wants to eat what a lazy fool like you cooks.".to_owned(),
//!     harmful: false,
//! };
//! let scores = judge.score(&exchange);
//! assert!(scores.toxicity > 0.5 && scores.evasiveness < 0.5);
//! # }
//! # Ok::<(), adpo_eval::EvalError>(())
//! ```
//!
//! - [`Judge`] is the trait; [`EmbeddedJudge`] needs no download; [`rubric`] is the prompt and parser for LLM judges.
//! - [`LlmJudge`] asks any [`ChatModel`]; [`compare_pairs`] asks one for the better of two replies, in both orders. With the
//!   feature `http`: chat models and classifiers behind endpoints, and sampling from them.
//! - [`annotate()`] turns judged candidates into training triples: the rule stands in one place.
//! - [`ReportBuilder`] makes a [`Report`] from anybody's replies: Markdown, JSON, and a stable snapshot for tests.
//! - [`read_responses`] reads replies of any model from JSONL.
//! - [`statistics`] and [`mod@diversity`] are plain functions.

mod annotate;
mod degenerate;
pub mod diversity;
mod embedded;
mod endpoint;
mod error;
mod identity;
mod judge;
mod llm;
mod pairwise;
mod report;
mod responses;
pub mod rubric;
pub mod statistics;
mod text;
pub mod train;
mod words;

pub use annotate::{Annotation, AnnotationCounts, AnnotationRule, CandidateSet, DropReason, Triple, annotate, passing_toxic, quality};
pub use degenerate::is_degenerate;
pub use diversity::{Diversity, diversity};
pub use embedded::EmbeddedJudge;
#[cfg(feature = "http")]
pub use endpoint::{ChatEndpoint, ClassifierJudge, SampleOptions, SampleReport, sample_endpoint};
pub use endpoint::{ClassifierOptions, EndpointOptions, RequestLimits};
pub use error::EvalError;
pub use judge::{Evasion, Exchange, Judge, Judgement, Scores, Thresholds, ToxicityHeads, shared_rows};
pub use llm::{Answer, ChatModel, LlmJudge};
pub use pairwise::{Pair, PairOutcome, PairwiseReport, PositionBias, compare_pairs};
pub use report::{
    CategoryReport, Comparison, CorrectedRate, Doubt, Example, ExampleReply, Fluency, HeadReports, JudgeInfo, KlByRole, Measure, Method,
    ModelBias, Outcomes, OverSeeds, PairedTest, Rate, RateAndMean, Reply, ReplyNats, Report, ReportBuilder, SCHEMA, SeedDifference,
    SeedValues, SystemOutcomes, SystemReport, TokenEffect, TokenForm, TokenRates, Verdict, WorstCase,
};
pub use responses::{Responses, read_responses};
pub use statistics::Interval;
pub use train::Agreement;
