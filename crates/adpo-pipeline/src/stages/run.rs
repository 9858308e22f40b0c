//! The stages of one seed, one after the other.

use std::time::Instant;

use super::course::Course;
use super::data_check::check;
use super::list::stages;
use super::seed_run::SeedRun;
use super::stage::{Artifact, Stage, StageKind};
use crate::PipelineError;
use crate::manifest::{Manifest, finished, make};

/// Runs the stages and returns their manifests; with `until`, the stages up to that kind. The data are checked before the first stage of
/// the course that is not finished.
pub(crate) fn run(run: &SeedRun<'_>, until: Option<StageKind>, course: &mut Course) -> Result<Vec<Manifest>, PipelineError> {
    check_lengths(run)?;
    check_adapters(run)?;
    let all = stages(run);
    if let Some(kind) = until.filter(|kind| all.iter().all(|stage| stage.kind() != *kind)) {
        let mut there: Vec<&str> = all.iter().map(|stage| stage.kind().name()).collect();
        there.dedup();
        return Err(run.refuse(format!("it has no stage `{}`; its stages are {}", kind.name(), there.join(", "))));
    }
    let stages: Vec<&dyn Stage> =
        all.iter().map(|stage| &**stage).filter(|stage| until.is_none_or(|until| stage.kind() <= until)).collect();
    let seeds = run.recipe.seeds.len();
    course.all = seeds * stages.len();
    let place = |number: usize, course: &Course| format!("[{}/{}]", course.before + number + 1, course.all);
    let (mut done, mut used_again) = (Vec::<(Artifact, Manifest)>::new(), Vec::new());
    for (number, stage) in stages.iter().copied().enumerate() {
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
            log::debug!("{} {name}: used again, since nothing changed that it was made from ({})", place(number, course), folder.display());
            used_again.push(name);
            manifest
        } else {
            tell(run, &mut used_again);
            if !course.is_checked() {
                let checked = check(run, &all)?;
                checked.notes.iter().for_each(|note| log::info!("note: {note}"));
                course.checked(checked);
            }
            let later = stages[number + 1..].iter().copied();
            let other_seeds = (seeds - 1).saturating_sub(course.before / stages.len());
            let others = (0..other_seeds).flat_map(|_| stages.iter().copied());
            run.rest.set(course.rest(stage, later.chain(others), run));
            log::info!("{} {name}", place(number, course));
            let (before, began): (Vec<Manifest>, _) = (done.iter().map(|(_, manifest)| manifest.clone()).collect(), Instant::now());
            let manifest = make(&name, &folder, inputs, &run.resources.device, |folder| stage.work(run, &before, folder))?;
            course.took(stage, run, began.elapsed().as_secs_f64());
            manifest
        };
        stage.tidy(&folder)?;
        done.push((stage.makes(), manifest));
    }
    tell(run, &mut used_again);
    course.before += stages.len();
    Ok(done.into_iter().map(|(_, manifest)| manifest).collect())
}

/// Says which stages are used again, those of one stretch together.
fn tell(run: &SeedRun<'_>, names: &mut Vec<String>) {
    if !names.is_empty() {
        log::info!("used again (seed {}): {}", run.seed, std::mem::take(names).join(", "));
    }
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
