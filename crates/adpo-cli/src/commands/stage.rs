use adpo_pipeline::{RunResult, StageKind, run_recipe};
use anyhow::Result;

use super::next;
use crate::args::StageArgs;
use crate::text;

pub(crate) fn run(args: &StageArgs, until: Option<StageKind>) -> Result<()> {
    let (recipe, run_dir) = super::recipe(args.recipe.as_deref(), args.run_dir.as_deref())?;
    let recipe = if args.seeds.is_empty() { recipe } else { recipe.with_seeds(args.seeds.clone())? };
    let resources = super::resources(args.data_dir.clone(), args.show, args.device.device)?;
    let result = run_recipe(&recipe, &resources, &run_dir, until)?;
    super::print(&match (&result, args.json) {
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
    log::info!("{}", next::told(&recipe, &run_dir, report, args.device.device));
    Ok(())
}
