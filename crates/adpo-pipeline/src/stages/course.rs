//! How much work the stages of a run are beside each other, for the time that is left of all of it.

use std::collections::BTreeMap;

use super::data_check::Checked;
use super::seed_run::SeedRun;
use super::stage::{DrawingLoad, Load, Stage};
use crate::recipe::{Recipe, Source};

/// A whole run on its way, over all seeds.
#[derive(Default)]
pub(crate) struct Course {
    /// Once the data are checked.
    rows: Option<BTreeMap<String, BTreeMap<u8, usize>>>,
    /// Stages of the seeds before this one, and of all.
    pub before: usize,
    pub all: usize,
    /// Units of work done and the seconds that they took: of training, of drawing.
    timed: [(f64, f64); 2],
}

impl Course {
    pub(super) fn is_checked(&self) -> bool {
        self.rows.is_some()
    }

    pub(super) fn checked(&mut self, Checked { rows, .. }: Checked) {
        self.rows = Some(rows);
    }

    pub(super) fn took(&mut self, stage: &dyn Stage, run: &SeedRun<'_>, seconds: f64) {
        if let Some((kind, units)) = self.units(stage, run.recipe) {
            let (done, so_far) = &mut self.timed[kind];
            *done += units;
            *so_far += seconds;
        }
    }

    /// The work of `later` stages, as a multiple of this one; 0 where it is not known.
    pub(super) fn rest<'a>(&self, stage: &dyn Stage, later: impl Iterator<Item = &'a dyn Stage>, run: &SeedRun<'_>) -> f64 {
        let later: f64 = later.filter_map(|stage| self.units(stage, run.recipe)).map(|(kind, units)| units * self.rate(kind)).sum();
        match self.units(stage, run.recipe) {
            Some((kind, units)) if units > 0.0 => later / (units * self.rate(kind)),
            _ => 0.0,
        }
    }

    /// Seconds for a unit: as measured, for a kind that was not measured yet as for the other one.
    fn rate(&self, kind: usize) -> f64 {
        let measured = |(units, seconds): (f64, f64)| (units > 0.0 && seconds > 0.0).then(|| seconds / units);
        measured(self.timed[kind]).or(measured(self.timed[1 - kind])).unwrap_or(1.0)
    }

    /// The kind of work and how much it is: tokens once forward through the model, roughly. Lengths are taken to be a part of the longest
    /// that the recipe allows; what is wrong with that is the same for all stages of a kind, and measured once one of them is done.
    fn units(&self, stage: &dyn Stage, recipe: &Recipe) -> Option<(usize, f64)> {
        let length = recipe.encoding.max_length as f64 / 2.0;
        let steps = |train: &adpo_train::TrainOptions, rows: f64| {
            let epochs = rows * train.num_train_epochs as f64;
            train.max_steps.map_or(epochs, |steps| (steps * train.examples_per_step()) as f64)
        };
        match stage.load() {
            Load::Light => None,
            // Backward costs twice as much as forward.
            Load::FineTuning(sft) => Some((0, steps(&sft.train, self.rows(&sft.sources)?) * length * 3.0)),
            Load::PreferenceTraining(section, _) => {
                let sources = recipe.sample.as_ref().map_or(&section.sources, |sample| &sample.sources);
                // The prompt with two or three responses, and the reference's forward.
                Some((0, steps(&section.train, self.rows(sources)?) * length * 2.0 * 4.0))
            }
            Load::Drawing(DrawingLoad { draw, sources, completions, at_most, .. }) => {
                let prompts = self.rows(sources)?.min(at_most.map_or(f64::INFINITY, |most| most as f64));
                Some((1, prompts * completions as f64 * draw.max_new_tokens as f64))
            }
        }
    }

    /// Rows that sources give.
    fn rows(&self, sources: &[Source]) -> Option<f64> {
        let files = self.rows.as_ref()?;
        let of = |source: &Source| {
            let buckets = files.get(source.name())?;
            let rows: usize = buckets.iter().filter(|(bucket, _)| source.takes_bucket(**bucket)).map(|(_, rows)| rows).sum();
            Some(source.limit.map_or(rows, |limit| limit.min(rows)) as f64)
        };
        sources.iter().map(of).sum()
    }
}
