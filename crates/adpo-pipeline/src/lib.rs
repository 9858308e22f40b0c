#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod bench;
mod chat;
mod corpus;
mod diff;
mod draw;
mod endpoints;
mod error;
mod export;
mod fluency;
mod hub;
mod judge_choice;
mod judging;
mod llama_chat;
mod lock;
mod lora;
mod manifest;
mod minilm;
mod own_data;
mod page;
mod place;
mod plan;
mod pretrain;
mod recipe;
mod report;
mod resources;
mod runs;
mod sampler;
#[cfg(feature = "serve")]
mod serve;
mod speaker;
mod spill;
mod stages;

use std::path::Path;

pub use bench::{
    BenchObjective, BenchShape, KernelBench, KernelFigures, LoadFigures, RowsBench, RowsFigures, SampleBench, SampleFigures, StepBench,
    StepFigures, bench_kernels, bench_load, bench_rows, bench_sample, bench_step,
};
pub use chat::{Chat, ChatOptions, ChatResponse};
pub use diff::{Flip, FlipTexts, RunDiff, diff_runs};
pub use draw::Draw;
pub use error::PipelineError;
pub use export::{Export, Exported, Strike, export};
pub use fluency::LlamaFluency;
pub use judge_choice::JudgeChoice;
pub use llama_chat::LlamaChat;
pub use lora::Lora;
pub use manifest::Manifest;
pub use minilm::MiniLm;
pub use own_data::OwnData;
pub use plan::{
    Compute, Counts, FORMULA, Knob, MemoryItem, Plan, PlanOptions, ReferenceMemory, SampleMemory, SamplingPlan, StepMemory, TrainingPlan,
    plan,
};
pub use pretrain::{BaseData, BaseEvaluation, BaseRecipe, BaseShape, BaseTokenizer, pretrain};
pub use recipe::{
    Annotate, Base, Control, Encoding, Evaluate, Override, Pairs, Policy, Preference, Recipe, ReferenceChoice, Rule, Sample, Sft, Source,
};
pub use report::{RunReport, SeedReport};
pub use resources::{EmbeddedCheckpoint, Resources};
pub use runs::{RunState, RunSummary, Runs, ToxicShare, list_runs};
#[cfg(feature = "serve")]
pub use serve::{ApiKey, ServeOptions, serve};
pub use stages::StageKind;

use stages::SeedRun;

/// The result of a run.
#[derive(Debug)]
pub enum RunResult {
    /// The manifests of all stages done, seed by seed.
    Stages(Vec<Manifest>),
    /// The report at the end.
    Report(Box<RunReport>),
}

/// Runs the stages that a recipe asks for, in `folder` and for every seed: all of them, or up to and including those of the kind `until`.
///
/// Before the first stage that is not finished, all of the recipe is held against its data.
///
/// # Errors
/// [`PipelineError`] from the stage that failed, for a recipe that its data do not fit, or if somebody else is at work in the folder. What
/// was finished stays, and the same call goes on from there.
pub fn run_recipe(recipe: &Recipe, resources: &Resources, folder: &Path, until: Option<StageKind>) -> Result<RunResult, PipelineError> {
    let _lock = lock::take(folder)?;
    let resolved = toml::to_string(recipe).map_err(|e| PipelineError::file(&folder.join("recipe.toml"), e))?;
    manifest::write_changed(&folder.join("recipe.toml"), &resolved)?;
    let (mut manifests, mut reports, mut shown, mut seeds) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // All seeds have the same data.
    let mut course = stages::Course::default();
    for seed in &recipe.seeds {
        let run = SeedRun::new(recipe, resources, *seed, folder)?;
        let done = stages::run(&run, until, &mut course)?;
        if recipe.evaluate.is_some() && until.is_none_or(|until| until == StageKind::Compare) {
            let (report, outcomes) = stages::seed_report(&run)?;
            if resources.show_harmful {
                shown.push((stages::shown_report(&run, &done)?, outcomes.clone()));
            }
            reports.push((report, outcomes));
            seeds.push(page::SeedRows::read(&run)?);
        }
        manifests.extend(done);
    }
    if reports.is_empty() {
        return Ok(RunResult::Stages(manifests));
    }
    let report = RunReport::new(recipe.name.clone(), reports);
    manifest::write_json(&folder.join("report.json"), &report)?;
    manifest::write_changed(&folder.join("report.md"), &report.markdown())?;
    manifest::write_changed(&folder.join("report.html"), &page::html(&report, &seeds)?)?;
    let report = if shown.is_empty() { report } else { RunReport::new(recipe.name.clone(), shown) };
    Ok(RunResult::Report(Box::new(report)))
}
