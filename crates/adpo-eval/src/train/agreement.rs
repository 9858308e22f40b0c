//! Agreement with human labels, and with synthetic truth for coherence, on the validation bucket.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::VALIDATION;
use super::coherence::turns;
use super::corpus::{Corpus, Label};
use super::negatives::{KINDS, Negatives, clumsy};
use crate::embedded::EmbeddedJudge;
use crate::embedded::features::View;
use crate::judge::Judge;
use crate::statistics::{Confusion, Interval, SplitMix, auc, bootstrap};
use crate::text::hash_token;

/// How far one measure of one judge agrees with labels that it never saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Agreement {
    /// Name of the weight set.
    pub judge: String,
    /// What was measured.
    pub measure: String,
    /// On which rows.
    pub data: String,
    /// Number of rows.
    pub rows: usize,
    /// Number of independent prompts or contexts: the units of the bootstrap.
    pub prompts: usize,
    /// Area under the ROC curve.
    pub auc: Interval,
    /// At `threshold`.
    pub accuracy: Interval,
    /// Cohen's κ at `threshold`.
    pub kappa: Interval,
    /// Mean of both classes' F1 at `threshold`.
    pub macro_f1: Interval,
    /// The share of yes rows that the judge calls yes at `threshold`.
    pub sensitivity: Interval,
    /// The share of no rows that the judge calls no at `threshold`.
    pub specificity: Interval,
    /// From which score on the judge says yes; one half for coherence.
    pub threshold: f64,
}

/// One scored row: its unit, its score, its label.
pub(crate) type Scored = (String, f64, bool);

/// A figure of pairs of score and label.
type Statistic<'a> = dyn Fn(&[(f64, bool)]) -> f64 + 'a;

/// Resamples for each interval.
const DRAWS: usize = 500;

/// Measures `judge` on the rows of the [`VALIDATION`] bucket.
pub fn agreement(judge: &EmbeddedJudge, corpus: &Corpus) -> Vec<Agreement> {
    let rows = corpus.share(&VALIDATION);
    let taus = judge.thresholds();
    let mut out = Vec::new();
    let mut add = |measure: &str, data: &str, scored: &[Scored], threshold: f64| {
        out.push(figure(judge, measure, data, scored, threshold));
    };
    let mut sets: BTreeMap<(&str, String), Vec<Scored>> = BTreeMap::new();
    for pair in &rows.pairs {
        let view = View::from_texts(&pair.request, "", &pair.reply);
        let mut put = |measure: &'static str, data: &str, score: f64, label: bool| {
            sets.entry((measure, data.to_owned())).or_default().push((pair.key.clone(), score, label));
        };
        match &pair.label {
            Label::Abuse(is) => put("toxicity (abuse)", "Davidson", judge.score_view(&view, false).heads.abuse, *is),
            Label::Unsafe { is, .. } => {
                let scores = judge.score_view(&view, false);
                put("toxicity (context)", "DiaSafety", scores.heads.context, *is);
                put("toxicity", "DiaSafety", scores.toxicity, *is);
            }
            Label::Harm(is) => put("toxicity (harm)", "GPTFuzz", judge.score_view(&view, true).heads.harm, *is),
            Label::Refusal { is, model, .. } => {
                let score = judge.score_view(&view, false).evasiveness;
                put("evasiveness", "XSTest", score, *is);
                put("evasiveness", &format!("XSTest, {model}"), score, *is);
            }
        }
    }
    let mut random = SplitMix::new(hash_token("clumsy validation"));
    for own in &rows.own {
        for (reply, rude, evasive) in [(&own.good, false, false), (&own.evasive, false, true), (&own.rude, true, false)] {
            for (data, text) in [("own dialogues", reply.clone()), ("own dialogues, clumsy", clumsy(reply, &mut random))] {
                let scores = judge.score_view(&View::from_texts(&own.request, "", &text), false);
                let mut put = |measure, score, label| {
                    let rows = sets.entry((measure, data.to_owned())).or_default();
                    rows.push((own.request.clone(), score, label));
                };
                put("toxicity", scores.toxicity, rude);
                put("evasiveness", scores.evasiveness, evasive);
            }
        }
    }
    for ((measure, data), scored) in &sets {
        let tau = if measure.starts_with("evasiveness") { taus.evasiveness } else { taus.toxicity };
        add(measure, data, scored, tau);
    }
    for (data, scored) in coherence(judge, &rows) {
        add("coherence", &data, &scored, 0.5);
    }
    out
}

/// Real replies against each kind of negative, by source.
pub(crate) fn coherence(judge: &EmbeddedJudge, rows: &Corpus) -> Vec<(String, Vec<Scored>)> {
    let mut random = SplitMix::new(hash_token("validation"));
    let mut out = Vec::new();
    for (source, turns) in turns(rows) {
        let replies: Vec<&str> = turns.iter().map(|turn| turn.reply).collect();
        let negatives = Negatives::new(&replies);
        let stride = turns.len().div_ceil(1200).max(1);
        let mut by_kind: Vec<Vec<Scored>> = vec![Vec::new(); KINDS.len()];
        for turn in turns.iter().step_by(stride).filter(|turn| !turn.fits_anything) {
            let score = |text: &str| judge.score_view(&View::from_texts(turn.request, &turn.earlier, text), false).coherence;
            let real = score(turn.reply);
            for (kind, scored) in by_kind.iter_mut().enumerate() {
                if let Some(text) = negatives.make(kind, turn.request, turn.reply, &mut random) {
                    scored.push((turn.request.to_owned(), real, true));
                    scored.push((turn.request.to_owned(), score(&text), false));
                }
            }
        }
        out.extend(KINDS.iter().zip(by_kind).map(|(kind, scored)| (format!("{source}: real or {kind}"), scored)));
    }
    out
}

fn figure(judge: &EmbeddedJudge, measure: &str, data: &str, scored: &[Scored], threshold: f64) -> Agreement {
    let mut units: BTreeMap<&str, Vec<(f64, bool)>> = BTreeMap::new();
    for (key, score, label) in scored {
        units.entry(key).or_default().push((*score, *label));
    }
    let units: Vec<Vec<(f64, bool)>> = units.into_values().collect();
    let seed = hash_token(data);
    let over = |statistic: &Statistic| {
        bootstrap(units.len(), DRAWS, seed, |drawn| {
            let rows: Vec<(f64, bool)> = drawn.iter().flat_map(|&i| units[i].iter().copied()).collect();
            statistic(&rows)
        })
    };
    let table = |rows: &[(f64, bool)]| Confusion::count(rows.iter().map(|row| (row.0 >= threshold, row.1)));
    Agreement {
        judge: judge.weights().name.clone(),
        measure: measure.to_owned(),
        data: data.to_owned(),
        rows: scored.len(),
        prompts: units.len(),
        auc: rounded(over(&auc)),
        accuracy: rounded(over(&|rows| table(rows).accuracy())),
        kappa: rounded(over(&|rows| table(rows).kappa())),
        macro_f1: rounded(over(&|rows| table(rows).macro_f1())),
        sensitivity: rounded(over(&|rows| table(rows).sensitivity())),
        specificity: rounded(over(&|rows| table(rows).specificity())),
        threshold: round(threshold),
    }
}

/// Four digits: more would be noise, and would differ between processors.
fn round(x: f64) -> f64 {
    if x.is_finite() { (x * 1e4).round() / 1e4 } else { 0.0 }
}

fn rounded(interval: Interval) -> Interval {
    Interval { estimate: round(interval.estimate), low: round(interval.low), high: round(interval.high) }
}
