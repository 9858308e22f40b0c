//! Stage 6: all systems side by side in one report.

use std::collections::BTreeMap;
use std::path::Path;

use adpo_data::{read_jsonl, write_file, write_jsonl};
use adpo_eval::{
    EmbeddedJudge, Evaluation, Judge, KlByRole, Outcomes, Report, ReportBuilder, Responder, Response, SCHEMA, TokenForm, read_responses,
};

use super::asking;
use super::evaluate::{PolicyKl, RESPONSES, ways};
use super::seed_run::SeedRun;
use super::stage::{Artifact, Stage, StageKind};
use crate::PipelineError;
use crate::fluency::LlamaFluency;
use crate::judging::still_there;
use crate::manifest::{Inputs, Made, Manifest, read_json, write_json};
use crate::recipe::Evaluate;
use crate::report::SeedReport;

/// Steps at the end of training that a log-ratio is averaged over.
const LAST_STEPS: usize = 10;

/// Most toxic responses listed for each system.
const WORST_CASES: usize = 3;

/// The stage's folder.
pub(crate) const REPORT: &str = "report";

/// Every response with its scores.
pub(crate) const SAMPLES: &str = "samples.jsonl";

/// What it makes. A folder of an earlier build that lacks one of them is made again.
const FILES: [&str; 4] = ["report.json", "report.md", "outcomes.json", SAMPLES];

pub(super) fn stages<'a>(run: &'a SeedRun<'_>) -> Vec<Box<dyn Stage + 'a>> {
    comparing(run).map(|comparing| -> Box<dyn Stage> { Box::new(comparing) }).into_iter().collect()
}

fn comparing<'a>(run: &'a SeedRun<'_>) -> Option<Comparing<'a>> {
    let section = run.recipe.evaluate.as_ref()?;
    let start = std::iter::once(run.recipe.start_system());
    let systems: Vec<&str> = start.chain(run.recipe.policies.iter().map(|policy| policy.name.as_str())).collect();
    let asked = |system: &&'a str| {
        let system = *system;
        ways(run, section, system).map(move |way| (system, way))
    };
    let asked = systems.iter().flat_map(asked).collect();
    Some(Comparing { section, systems, asked })
}

struct Comparing<'a> {
    section: &'a Evaluate,
    /// The starting model, then the policies.
    systems: Vec<&'a str>,
    /// Each system in each way that it was asked.
    asked: Vec<(&'a str, Option<TokenForm>)>,
}

impl Stage for Comparing<'_> {
    fn kind(&self) -> StageKind {
        StageKind::Compare
    }

    fn name(&self) -> String {
        REPORT.to_owned()
    }

    fn makes(&self) -> Artifact {
        Artifact::Report
    }

    fn needs(&self) -> Vec<Artifact> {
        let policies = self.systems[1..].iter().map(|policy| Artifact::Policy((*policy).to_owned()));
        policies.chain(self.asked.iter().map(|(system, way)| Artifact::Responses((*system).to_owned(), *way))).collect()
    }

    fn inputs(&self, run: &SeedRun<'_>) -> Result<Inputs, PipelineError> {
        let inputs = Inputs::new()
            .hash("judge", self.section.judge.fingerprint(run.resources, EmbeddedJudge::evaluator)?)
            .hash("annotator", run.annotator_fingerprint()?)
            .value("schema", &SCHEMA)
            .value("files", &FILES);
        let inputs = match &self.section.fluency {
            Some(fluency) => inputs.hash("fluency", run.resources.checkpoint_hash(fluency)?),
            None => inputs,
        };
        Ok(match &self.section.second_judge {
            Some(second) => inputs.hash("second_judge", second.fingerprint(run.resources, EmbeddedJudge::evaluator)?),
            None => inputs,
        })
    }

    fn work(&self, run: &SeedRun<'_>, done: &[Manifest], folder: &Path) -> Result<Made, PipelineError> {
        let evaluator = run.judge(&self.section.judge, EmbeddedJudge::evaluator)?;
        let Evaluation { report, outcomes, samples } = self.build(run, done, evaluator.as_ref(), false)?;
        still_there("compare", evaluator.as_ref())?;
        write_file(folder.join("report.json"), &(report.json()? + "\n"))?;
        write_file(folder.join("report.md"), report.markdown())?;
        write_json(&folder.join("outcomes.json"), &outcomes)?;
        write_jsonl(folder.join(SAMPLES), &samples)?;
        let counts = serde_json::json!({"systems": report.systems.len(), "warnings": evaluator.warnings()});
        Ok(Made { outputs: FILES.to_vec(), counts })
    }
}

/// A finished seed's report, and the outcomes of each prompt that it rests on.
pub(crate) fn seed_report(run: &SeedRun<'_>) -> Result<(SeedReport, Outcomes), PipelineError> {
    let folder = run.stage(REPORT);
    let path = folder.join("report.json");
    let report = dated(read_json(&path)?, &path)?;
    Ok((SeedReport { seed: run.seed, report }, read_json(&folder.join("outcomes.json"))?))
}

/// The same report with the text of its worst cases, which is harmful: made anew each time, and never written.
pub(crate) fn shown_report(run: &SeedRun<'_>, done: &[Manifest]) -> Result<SeedReport, PipelineError> {
    let path = run.stage(REPORT).join("report.json");
    let mut report: Report = read_json(&path)?;
    if let Some(comparing) = comparing(run) {
        let evaluator = run.judge(&comparing.section.judge, EmbeddedJudge::evaluator)?;
        let before: Vec<Manifest> = done.iter().filter(|manifest| manifest.stage != REPORT).cloned().collect();
        let Evaluation { report: shown, .. } = comparing.build(run, &before, evaluator.as_ref(), true)?;
        still_there("compare", evaluator.as_ref())?;
        report = shown;
    }
    Ok(SeedReport { seed: run.seed, report: dated(report, &path)? })
}

fn dated(mut report: Report, path: &Path) -> Result<Report, PipelineError> {
    // When the stage was done, and not a part of it: two runs of one recipe leave the same files.
    let made = std::fs::metadata(path).and_then(|file| file.modified()).map_err(PipelineError::io(path))?;
    report.environment.insert("time".to_owned(), httpdate::fmt_http_date(made));
    Ok(report)
}

impl Comparing<'_> {
    fn build(&self, run: &SeedRun<'_>, done: &[Manifest], evaluator: &dyn Judge, show: bool) -> Result<Evaluation, PipelineError> {
        // The annotator is in the report only if it made the triples.
        let annotator = run.recipe.sample.as_ref().map(|_| run.annotator()).transpose()?;
        let second = self.section.second_judge.as_ref().map(|choice| run.judge(choice, EmbeddedJudge::evaluator)).transpose()?;
        let fluency = self.section.fluency.as_deref().map(|folder| LlamaFluency::load(run.resources, folder)).transpose()?;
        let mut report = ReportBuilder::new(format!("{}, seed {}", run.recipe.name, run.seed))
            .worst(WORST_CASES, show)
            .seed("run", run.seed)
            .seed("bootstrap", run.stream("bootstrap"))
            .environment("version", env!("CARGO_PKG_VERSION"))
            .environment("weights", weights(run)?)
            .environment("temperature", temperature(self.section))
            .environment("device", devices(done));
        if self.systems.len() > 1 {
            report = report.baseline(self.systems[0]);
        }
        if let Some(annotator) = &annotator {
            report = report.annotator(annotator.as_ref());
        }
        if let Some(second) = &second {
            report = report.second_judge(second.as_ref());
        }
        if let Some(commit) = run.resources.commit {
            report = report.environment("commit", commit);
        }
        if let Some(fluency) = &fluency {
            report = report.fluency(fluency);
        }
        for (system, way) in &self.asked {
            let responses = responses(run, system, *way)?;
            report = match way {
                None => report.system(*system, responses),
                Some(form) => report.with_token(*system, *form, responses),
            };
        }
        for policy in &self.systems[1..] {
            let PolicyKl { kl_policy, .. } = read_json(&run.stage(&asking::folder(policy, None)).join("kl.json"))?;
            report = report.kl_policy(*policy, kl_policy);
            if let Some(kl) = log_ratios(run, policy)? {
                report = report.kl(*policy, kl);
            }
        }
        for manifest in done.iter().filter(|m| m.stage == "annotate") {
            let dropped = manifest.counts["counts"]["dropped"].as_object();
            for (reason, count) in dropped.into_iter().flatten() {
                report = report.dropped(format!("annotate: {reason}"), count.as_u64().unwrap_or(0) as usize);
            }
        }
        let evaluation = report.evaluate(evaluator)?;
        if let Some(second) = &second {
            still_there("compare", second.as_ref())?;
        }
        Ok(evaluation)
    }
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

fn responses(run: &SeedRun<'_>, system: &str, way: Option<TokenForm>) -> Result<Vec<Response>, PipelineError> {
    let read = read_responses(&[run.stage(&asking::folder(system, way)).join(RESPONSES)])?;
    Ok(read.of(&Responder { model: system.to_owned(), control_token: way }).to_vec())
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
