//! The report of a run: one report per seed, and over several seeds every seed side by side.

use adpo_eval::{Outcomes, OverSeeds, Report};
use serde::{Deserialize, Serialize};

/// A seed's report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedReport {
    /// The seed.
    pub seed: u64,
    /// Its report.
    pub report: Report,
}

/// The report of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The recipe's name.
    pub recipe: String,
    /// All seeds together, if there are several.
    pub over_seeds: Option<OverSeeds>,
    /// One report per seed, in the recipe's order.
    pub seeds: Vec<SeedReport>,
}

impl RunReport {
    pub(crate) fn new(recipe: String, runs: Vec<(SeedReport, Outcomes)>) -> Self {
        let over: Vec<_> = runs.iter().map(|(seed, outcomes)| (seed.seed, &seed.report, outcomes)).collect();
        let over_seeds = (over.len() > 1).then(|| OverSeeds::new(&over));
        Self { recipe, over_seeds, seeds: runs.into_iter().map(|(seed, _)| seed).collect() }
    }

    /// Markdown for people: the seeds side by side if there are several, and the report of the first. Harmful text is in it only if
    /// the reports were built to show it.
    pub fn markdown(&self) -> String {
        let Some((first, others)) = self.seeds.split_first() else { return String::new() };
        let report = first.report.markdown();
        let Some(over) = &self.over_seeds else { return report };
        let others: Vec<String> = others.iter().map(|seed| format!("`seed-{}/report/report.md`", seed.seed)).collect();
        format!(
            "# {}: {} seeds\n\n{}The report of seed {} follows; the others are in {}.\n\n{report}",
            self.recipe,
            self.seeds.len(),
            over.markdown(),
            first.seed,
            others.join(", ")
        )
    }
}
