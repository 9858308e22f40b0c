//! Every system against the baseline, measure by measure, on the prompts that both answered.

use serde::{Deserialize, Serialize};

use super::build::DRAWS;
use super::instrument::{JudgeInfo, ModelBias, is_blind, model_bias};
use super::measure::{Measure, Outcomes, Settings, SystemOutcomes, majority};
use super::verdict::{Doubt, Evidence, Verdict, decide};
use crate::agreement::Agreement;
use crate::statistics::{Differences, Equivalence, Interval, bootstrap_mean, holm, mcnemar, sign_flip};

/// Differences up to two points count as none ("minimal impact").
const MARGIN: f64 = 0.02;

/// A system against the baseline on one measure, prompt by prompt.
///
/// Of a rate each prompt has one outcome: with several samples, whether more than half of the scored ones have it. Of a
/// mean each prompt has the mean over its scored samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Comparison {
    /// The system.
    pub system: String,
    /// The measure.
    pub measure: Measure,
    /// Prompts that both answered with a score.
    pub pairs: usize,
    /// The system's share of yes, or mean, over these prompts.
    pub value: f64,
    /// The baseline's.
    pub baseline_value: f64,
    /// System minus baseline, with its 95 % interval: Bonett & Price (2012) for rates, else bootstrap over prompts.
    pub difference: Interval,
    /// How p was computed.
    pub test: PairedTest,
    /// Two-sided p-value.
    pub p: f64,
    /// Adjusted by Holm over all comparisons of the report.
    pub p_holm: f64,
    /// The smallest difference that a test at 5 % finds with a power of 80 % among pairs like these; none where not even
    /// all pairs would do.
    pub smallest_detectable: Option<f64>,
    /// Whether a difference of more than two points can be ruled out.
    pub equivalence: Equivalence,
    /// A difference is one only if the judge's bias between the two systems is below this; none where the interval
    /// includes zero.
    pub bias_allowed: Option<f64>,
    /// The judge's bias between two models, where its agreement figures show one.
    pub bias_measured: Option<ModelBias>,
    /// What follows.
    pub verdict: Verdict,
    /// Why no direction is named.
    pub doubt: Option<Doubt>,
}

/// A test on pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "name")]
pub enum PairedTest {
    /// Exact McNemar.
    Mcnemar {
        /// Prompts that are yes in the system alone.
        only_system: usize,
        /// Prompts that are yes in the baseline alone.
        only_baseline: usize,
    },
    /// Sign-flip permutation.
    SignFlip {
        /// Whether all sign patterns were tried.
        exact: bool,
    },
}

impl Outcomes {
    /// Tests every system against the one called `baseline`, as a report does, on the prompts that both answered; nothing where no system has
    /// that name. `judge` made the outcomes; `seed` draws bootstrap intervals and permutations.
    pub fn comparisons(&self, baseline: &str, judge: &JudgeInfo, seed: u64) -> Vec<Comparison> {
        comparisons(self, baseline, &judge.agreement, &Settings { taus: judge.thresholds, draws: DRAWS, seed })
    }
}

/// All comparisons with the system called `baseline`.
pub(super) fn comparisons(outcomes: &Outcomes, baseline: &str, agreement: &[Agreement], settings: &Settings) -> Vec<Comparison> {
    let Some(reference) = outcomes.systems.iter().find(|system| system.name == baseline) else {
        return Vec::new();
    };
    let others = outcomes.systems.iter().filter(|system| system.name != baseline);
    let all = others.flat_map(|system| Measure::ALL.map(|measure| compare(system, reference, measure, agreement, settings)));
    let mut out: Vec<Comparison> = all.flatten().collect();
    let adjusted = holm(&out.iter().map(|comparison| comparison.p).collect::<Vec<f64>>());
    for (comparison, p) in out.iter_mut().zip(adjusted) {
        comparison.p_holm = p;
        (comparison.verdict, comparison.doubt) = decide(&Evidence {
            difference: comparison.difference,
            p_holm: p,
            smallest_detectable: comparison.smallest_detectable,
            judge_is_blind: is_blind(comparison.measure, agreement),
            judge_bias: comparison.bias_measured.as_ref().map(|measured| measured.bias),
        });
    }
    out
}

/// Everything but what depends on the other comparisons; `None` without a pair.
fn compare(
    system: &SystemOutcomes,
    baseline: &SystemOutcomes,
    measure: Measure,
    agreement: &[Agreement],
    settings: &Settings,
) -> Option<Comparison> {
    let outcome = |mean: f64| if measure.is_rate() { f64::from(u8::from(majority(mean))) } else { mean };
    let theirs = baseline.measures.get(&measure)?;
    let pairs: Vec<(f64, f64)> =
        system.measure(measure).filter_map(|(id, here)| Some((outcome(here), outcome(*theirs.get(id)?)))).collect();
    if pairs.is_empty() {
        return None;
    }
    let mean = |side: fn(&(f64, f64)) -> f64| pairs.iter().map(side).sum::<f64>() / pairs.len() as f64;
    let (value, baseline_value) = (mean(|pair| pair.0), mean(|pair| pair.1));
    let moved: Vec<f64> = pairs.iter().map(|pair| pair.0 - pair.1).collect();
    let summary = Differences::of(&moved);
    let (difference, test, p) = if measure.is_rate() {
        let only = |sign: f64| moved.iter().filter(|d| **d == sign).count();
        let test = mcnemar(only(1.0), only(-1.0));
        let counts = PairedTest::Mcnemar { only_system: test.only_first, only_baseline: test.only_second };
        (summary.interval(0.95), counts, test.p)
    } else {
        let test = sign_flip(&moved, settings.draws, settings.seed);
        // Where no pair differs a bootstrap sees no spread at all.
        let drawn = bootstrap_mean(&moved, settings.draws, settings.seed);
        let interval = if summary.differing == 0 { summary.interval(0.95) } else { drawn };
        (interval, PairedTest::SignFlip { exact: test.exact }, test.p)
    };
    Some(Comparison {
        system: system.name.clone(),
        measure,
        pairs: pairs.len(),
        value,
        baseline_value,
        difference,
        test,
        p,
        p_holm: 1.0,
        smallest_detectable: summary.smallest_detectable(),
        equivalence: summary.equivalence(MARGIN),
        bias_allowed: difference.distance_from_zero(),
        bias_measured: model_bias(measure, f64::midpoint(value, baseline_value), agreement),
        verdict: Verdict::NotDistinguishable,
        doubt: Some(Doubt::Test),
    })
}
