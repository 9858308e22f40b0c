//! Training on data of one's own, without a recipe.

use std::path::{Path, PathBuf};

use adpo_model::{DeviceChoice, Dtype};
use adpo_pipeline::{Export, OwnData, Recipe, Strike, export};
use anyhow::{Context, Result, bail};

use super::stage;
use crate::args::{OwnDataArgs, RunOptions, TrainArgs};

pub(crate) fn train_by(args: &TrainArgs) -> Result<()> {
    let Some(objective) = &args.objective else {
        bail!("`--objective` is missing: give dpo for pairs, adpo for triples with a toxic response; `adpo train --help` lists all");
    };
    // TRL calls DPO's loss by its link.
    let objective = if objective == "sigmoid" { "dpo" } else { objective };
    train(&args.own, Some(objective), &args.stage.run)
}

/// Trains by an objective, or fine-tunes where there is none.
pub(crate) fn train(args: &OwnDataArgs, objective: Option<&str>, options: &RunOptions) -> Result<()> {
    let resources = stage::resources(None, options)?;
    let model = args.model.as_deref().context("`--model` is missing")?;
    let OwnDataArgs { data, eval, lora_r, .. } = args;
    let own = OwnData { model, objective, data, eval, lora_r: *lora_r, overrides: &options.set.overrides };
    let (recipe, text) = own.recipe(&resources)?;
    let recipe = stage::with_seeds(recipe, options)?;
    let run_dir = options.run_dir.clone().unwrap_or_else(|| Path::new("runs").join(&recipe.name));
    let trained = args.out.as_deref().map(|out| trained(&recipe, &run_dir, out)).transpose()?;
    log::info!("this amounts to the recipe\n\n{text}");
    if let Some(file) = &args.save_recipe {
        save(file, &text)?;
    }
    stage::run_and_print(&recipe, &resources, &run_dir, options, None)?;
    if let (Some(trained), Some(out)) = (&trained, &args.out) {
        let merge = lora_r.is_some();
        let resources = super::resources(None, false, DeviceChoice::Cpu)?;
        export(
            &Export {
                model: &trained.to_string_lossy(),
                merge,
                base: None,
                out,
                force: false,
                strike: Strike::Known,
                dtype: Dtype::Float32,
            },
            &resources,
        )?;
        log::info!("exported to {0}: `adpo chat {0}` talks to it", out.display());
    }
    Ok(())
}

/// Where the one model that is to be exported will be. Found out before hours of training.
fn trained(recipe: &Recipe, run_dir: &Path, out: &Path) -> Result<PathBuf> {
    let [seed] = recipe.seeds.as_slice() else { bail!("`--out` takes one model, and there are several seeds; export one of them later") };
    if out.read_dir().is_ok_and(|mut files| files.next().is_some()) {
        bail!("`--out`: {} is there and not empty; name another folder", out.display());
    }
    let stage = match recipe.policies.as_slice() {
        [] => "sft".to_owned(),
        [policy] => format!("policies/{}", policy.name),
        _ => bail!("`--out` takes one model, and a sweep makes several; export one of them later"),
    };
    Ok(run_dir.join(format!("seed-{seed}")).join(stage).join("model"))
}

fn save(file: &Path, text: &str) -> Result<()> {
    match std::fs::read_to_string(file) {
        Ok(there) if there != text => bail!("`--save-recipe`: {} is there with other text; name another file", file.display()),
        _ => std::fs::write(file, text).with_context(|| format!("writing {}", file.display())),
    }
}
