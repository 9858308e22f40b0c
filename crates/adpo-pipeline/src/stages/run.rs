//! The stages of one seed, one after the other.

use super::data_check::check;
use super::list::stages;
use super::seed_run::SeedRun;
use super::stage::{Artifact, StageKind};
use crate::PipelineError;
use crate::manifest::{Manifest, finished, make};

/// Runs the stages and returns their manifests; with `until`, the stages up to that kind. With `with_check`, the data are checked before
/// the first stage that is not finished.
pub(crate) fn run(run: &SeedRun<'_>, until: Option<StageKind>, with_check: bool) -> Result<Vec<Manifest>, PipelineError> {
    check_lengths(run)?;
    check_adapters(run)?;
    let all = stages(run);
    if let Some(kind) = until.filter(|kind| all.iter().all(|stage| stage.kind() != *kind)) {
        let mut there: Vec<&str> = all.iter().map(|stage| stage.kind().name()).collect();
        there.dedup();
        return Err(run.refuse(format!("it has no stage `{}`; its stages are {}", kind.name(), there.join(", "))));
    }
    let (mut checked, mut done) = (!with_check, Vec::<(Artifact, Manifest)>::new());
    for (number, stage) in all.iter().enumerate().filter(|(_, stage)| until.is_none_or(|until| stage.kind() <= until)) {
        let (name, mut inputs) = (stage.name(), stage.inputs(run)?);
        for need in stage.needs() {
            let (_, made) = done
                .iter()
                .find(|(artifact, _)| *artifact == need)
                .ok_or_else(|| PipelineError::stage(&name, format!("nothing in this recipe makes what it needs ({need:?})")))?;
            inputs = inputs.hash(&made.stage, made.hash());
        }
        let folder = run.stage(&name);
        let manifest = if let Some(manifest) = finished(&folder, &inputs)? {
            manifest
        } else {
            if !std::mem::replace(&mut checked, true) {
                check(run, &all)?.iter().for_each(|note| eprintln!("note: {note}"));
            }
            eprintln!("[{}/{}] {name}", number + 1, all.len());
            let before: Vec<Manifest> = done.iter().map(|(_, manifest)| manifest.clone()).collect();
            make(&name, &folder, inputs, &run.resources.device, |folder| stage.work(run, &before, folder))?
        };
        done.push((stage.makes(), manifest));
    }
    Ok(done.into_iter().map(|(_, manifest)| manifest).collect())
}

/// Refuses lengths that the base cannot hold: found out at the first long prompt, they would cost what ran before it.
fn check_lengths(run: &SeedRun<'_>) -> Result<(), PipelineError> {
    let limit = run.resources.config(&run.recipe.base.checkpoint)?.max_position_embeddings;
    let longest = run.recipe.encoding.max_length;
    for (section, draw) in run.recipe.draws() {
        let needed = longest + draw.max_new_tokens;
        if needed > limit {
            return Err(run.refuse(format!(
                "`encoding.max_length` = {longest} and `{section}.draw.max_new_tokens` = {} make {needed} tokens, but the base has \
                 max_position_embeddings = {limit}; lower one of them",
                draw.max_new_tokens
            )));
        }
    }
    Ok(())
}

/// Refuses adapters that the base has no place for, before anything runs.
fn check_adapters(run: &SeedRun<'_>) -> Result<(), PipelineError> {
    let sft = run.recipe.sft.iter().flat_map(|sft| &sft.lora).map(|lora| ("sft.lora", lora));
    let preference = run.recipe.preference.iter().flat_map(|preference| &preference.lora).map(|lora| ("preference.lora", lora));
    for (section, lora) in sft.chain(preference) {
        let base = run.resources.config(&run.recipe.base.checkpoint)?;
        lora.check(&base).map_err(|error| run.refuse(format!("[{section}] {error}")))?;
    }
    Ok(())
}
