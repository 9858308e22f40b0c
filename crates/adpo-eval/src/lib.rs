#![doc = include_str!("../README.md")]
//!
//! - [`Judge`] is the trait; [`EmbeddedJudge`] needs no download; [`rubric`] is the prompt and parser for LLM judges.
//! - [`EncoderJudge`] is an instrument of its own beside it: heads over any [`SentenceEncoder`]'s embeddings.
//! - [`LlmJudge`] asks any [`ChatModel`]; [`compare_pairs`] asks one for the better of two responses, in both orders. With the
//!   feature `http`: chat models and classifiers behind endpoints, and sampling from them.
//! - [`annotate()`] turns judged candidates into training triples: the rule stands in one place.
//! - [`ReportBuilder`] makes a [`Report`] from anybody's responses: Markdown, JSON, and a stable snapshot for tests.
//! - [`read_responses`] reads responses of any model from JSONL.
//! - [`statistics`] and [`mod@diversity`] are plain functions.

mod agreement;
mod annotate;
mod degenerate;
pub mod diversity;
mod embedded;
mod encoder;
mod endpoint;
mod error;
mod identity;
mod judge;
mod legible;
mod llm;
mod pairwise;
mod report;
mod response;
pub mod rubric;
mod samples;
pub mod statistics;
mod text;
mod token_form;
pub mod train;
mod words;

pub use agreement::Agreement;
pub use annotate::{Annotation, AnnotationCounts, AnnotationRule, Candidates, DropReason, Triple, annotate, passing_toxic, quality};
pub use degenerate::is_degenerate;
pub use diversity::{Diversity, diversity};
pub use embedded::EmbeddedJudge;
pub use encoder::{EncoderJudge, SentenceEncoder};
#[cfg(feature = "http")]
pub use endpoint::{ChatEndpoint, ClassifierJudge, SampleOptions, SampleReport, sample_endpoint};
pub use endpoint::{ClassifierOptions, EndpointOptions, RequestLimits};
pub use error::EvalError;
pub use judge::{Evasion, Exchange, Judge, Judgement, Scores, Thresholds, ToxicityHeads, Verdicts, shared_rows};
pub use llm::{ChatCompletion, ChatModel, LlmJudge};
pub use pairwise::{PairOutcome, PairwiseReport, PositionBias, ResponsePair, compare_pairs};
pub use report::{
    CategoryReport, Comparison, CorrectedRate, Doubt, Evaluation, Example, ExampleResponse, Finding, Fluency, HeadReports, JudgeAgreement,
    JudgeInfo, KlByRole, Measure, Method, ModelBias, Outcomes, OverSeeds, PairedTest, PromptFindings, Rate, RateAndMean, Report,
    ReportBuilder, ResponseNats, SCHEMA, SecondJudge, SecondSystem, SeedDifference, SeedValues, SystemOutcomes, SystemReport, TokenEffect,
    TokenRates, Verdict, WorstCase,
};
pub use response::{Responder, Response, Responses, read_responses, write_response, write_responses};
pub use samples::ScoredResponse;
pub use statistics::Interval;
pub use token_form::TokenForm;
