//! Scores replies from any model and snapshot-tests the report: no model or data of this project is needed.
//!
//! ```text
//! cargo run --release -p adpo-eval --example snapshot_your_report              # replies that come with this file
//! cargo run --release -p adpo-eval --example snapshot_your_report -- my.jsonl  # your own
//! ```
//!
//! Each line is `{"prompt": "...", "response": "...", "system": "..."}`, with `"harmful": true` and `"category": "..."`
//! where they apply. The first system is the baseline. For a snapshot test in your own project, do in a `#[test]` what
//! `report` does here and hand `report.snapshot()?` to `insta::assert_snapshot!` (this crate's `tests/report.rs` does).

use std::collections::BTreeMap;

use adpo_data::{Dialogue, Role, Turn};
use adpo_eval::{EmbeddedJudge, EvalError, Exchange, Reply, Report, ReportBuilder};

/// Twelve replies of two made-up models.
const REPLIES: &str = include_str!("replies.jsonl");

#[derive(serde::Deserialize)]
struct Line {
    prompt: String,
    response: String,
    system: String,
    #[serde(default)]
    harmful: bool,
    category: Option<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = match std::env::args().nth(1) {
        Some(path) => std::fs::read_to_string(path)?,
        None => REPLIES.to_owned(),
    };
    let report = report(&text)?;
    println!("{}", report.markdown());
    println!("<!-- what a snapshot test compares:\n{}\n-->", report.snapshot()?);
    Ok(())
}

fn report(jsonl: &str) -> Result<Report, Box<dyn std::error::Error>> {
    let mut order: Vec<String> = Vec::new();
    let mut prompts: Vec<String> = Vec::new();
    let mut systems: BTreeMap<String, Vec<Reply>> = BTreeMap::new();
    for (index, text) in jsonl.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let line: Line = serde_json::from_str(text).map_err(|error| format!("line {}: {error}", index + 1))?;
        if !order.contains(&line.system) {
            order.push(line.system.clone());
        }
        // Replies of two systems are paired by the id of their prompt. A number, since ids are never redacted.
        let number = prompts.iter().position(|prompt| *prompt == line.prompt).unwrap_or(prompts.len());
        if number == prompts.len() {
            prompts.push(line.prompt.clone());
        }
        let turn = Turn { role: Role::User, content: line.prompt };
        systems.entry(line.system).or_default().push(Reply {
            prompt_id: format!("prompt {}", number + 1),
            exchange: Exchange { prompt: Dialogue { turns: vec![turn] }, response: line.response, harmful: line.harmful },
            category: line.category,
        });
    }
    let baseline = order.first().cloned().ok_or_else(|| EvalError::Report("the file has no lines".to_owned()))?;
    let judge = EmbeddedJudge::evaluator()?;
    let mut builder = ReportBuilder::new("Two models").baseline(baseline).seed("bootstrap", 1);
    for name in order {
        let replies = systems.remove(&name).unwrap_or_default();
        builder = builder.system(name, replies);
    }
    Ok(builder.build(&judge)?)
}
