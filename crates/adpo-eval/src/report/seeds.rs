//! Several training seeds: every seed shown, and from five on an interval over seeds and prompts together.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Report;
use super::instrument::{is_blind, model_bias};
use super::measure::{Measure, Outcomes};
use super::verdict::{Doubt, Evidence, Verdict, decide};
use crate::statistics::{Interval, bootstrap_crossed, holm, smallest_detectable, two_sided_p};

/// With fewer training seeds their spread is not known well enough for an interval.
const LEAST_SEEDS: usize = 5;

/// Draws of the crossed bootstrap.
const DRAWS: usize = 10_000;

/// The systems of one recipe over its training seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OverSeeds {
    /// The training seeds, in order.
    pub seeds: Vec<u64>,
    /// The system that the others are compared with.
    pub baseline: Option<String>,
    /// Each measure of each system.
    pub values: Vec<SeedValues>,
    /// Each measure of each system but the baseline, minus the baseline of the same seed.
    pub differences: Vec<SeedDifference>,
}

/// One measure of one system in every seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SeedValues {
    /// The system.
    pub system: String,
    /// The measure.
    pub measure: Measure,
    /// Prompts that have it in every seed.
    pub prompts: usize,
    /// The mean over these prompts, seed by seed.
    pub each: Vec<f64>,
    /// The mean of `each`.
    pub mean: f64,
    /// From five seeds on: bootstrap over seeds and prompts, crossed. None where all outcomes are alike.
    pub interval: Option<Interval>,
}

/// One measure of one system against the baseline in every seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SeedDifference {
    /// System minus baseline. The interval is that of the difference.
    pub values: SeedValues,
    /// Two-sided, by the normal approximation to the crossed bootstrap; from five seeds on.
    pub p: Option<f64>,
    /// Adjusted by Holm over all differences.
    pub p_holm: Option<f64>,
    /// The smallest difference found with a power of 80 % with as many seeds and prompts.
    pub smallest_detectable: Option<f64>,
    /// A difference is one only if the judge's bias between the two systems is below this.
    pub bias_allowed: Option<f64>,
    /// What follows; nothing below five seeds.
    pub verdict: Verdict,
    /// Why no direction is named.
    pub doubt: Option<Doubt>,
}

impl OverSeeds {
    /// Sums up the runs of one recipe: training seed, report, outcomes. All must have the systems of the first; what a
    /// later run lacks is left out. The first report's judge and bootstrap seed are used.
    pub fn new(runs: &[(u64, &Report, &Outcomes)]) -> Self {
        let seeds: Vec<u64> = runs.iter().map(|run| run.0).collect();
        let Some((_, first, outcomes)) = runs.first() else {
            return Self { seeds, baseline: None, values: Vec::new(), differences: Vec::new() };
        };
        let draw = first.seeds.get("bootstrap").copied().unwrap_or(0);
        let names: Vec<&str> = outcomes.systems.iter().map(|system| system.name.as_str()).collect();
        let all: Vec<&Outcomes> = runs.iter().map(|run| run.2).collect();
        let pairs = || names.iter().flat_map(|name| Measure::ALL.map(|measure| (*name, measure)));
        let values: Vec<SeedValues> = pairs().filter_map(|(name, measure)| over_prompts(&all, name, None, measure, draw)).collect();
        let against = |baseline: &str| {
            let others = pairs().filter(|(name, _)| *name != baseline);
            others.filter_map(|(name, measure)| over_prompts(&all, name, Some(baseline), measure, draw)).collect::<Vec<_>>()
        };
        let differences = first.baseline.as_deref().map(against).unwrap_or_default();
        Self { differences: judge_differences(differences, first, &values), seeds, baseline: first.baseline.clone(), values }
    }
}

/// One measure of a system, minus the baseline's if there is one, over the prompts that have it in every seed.
fn over_prompts(runs: &[&Outcomes], name: &str, baseline: Option<&str>, measure: Measure, draw: u64) -> Option<SeedValues> {
    let of = |run: &Outcomes, name: &str| run.systems.iter().find(|system| system.name == name)?.measures.get(&measure).cloned();
    let mut tables = Vec::new();
    for run in runs {
        let mut table = of(run, name)?;
        if let Some(baseline) = baseline {
            let theirs = of(run, baseline)?;
            table = table.into_iter().filter_map(|(id, value)| theirs.get(&id).map(|their| (id, value - their))).collect();
        }
        tables.push(table);
    }
    let mut common: BTreeSet<String> = tables.first()?.keys().cloned().collect();
    common.retain(|id| tables.iter().all(|table| table.contains_key(id)));
    let rows: Vec<Vec<f64>> = tables.iter().map(|table| common.iter().filter_map(|id| table.get(id).copied()).collect()).collect();
    if common.is_empty() {
        return None;
    }
    let each: Vec<f64> = rows.iter().map(|row| row.iter().sum::<f64>() / row.len() as f64).collect();
    let drawn = if rows.len() < LEAST_SEEDS { None } else { bootstrap_crossed(&rows, DRAWS, draw) };
    let interval = drawn.filter(|interval| interval.high > interval.low);
    let mean = each.iter().sum::<f64>() / each.len() as f64;
    Some(SeedValues { system: name.to_owned(), measure, prompts: common.len(), each, mean, interval })
}

fn judge_differences(differences: Vec<SeedValues>, report: &Report, values: &[SeedValues]) -> Vec<SeedDifference> {
    let ps: Vec<Option<f64>> = differences.iter().map(|d| d.interval.map(two_sided_p)).collect();
    let adjusted = holm(&ps.iter().map(|p| p.unwrap_or(1.0)).collect::<Vec<f64>>());
    let agreement = &report.judge.agreement;
    let judge = |((difference, p), p_holm): ((SeedValues, Option<f64>), f64)| {
        let measure = difference.measure;
        let rate = values.iter().find(|v| v.system == difference.system && v.measure == measure).map_or(0.0, |v| v.mean);
        let smallest = difference.interval.map(|interval| smallest_detectable(1.0, interval.standard_error().powi(2)));
        let verdict = difference.interval.map(|interval| {
            decide(&Evidence {
                difference: interval,
                p_holm,
                smallest_detectable: smallest,
                judge_is_blind: is_blind(measure, agreement),
                judge_bias: model_bias(measure, rate - difference.mean / 2.0, agreement).map(|measured| measured.bias),
            })
        });
        let unknown = if difference.each.len() < LEAST_SEEDS { Doubt::Seeds } else { Doubt::Test };
        let (verdict, doubt) = verdict.unwrap_or((Verdict::NotDistinguishable, Some(unknown)));
        let bias_allowed = difference.interval.and_then(|interval| interval.distance_from_zero());
        SeedDifference { p_holm: p.map(|_| p_holm), p, smallest_detectable: smallest, bias_allowed, verdict, doubt, values: difference }
    };
    differences.into_iter().zip(ps).zip(adjusted).map(judge).collect()
}
