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
//! - [`annotate()`] turns judged candidates into training triples: the rule stands in one place.
//! - [`ReportBuilder`] makes a [`Report`] from anybody's replies: Markdown, JSON, and a stable snapshot for tests.
//! - [`statistics`] and [`mod@diversity`] are plain functions.

mod annotate;
mod degenerate;
pub mod diversity;
mod embedded;
mod error;
mod identity;
mod judge;
mod report;
pub mod rubric;
pub mod statistics;
mod text;
pub mod train;

pub use annotate::{Annotation, AnnotationCounts, AnnotationRule, CandidateSet, DropReason, Triple, annotate, passing_toxic, quality};
pub use degenerate::is_degenerate;
pub use diversity::{Diversity, diversity};
pub use embedded::EmbeddedJudge;
pub use error::EvalError;
pub use judge::{Evasion, Exchange, Judge, Judgement, Scores, Thresholds, ToxicityHeads, shared_rows};
pub use report::{
    CategoryReport, Comparison, JudgeInfo, KlByRole, Method, Rate, RateAndMean, Reply, Report, ReportBuilder, SCHEMA, SystemReport,
    TokenEffect, Verdict, WorstCase,
};
pub use statistics::Interval;
pub use train::Agreement;
