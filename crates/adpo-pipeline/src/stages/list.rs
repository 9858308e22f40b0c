//! The stages that a run has, in their order.

use super::seed_run::SeedRun;
use super::stage::{Artifact, Stage};
use super::{annotate, compare, evaluate, preferences, sample, sft, train};

/// The stages of one kind that a run has.
type Kind = for<'a> fn(&'a SeedRun<'_>) -> Vec<Box<dyn Stage + 'a>>;

/// All kinds of stages.
const KINDS: [Kind; 7] =
    [sft::stages, sample::stages, annotate::stages, preferences::stages, train::stages, evaluate::stages, compare::stages];

/// The stages of a run, each behind all that it needs; otherwise in the order of [`KINDS`].
pub(crate) fn stages<'a>(run: &'a SeedRun<'_>) -> Vec<Box<dyn Stage + 'a>> {
    let mut open: Vec<Box<dyn Stage + 'a>> = KINDS.iter().flat_map(|kind| kind(run)).collect();
    let mut ordered: Vec<Box<dyn Stage + 'a>> = Vec::with_capacity(open.len());
    while !open.is_empty() {
        let is_made = |need: &Artifact| ordered.iter().any(|stage| stage.makes() == *need);
        // A need that no stage makes is an error when the stage runs; a recipe that was checked has none.
        let next = open.iter().position(|stage| stage.needs().iter().all(is_made)).unwrap_or(0);
        ordered.push(open.remove(next));
    }
    ordered
}
