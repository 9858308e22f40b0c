use adpo_pipeline::{Outcome, Stage, run_recipe};
use anyhow::Result;

use crate::args::StageArgs;

pub(crate) fn run(args: &StageArgs, last: Stage) -> Result<()> {
    let (recipe, run_dir) = super::recipe(args.recipe.as_deref(), args.run_dir.as_deref())?;
    let recipe = if args.seeds.is_empty() { recipe } else { recipe.with_seeds(args.seeds.clone())? };
    let resources = super::resources(args.data_dir.clone(), args.show, args.device.device)?;
    let outcome = run_recipe(&recipe, &resources, &run_dir, last)?;
    super::print(&match (outcome, args.json) {
        (Outcome::Report(report), true) => serde_json::to_string_pretty(&report)?,
        (Outcome::Report(report), false) => report.markdown(),
        (Outcome::Stages(manifests), true) => serde_json::to_string_pretty(&manifests)?,
        (Outcome::Stages(manifests), false) => {
            manifests.iter().map(|manifest| format!("{}: {}", manifest.stage, manifest.counts)).collect::<Vec<_>>().join("\n")
        }
    })?;
    eprintln!("the run is in {}", run_dir.display());
    Ok(())
}
