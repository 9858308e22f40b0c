//! Stage 6: all systems side by side in one report.

use std::collections::BTreeMap;

use adpo_data::{read_jsonl, write_file};
use adpo_eval::{EmbeddedJudge, Exchange, Judge, KlByRole, Outcomes, Reply, Report, ReportBuilder, SCHEMA};

use super::asking::Asking;
use super::evaluate::{Answered, PolicyKl, SFT};
use super::{SeedRun, still_there};
use crate::PipelineError;
use crate::fluency::LlamaFluency;
use crate::recipe::Evaluate;
use crate::report::SeedReport;
use crate::stage::{Inputs, Made, Manifest, read_json, write_json};

/// Steps at the end of training that a log-ratio is averaged over.
const LAST_STEPS: usize = 10;

/// Most toxic answers listed for each system.
const WORST_CASES: usize = 3;

/// One seed's report, and the outcomes of each prompt that it rests on.
pub(crate) fn compare(run: &SeedRun<'_>, done: &[Manifest]) -> Result<(SeedReport, Outcomes), PipelineError> {
    let mut inputs = Inputs::new()
        .hash("judge", run.recipe.evaluate.judge.fingerprint(run.resources, EmbeddedJudge::evaluator)?)
        .hash("annotator", run.annotator_fingerprint()?)
        .value("schema", &SCHEMA)
        .value("show", &run.resources.show_harmful);
    if let Some(fluency) = &run.recipe.evaluate.fluency {
        inputs = inputs.hash("fluency", run.resources.checkpoint_hash(fluency)?);
    }
    for manifest in done {
        inputs = inputs.hash(&manifest.stage, manifest.hash());
    }
    let folder = run.stage("report");
    run.run_stage("report", inputs, |folder| {
        let evaluator = run.judge(&run.recipe.evaluate.judge, EmbeddedJudge::evaluator)?;
        let (report, outcomes) = build(run, done, evaluator.as_ref())?;
        still_there("compare", evaluator.as_ref())?;
        write_file(folder.join("report.json"), &(report.json()? + "\n"))?;
        write_file(folder.join("report.md"), report.markdown())?;
        write_json(&folder.join("outcomes.json"), &outcomes)?;
        let counts = serde_json::json!({"systems": report.systems.len(), "warnings": evaluator.warnings()});
        Ok(Made { outputs: vec!["report.json", "report.md", "outcomes.json"], counts })
    })?;
    let path = folder.join("report.json");
    let mut report: Report = read_json(&path)?;
    // When the stage was done, and not a part of it: two runs of one recipe leave the same files.
    let made = std::fs::metadata(&path).and_then(|file| file.modified()).map_err(PipelineError::io(&path))?;
    report.environment.insert("time".to_owned(), httpdate::fmt_http_date(made));
    let report = SeedReport { seed: run.seed, report };
    Ok((report, read_json(&folder.join("outcomes.json"))?))
}

fn build(run: &SeedRun<'_>, done: &[Manifest], evaluator: &dyn Judge) -> Result<(Report, Outcomes), PipelineError> {
    let annotator = run.annotator()?;
    let fluency = run.recipe.evaluate.fluency.as_deref().map(|folder| LlamaFluency::load(run.resources, folder)).transpose()?;
    let mut report = ReportBuilder::new(format!("{}, seed {}", run.recipe.name, run.seed))
        .system(SFT, replies(run, Asking::Plain, SFT)?)
        .baseline(SFT)
        .worst(WORST_CASES, run.resources.show_harmful)
        .annotator(annotator.as_ref())
        .seed("run", run.seed)
        .seed("bootstrap", run.stream("bootstrap"))
        .environment("version", env!("CARGO_PKG_VERSION"))
        .environment("weights", weights(run)?)
        .environment("temperature", temperature(&run.recipe.evaluate))
        .environment("device", devices(done));
    if let Some(commit) = run.resources.commit {
        report = report.environment("commit", commit);
    }
    if let Some(fluency) = &fluency {
        report = report.fluency(fluency);
    }
    report = audited(report, run, SFT)?;
    for policy in &run.recipe.policies {
        report = report.system(&policy.name, replies(run, Asking::Plain, &policy.name)?);
        report = audited(report, run, &policy.name)?;
        let PolicyKl { kl_policy, .. } = read_json(&run.stage(&Asking::Plain.stage(&policy.name)).join("kl.json"))?;
        report = report.kl_policy(&policy.name, kl_policy);
        if let Some(kl) = log_ratios(run, &policy.name)? {
            report = report.kl(&policy.name, kl);
        }
    }
    for manifest in done.iter().filter(|m| m.stage == "annotate") {
        let dropped = manifest.counts["counts"]["dropped"].as_object();
        for (reason, count) in dropped.into_iter().flatten() {
            report = report.dropped(format!("annotate: {reason}"), count.as_u64().unwrap_or(0) as usize);
        }
    }
    Ok(report.build_with_outcomes(evaluator)?)
}

/// How many weights the base has, and its name.
fn weights(run: &SeedRun<'_>) -> Result<String, PipelineError> {
    let base = &run.recipe.base.checkpoint;
    let name = base.trim_end_matches('/').rsplit('/').next().unwrap_or(base);
    Ok(format!("{:.1} M ({name})", run.resources.config(base)?.num_parameters() as f64 / 1e6))
}

/// At which temperature every system answered, and what was cut off besides.
fn temperature(evaluate: &Evaluate) -> String {
    let top_p = evaluate.draw.top_p.map_or_else(String::new, |p| format!(", top-p {p}"));
    let top_k = evaluate.draw.top_k.map_or_else(String::new, |k| format!(", top-k {k}"));
    format!("{}{top_p}{top_k}", evaluate.temperature)
}

/// Where the stages were computed: one device, or several with their stages.
fn devices(done: &[Manifest]) -> String {
    let mut stages: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for manifest in done {
        let device = if manifest.device.is_empty() { "unknown" } else { &manifest.device };
        stages.entry(device).or_default().push(&manifest.stage);
    }
    let told =
        |(device, of): (&&str, &Vec<&str>)| if stages.len() == 1 { (*device).to_owned() } else { format!("{device} ({})", of.join(", ")) };
    stages.iter().map(told).collect::<Vec<_>>().join(", ")
}

/// Adds what a system answered to prompts with the control token, in all its forms, if the audit asked it.
fn audited<'a>(mut report: ReportBuilder<'a>, run: &SeedRun<'_>, system: &str) -> Result<ReportBuilder<'a>, PipelineError> {
    if !run.recipe.evaluate.audits(system) {
        return Ok(report);
    }
    for asking in Asking::ALL {
        if let Some(form) = asking.form() {
            report = report.with_token(system, form, replies(run, asking, system)?);
        }
    }
    Ok(report)
}

fn replies(run: &SeedRun<'_>, asking: Asking, system: &str) -> Result<Vec<Reply>, PipelineError> {
    let rows: Vec<Answered> = read_jsonl(run.stage(&asking.stage(system)).join("answers.jsonl"))?;
    let replies = rows.into_iter().flat_map(|row| {
        let Answered { row: prompt_id, prompt, harmful, category, reference, answers } = row;
        answers.into_iter().map(move |response| Reply {
            prompt_id: prompt_id.clone(),
            exchange: Exchange { prompt: prompt.clone(), response, harmful },
            category: category.clone(),
            reference: reference.clone(),
        })
    });
    Ok(replies.collect())
}

/// The mean log-ratios of the last steps of a policy's training.
fn log_ratios(run: &SeedRun<'_>, policy: &str) -> Result<Option<KlByRole>, PipelineError> {
    let steps: Vec<serde_json::Value> = read_jsonl(run.stage("policies").join(policy).join("metrics.jsonl"))?;
    let last = &steps[steps.len().saturating_sub(LAST_STEPS)..];
    let mean = |name: &str| {
        let values: Option<Vec<f64>> = last.iter().map(|step| step[name].as_f64()).collect();
        values.filter(|v| !v.is_empty()).map(|v| v.iter().sum::<f64>() / v.len() as f64)
    };
    Ok(mean("kl/chosen").zip(mean("kl/rejected")).map(|(chosen, rejected)| KlByRole { chosen, rejected, toxic: mean("kl/toxic") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_with_their_stages_where_a_run_has_used_several() {
        let done = |devices: &[(&str, &str)]| -> String {
            let manifest = |(stage, device): &(&str, &str)| Manifest {
                stage: (*stage).to_owned(),
                code: String::new(),
                device: (*device).to_owned(),
                inputs: BTreeMap::new(),
                outputs: BTreeMap::new(),
                counts: serde_json::Value::Null,
            };
            super::devices(&devices.iter().map(manifest).collect::<Vec<_>>())
        };
        assert_eq!(done(&[("sft", "cpu"), ("sample", "cpu")]), "cpu");
        assert_eq!(done(&[("sft", "cuda:0"), ("sample", "cpu"), ("train", "cuda:0")]), "cpu (sample), cuda:0 (sft, train)");
    }
}
