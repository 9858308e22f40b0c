//! Scores responses from any model and snapshot-tests the report: no model or data of this project is needed.
//!
//! ```text
//! cargo run --release -p adpo-eval --example snapshot_your_report              # responses that come with this file
//! cargo run --release -p adpo-eval --example snapshot_your_report -- my.jsonl  # your own
//! ```
//!
//! Each line is `{"prompt": "...", "response": "...", "model": "..."}`, with `"harmful": true` and `"category": "..."`
//! where they apply ([`read_responses`] knows more). The first model is the baseline. For a snapshot test in your own
//! project, do in a `#[test]` what `report` does here and hand `report.snapshot()` to `insta::assert_snapshot!` (this
//! crate's `tests/report.rs` does).

use adpo_eval::{EmbeddedJudge, EvalError, Report, ReportBuilder, read_responses};

/// Twelve responses of two made-up models.
const RESPONSES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/responses.jsonl");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| RESPONSES.to_owned());
    let report = report(&path)?;
    println!("{}", report.markdown());
    println!("<!-- what a snapshot test compares:\n{}-->", report.snapshot());
    Ok(())
}

fn report(path: &str) -> Result<Report, EvalError> {
    let responses = read_responses(&[path])?;
    let mut builder = ReportBuilder::new("Two models").seed("bootstrap", 1);
    if let Some(first) = responses.models().next() {
        builder = builder.baseline(first);
    }
    builder.responses(responses).build(&EmbeddedJudge::evaluator()?)
}
