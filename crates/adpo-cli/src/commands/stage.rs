use adpo_pipeline::{RunResult, StageKind, run_recipe};
use anyhow::Result;

use crate::args::StageArgs;

pub(crate) fn run(args: &StageArgs, until: Option<StageKind>) -> Result<()> {
    let (recipe, run_dir) = super::recipe(args.recipe.as_deref(), args.run_dir.as_deref())?;
    let recipe = if args.seeds.is_empty() { recipe } else { recipe.with_seeds(args.seeds.clone())? };
    let resources = super::resources(args.data_dir.clone(), args.show, args.device.device)?;
    let result = run_recipe(&recipe, &resources, &run_dir, until)?;
    let page = matches!(result, RunResult::Report(_)).then(|| run_dir.join("report.html"));
    super::print(&match (result, args.json) {
        (RunResult::Report(report), true) => serde_json::to_string_pretty(&report)?,
        (RunResult::Report(report), false) => report.markdown(),
        (RunResult::Stages(manifests), true) => serde_json::to_string_pretty(&manifests)?,
        (RunResult::Stages(manifests), false) => {
            manifests.iter().map(|manifest| format!("{}: {}", manifest.stage, manifest.counts)).collect::<Vec<_>>().join("\n")
        }
    })?;
    eprintln!("the run is in {}", run_dir.display());
    if let Some(page) = page {
        eprintln!("plots, curves and every response: open {} in a browser", page.display());
    }
    Ok(())
}
