//! The report of a run: one report per seed, and over several seeds their means with every seed shown.

use std::fmt::Write;

use adpo_eval::{Report, SystemReport};
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
    /// One report per seed, in the recipe's order.
    pub seeds: Vec<SeedReport>,
}

/// A column of the table over seeds: its head, and the value of one system in one seed, in per cent.
type Column = (&'static str, fn(&SystemReport) -> Option<f64>);

const COLUMNS: [Column; 6] = [
    ("toxic", |s| Some(100.0 * s.toxicity.rate.share.estimate)),
    ("evasive (safe)", |s| s.evasive_safe.as_ref().map(|e| 100.0 * e.rate.share.estimate)),
    ("evasive (harmful)", |s| s.evasive_harmful.as_ref().map(|e| 100.0 * e.rate.share.estimate)),
    ("coherence", |s| Some(100.0 * s.coherence.estimate)),
    ("degenerate", |s| Some(100.0 * s.degenerate.share.estimate)),
    ("helpful (safe)", |s| s.helpfulness.as_ref().map(|h| 100.0 * h.estimate)),
];

impl RunReport {
    /// Markdown for people; harmful text is in it only if the reports were built to show it.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        if self.seeds.len() > 1 {
            text += &self.over_seeds();
        }
        for seed in &self.seeds {
            text += &seed.report.markdown();
            text.push('\n');
        }
        text
    }

    /// Means over seeds, each seed's value beside them. Seeds are few, so no interval is computed from them.
    fn over_seeds(&self) -> String {
        let mut text = format!(
            "# {}: {} seeds\n\nPer cent; the mean over seeds, then each seed. Intervals and tests are in the reports of the seeds below.\n\n",
            self.recipe,
            self.seeds.len()
        );
        text += "| system |";
        for (head, _) in COLUMNS {
            let _ = write!(text, " {head} |");
        }
        text += "\n|---|";
        text += &"---|".repeat(COLUMNS.len());
        text.push('\n');
        let names = self.seeds.first().into_iter().flat_map(|seed| seed.report.systems.iter().map(|s| s.name.clone()));
        for name in names {
            let _ = write!(text, "| {name} |");
            for (_, value) in COLUMNS {
                let values: Vec<Option<f64>> =
                    self.seeds.iter().map(|seed| seed.report.systems.iter().find(|s| s.name == name).and_then(value)).collect();
                let known: Vec<f64> = values.into_iter().flatten().collect();
                if known.is_empty() {
                    text += " – |";
                    continue;
                }
                let mean = known.iter().sum::<f64>() / known.len() as f64;
                let each: Vec<String> = known.iter().map(|v| format!("{v:.1}")).collect();
                let _ = write!(text, " {mean:.1} ({}) |", each.join(", "));
            }
            text.push('\n');
        }
        text + "\n"
    }
}
