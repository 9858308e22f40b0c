use std::path::{Path, PathBuf};

use adpo_pipeline::{Recipe, Resources, RunResult, StageKind, run_recipe};
use anyhow::Result;

use super::next;
use crate::args::{RunOptions, StageArgs};
use crate::text;

pub(crate) fn run(args: &StageArgs, until: Option<StageKind>) -> Result<()> {
    let StageArgs { recipe, data_dir, run } = args;
    let (recipe, run_dir) = super::recipe(recipe.as_deref(), &run.set.overrides, run.run_dir.as_deref())?;
    let resources = resources(data_dir.clone(), run)?;
    run_and_print(&with_seeds(recipe, run)?, &resources, &run_dir, run, until)
}

pub(super) fn resources(data_dir: Option<PathBuf>, options: &RunOptions) -> Result<Resources> {
    let resources = super::resources(data_dir, options.show, options.device.device)?;
    Ok(Resources { tensorboard: options.tensorboard, ..resources })
}

/// The recipe for the seeds that the command line gives.
pub(super) fn with_seeds(recipe: Recipe, options: &RunOptions) -> Result<Recipe> {
    Ok(if options.seeds.is_empty() { recipe } else { recipe.with_seeds(options.seeds.clone())? })
}

pub(super) fn run_and_print(
    recipe: &Recipe,
    resources: &Resources,
    run_dir: &Path,
    options: &RunOptions,
    until: Option<StageKind>,
) -> Result<()> {
    let result = run_recipe(recipe, resources, run_dir, until)?;
    super::print(&match (&result, options.json) {
        (RunResult::Report(report), true) => serde_json::to_string_pretty(report)?,
        (RunResult::Report(report), false) => report.markdown(),
        (RunResult::Stages(manifests), true) => serde_json::to_string_pretty(manifests)?,
        (RunResult::Stages(manifests), false) => {
            manifests.iter().map(|manifest| text::of(&manifest.stage, &manifest.counts)).collect::<Vec<_>>().join("\n")
        }
    })?;
    let report = match &result {
        RunResult::Report(report) => Some(report.as_ref()),
        RunResult::Stages(_) => None,
    };
    log::info!("{}", next::told(recipe, run_dir, report, options.device.device));
    Ok(())
}
