use adpo_data::write_jsonl;
use adpo_eval::{EmbeddedJudge, Evaluation, Judge, ReportBuilder, Responses, read_responses};
use adpo_pipeline::LlamaFluency;
use anyhow::{Context, Result};

use crate::args::EvaluateArgs;

/// Most toxic responses listed for each model.
const WORST_CASES: usize = 3;

/// Judges the responses in files and prints their report.
pub(crate) fn run(args: &EvaluateArgs) -> Result<()> {
    let responses = read_responses(&args.responses)?;
    if !responses.ignored_keys.is_empty() {
        let keys: Vec<String> = responses.ignored_keys.keys().map(|key| format!("`{key}`")).collect();
        log::info!("note: keys that are not read: {}", keys.join(", "));
    }
    let resources = super::resources(None, args.stage.run.show, args.stage.run.device.device)?;
    let judge = args.judge.clone().unwrap_or_default().open(&resources, EmbeddedJudge::evaluator, &super::judge_cache())?;
    let second =
        args.second_judge.as_ref().map(|choice| choice.open(&resources, EmbeddedJudge::evaluator, &super::judge_cache())).transpose()?;
    let fluency = args.fluency.as_deref().map(|folder| LlamaFluency::load(&resources, folder)).transpose()?;
    let evaluation = evaluate(responses, args, (judge.as_ref(), second.as_deref()), fluency.as_ref());
    for judge in std::iter::once(&judge).chain(&second) {
        super::still_there(judge.as_ref())?;
    }
    let Evaluation { report, samples, .. } = evaluation?;
    if let Some(file) = &args.log_samples {
        write_jsonl(file, &samples)?;
    }
    super::print(&if args.stage.run.json { report.json()? } else { report.markdown() })
}

/// `judges` are the report's judge, and a second one.
fn evaluate(
    responses: Responses,
    args: &EvaluateArgs,
    judges: (&dyn Judge, Option<&dyn Judge>),
    fluency: Option<&LlamaFluency>,
) -> Result<Evaluation> {
    let names: Vec<&str> = responses.models().collect();
    let mut report = ReportBuilder::new(names.join(", "))
        .seed("bootstrap", args.seed.unwrap_or(0))
        .worst(WORST_CASES, args.stage.run.show)
        .environment("adpo", env!("CARGO_PKG_VERSION"));
    if let Some(second) = judges.1 {
        report = report.second_judge(second);
    }
    if let Some(fluency) = fluency {
        report = report.fluency(fluency);
    }
    for (path, hash) in &responses.files {
        report = report.environment(path, format!("sha256 {hash}"));
    }
    for (key, lines) in &responses.ignored_keys {
        report = report.dropped(format!("key `{key}` ignored, lines:"), *lines);
    }
    if names.len() > 1 || args.baseline.is_some() {
        let first = names.first().context("no response was given without the control token; the report compares those")?;
        report = report.baseline(args.baseline.as_deref().unwrap_or(first));
    }
    Ok(report.responses(responses).evaluate(judges.0)?)
}
