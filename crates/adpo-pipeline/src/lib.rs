//! The whole method, from raw dialogues to a report: recipes, run folders, and the stages between them.
//!
//! A **recipe** says what to do, a **run folder** holds what was done: one folder per seed and stage, each with a
//! manifest of content hashes. A finished stage is not run again, a killed one goes on where it was.
//!
//! ```no_run
//! use adpo_pipeline::{Outcome, Recipe, Resources, Stage, default_device, run_recipe};
//!
//! let recipe = Recipe::from_file("recipes/hh-tiny.toml".as_ref())?;
//! let resources = Resources { tiny_base: None, dialogues: None, data_dir: Some("data".into()), device: default_device(), show_harmful: false, commit: None };
//! if let Outcome::Report(report) = run_recipe(&recipe, &resources, "runs/mine".as_ref(), Stage::Compare)? {
//!     println!("{}", report.markdown());
//! }
//! # Ok::<(), adpo_pipeline::PipelineError>(())
//! ```
#![warn(missing_docs)]

mod answers;
mod bench;
mod corpus;
mod endpoints;
mod error;
mod export;
mod fluency;
mod judge_choice;
mod llama_chat;
mod lora;
mod plan;
mod pretrain;
mod recipe;
mod report;
mod resources;
mod spill;
mod stage;
mod stages;

use std::path::Path;

use burn::tensor::Device;

pub use bench::{
    BENCH_SHAPES, BenchDtype, BenchObjective, BenchShape, KernelBench, KernelFigures, LoadFigures, RowsBench, RowsFigures, SampleBench,
    SampleFigures, StepBench, StepFigures, bench_kernels, bench_load, bench_rows, bench_sample, bench_step,
};
pub use error::PipelineError;
pub use export::{Export, Exported, export};
pub use fluency::LlamaFluency;
pub use judge_choice::JudgeChoice;
pub use llama_chat::LlamaChat;
pub use lora::Lora;
pub use plan::{
    Compute, Counts, FORMULA, Knob, MemoryItem, Plan, PlanOptions, ReferenceMemory, SampleMemory, SamplingPlan, StepMemory, TrainingPlan,
    plan,
};
pub use pretrain::{BaseData, BaseEvaluation, BaseRecipe, BaseShape, BaseTokenizer, pretrain};
pub use recipe::{
    Annotate, Base, Control, Draw, Encoding, Evaluate, Pairs, Policy, Preference, Recipe, ReferenceChoice, Rule, Sample, Sft, Source,
};
pub use report::{RunReport, SeedReport};
pub use resources::{EmbeddedCheckpoint, Resources};
pub use stage::Manifest;
pub use stages::{Answered, Candidates, Stage};

use stages::SeedRun;

/// What a run gives.
#[derive(Debug)]
pub enum Outcome {
    /// The manifests of all stages done, seed by seed.
    Stages(Vec<Manifest>),
    /// The report at the end.
    Report(Box<RunReport>),
}

/// Runs a recipe in `folder` up to and including `last`, for every seed.
///
/// # Errors
/// [`PipelineError`] from the stage that failed. What was finished stays, and the same call goes on from there.
pub fn run_recipe(recipe: &Recipe, resources: &Resources, folder: &Path, last: Stage) -> Result<Outcome, PipelineError> {
    std::fs::create_dir_all(folder).map_err(PipelineError::io(folder))?;
    let resolved = toml::to_string(recipe).map_err(|e| PipelineError::file(&folder.join("recipe.toml"), e))?;
    adpo_data::write_file(folder.join("recipe.toml"), &resolved)?;
    let mut manifests = Vec::new();
    let mut reports = Vec::new();
    for seed in &recipe.seeds {
        let run = SeedRun { recipe, resources, seed: *seed, folder: folder.join(format!("seed-{seed}")) };
        let done = run.run(last)?;
        if last == Stage::Compare {
            reports.push(stages::compare(&run, &done)?);
        }
        manifests.extend(done);
    }
    if last < Stage::Compare {
        return Ok(Outcome::Stages(manifests));
    }
    let report = RunReport::new(recipe.name.clone(), reports);
    stage::write_json(&folder.join("report.json"), &report)?;
    adpo_data::write_file(folder.join("report.md"), report.markdown())?;
    Ok(Outcome::Report(Box::new(report)))
}

/// The CPU back end (Flex), which is always there.
pub fn default_device() -> Device {
    Device::flex()
}
