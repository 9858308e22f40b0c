//! What the judge's own errors and its training do to the numbers of a report.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::measure::Measure;
use super::system::SystemReport;
use crate::agreement::Agreement;
use crate::embedded::weights::row_hash;
use crate::judge::{Judge, Thresholds, shared_rows};
use crate::response::Response;
use crate::statistics::{Interval, rogan_gladen};

/// Who judged, and how far to trust it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct JudgeInfo {
    /// The judge's name.
    pub name: String,
    /// Hash of its weights or rubric.
    pub fingerprint: String,
    /// From which scores on it says yes.
    pub thresholds: Thresholds,
    /// Its measured agreement with labels.
    pub agreement: Vec<Agreement>,
}

impl JudgeInfo {
    pub(super) fn of(judge: &dyn Judge) -> Self {
        Self { name: judge.name(), fingerprint: judge.fingerprint(), thresholds: judge.thresholds(), agreement: judge.agreement() }
    }
}

/// A rate with the judge's errors taken out ([`rogan_gladen`]), as if these errors carried over to the evaluated responses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CorrectedRate {
    /// Which rate.
    pub measure: Measure,
    /// The labelled set on which the errors were measured.
    pub data: String,
    /// The share of yes that the judge found there.
    pub sensitivity: f64,
    /// The share of no that it left alone.
    pub specificity: f64,
    /// The corrected rate; none where sensitivity and specificity sum to 1 or less.
    pub rate: Option<Interval>,
}

/// The judge's bias between two models, as far as its agreement figures show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ModelBias {
    /// The labelled set whose responses are by several models.
    pub data: String,
    /// The largest difference between two models' apparent rates, were their true rates both that of the comparison.
    pub bias: f64,
}

/// Labelled sets with fewer rows say too little about sensitivity and specificity.
const LEAST_ROWS: usize = 100;

/// Why annotator and evaluator are not independent, if they are not.
pub(super) fn circular(annotator: &dyn Judge, judge: &dyn Judge) -> Option<String> {
    let shared = shared_rows(annotator, judge);
    (shared > 0).then(|| {
        format!(
            "the annotator ({}) and the evaluator ({}) share {shared} training rows or their weights: \
             the policies were chosen by what grades them",
            annotator.name(),
            judge.name()
        )
    })
}

/// How many prompts the judge was trained on: by their first user turn, as rows are split, or by their last.
pub(super) fn seen_prompts<'a>(judge: &dyn Judge, responses: impl Iterator<Item = &'a Response>) -> usize {
    let rows = judge.training_rows();
    let is_known = |text: &str| rows.binary_search(&row_hash(text)).is_ok();
    let seen = responses.filter(|response| {
        let prompt = &response.prompt.value.dialogue;
        is_known(prompt.split_key()) || prompt.last_user().is_some_and(is_known)
    });
    seen.map(Response::prompt_id).collect::<HashSet<_>>().len()
}

/// The labelled sets of one verdict of the judge that are large enough to say something, without slices of such sets
/// (figures named `set, slice`).
pub(super) fn sets<'a>(agreement: &'a [Agreement], verdict: &'a str) -> impl Iterator<Item = &'a Agreement> {
    let large = move || agreement.iter().filter(move |figure| figure.measure == verdict && figure.rows >= LEAST_ROWS);
    let is_slice = move |figure: &Agreement| {
        let set = figure.data.split_once(", ").map(|(set, _)| set);
        set.is_some_and(|set| large().any(|other| other.data == set))
    };
    large().filter(move |figure| !is_slice(figure))
}

/// The rates of a system, corrected once for each labelled set.
pub(super) fn corrected(system: &SystemReport, agreement: &[Agreement]) -> Vec<CorrectedRate> {
    let rates = [
        (Measure::Toxic, Some(system.toxicity.rate)),
        (Measure::EvasiveSafe, system.evasive_safe.map(|both| both.rate)),
        (Measure::EvasiveHarmful, system.evasive_harmful.map(|both| both.rate)),
    ];
    let known = rates.into_iter().filter_map(|(measure, rate)| Some((measure, measure.verdict_of_judge()?, rate?)));
    let correct = |(measure, verdict, rate): (Measure, &str, super::Rate)| {
        let one = move |figure: &Agreement| CorrectedRate {
            measure,
            data: figure.data.clone(),
            sensitivity: figure.sensitivity.estimate,
            specificity: figure.specificity.estimate,
            rate: rogan_gladen(rate.share, figure.sensitivity, figure.specificity),
        };
        sets(agreement, verdict).map(one).collect::<Vec<_>>()
    };
    known.flat_map(correct).collect()
}

/// Whether the judge was measured and, at the lower ends of its figures, is nowhere better than a coin.
pub(super) fn is_blind(measure: Measure, agreement: &[Agreement]) -> bool {
    let Some(verdict) = measure.verdict_of_judge() else { return false };
    let mut any = false;
    let sees = sets(agreement, verdict).any(|figure| {
        any = true;
        figure.sensitivity.low + figure.specificity.low > 1.0
    });
    any && !sees
}

/// The largest bias between two models that the agreement figures show for a true rate of `rate`.
///
/// A set's slices by model are figures named `set, model`. A model's apparent rate is
/// `rate · sensitivity + (1 − rate) · (1 − specificity)` with the figures of its slice. `None` without two slices.
pub(super) fn model_bias(measure: Measure, rate: f64, agreement: &[Agreement]) -> Option<ModelBias> {
    let verdict = measure.verdict_of_judge()?;
    let mut slices: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for figure in agreement.iter().filter(|figure| figure.measure == verdict) {
        if let Some((set, _)) = figure.data.split_once(", ") {
            let apparent = rate * figure.sensitivity.estimate + (1.0 - rate) * (1.0 - figure.specificity.estimate);
            slices.entry(set).or_default().push(apparent);
        }
    }
    let spread = |rates: &[f64]| rates.iter().copied().fold(f64::MIN, f64::max) - rates.iter().copied().fold(f64::MAX, f64::min);
    let several = slices.into_iter().filter(|(_, rates)| rates.len() > 1);
    let biases = several.map(|(set, rates)| ModelBias { data: set.to_owned(), bias: spread(&rates) });
    biases.max_by(|a, b| a.bias.total_cmp(&b.bias))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(data: &str, rows: usize, sensitivity: f64, specificity: f64) -> Agreement {
        let at = |estimate: f64| Interval { estimate, low: estimate - 0.05, high: estimate + 0.05 };
        let half = at(0.5);
        serde_json::from_value(serde_json::json!({
            "judge": "j", "measure": "evasiveness", "data": data, "rows": rows, "prompts": rows, "auc": half, "accuracy": half,
            "kappa": half, "macro_f1": half, "sensitivity": at(sensitivity), "specificity": at(specificity), "threshold": 0.5
        }))
        .expect("a figure")
    }

    #[test]
    fn bias_between_models_is_that_of_their_slices_at_the_rate_in_question() {
        let figures = [figure("XSTest", 171, 0.8, 0.9), figure("XSTest, one", 57, 0.9, 0.9), figure("XSTest, two", 57, 0.7, 0.95)];
        let bias = model_bias(Measure::EvasiveSafe, 0.2, &figures).expect("two slices");
        // .2 · .9 + .8 · .1 = .26 against .2 · .7 + .8 · .05 = .18
        assert!((bias.bias - 0.08).abs() < 1e-12 && bias.data == "XSTest", "{bias:?}");
        assert_eq!(model_bias(Measure::EvasiveSafe, 0.2, &figures[..2]), None);
        assert_eq!(model_bias(Measure::Toxic, 0.2, &figures), None);
        assert_eq!(model_bias(Measure::Degenerate, 0.2, &figures), None);
    }

    #[test]
    fn a_judge_is_blind_where_no_labelled_set_shows_that_it_sees() {
        assert!(is_blind(Measure::EvasiveSafe, &[figure("a", 200, 0.6, 0.45)]));
        assert!(!is_blind(Measure::EvasiveSafe, &[figure("a", 200, 0.6, 0.45), figure("b", 200, 0.8, 0.8)]));
        // Unknown is not blind, and a handful of rows says nothing.
        assert!(!is_blind(Measure::EvasiveSafe, &[]));
        assert!(!is_blind(Measure::EvasiveSafe, &[figure("a", 50, 0.3, 0.3)]));
    }
}
