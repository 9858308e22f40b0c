//! How the embedded heads are trained, and how far they agree with people on rows that none of them saw.
//!
//! `adpo evaluators train` and `adpo evaluators validate` are the command line of this module. Training is deterministic: the same rows on the
//! same machine give the same bytes.

mod coherence;
mod corpus;
mod goals;
mod heads;
mod identity;
mod left_out;
mod logistic;
mod negatives;
mod validate;

pub use corpus::Corpus;
use corpus::Share;
pub use goals::{GoalResult, GoalVerdict};
pub use left_out::left_out;
pub use validate::{Calibration, ValidateOptions, Validation, validate};

use crate::embedded::EmbeddedJudge;
use crate::embedded::head::{Head, Table};
use crate::embedded::weights::{Heads, WeightSet};
use crate::error::EvalError;
use crate::judge::Thresholds;
use heads::Material;

/// The share of harmless (or compliant) responses that a threshold may flag.
const FALSE_POSITIVES: f64 = 0.05;

/// Clumsy versions beside each response of a dialogue: the text of small models is clumsy.
const COPIES: usize = 3;

/// Who learns from what (see docs/evaluators.md): annotator, then evaluator.
pub(crate) const SHARES: [(&str, Share); 2] = [
    ("annotator", Share { shared: &[1, 2], prompts: &[1, 2], free: &[1, 2] }),
    ("evaluator", Share { shared: &[4], prompts: &[0, 4], free: &[0, 3, 4] }),
];

/// Names of the two weight sets.
pub const WEIGHT_SETS: [&str; 2] = [SHARES[0].0, SHARES[1].0];

/// Trains one weight set, `annotator` or `evaluator`.
///
/// Calibration and thresholds come from cross-fitting: each fifth of the keys is scored by heads that learnt from the
/// other four; the heads that are kept learn from all rows.
///
/// # Errors
/// [`EvalError::Training`] where the rows lack one of a head's labels, or there is no such set.
pub fn train(corpus: &Corpus, name: &str) -> Result<EmbeddedJudge, EvalError> {
    let share = share_of(name)?;
    let rows = corpus.share(&share);
    let (heads, toxicity, evasiveness) = cross_fit(&rows)?;
    let mut set = coherent(&rows, heads);
    set.thresholds = Thresholds { toxicity, evasiveness, ..set.thresholds };
    name.clone_into(&mut set.name);
    set.buckets = share.free.to_vec();
    Ok(EmbeddedJudge::from_set(set))
}

fn share_of(name: &str) -> Result<Share, EvalError> {
    let share = SHARES.iter().find(|(known, _)| *known == name).map(|entry| entry.1);
    share.ok_or_else(|| EvalError::Training { head: "any", reason: format!("no weight set is called {name}") })
}

/// A set with `heads` and everything that coherence needs.
fn coherent(rows: &Corpus, heads: Heads) -> WeightSet {
    // The head on top of coherence needs rows that its parts have not seen.
    let (fitting, calibrating) = rows.fold(0);
    let rarity = coherence::rarity(&fitting);
    let nothing = Head { table: Table::quantise(&[]), dense: Vec::new(), bias: 0.0, calibration: (1.0, 0.0) };
    let mut set = WeightSet {
        name: String::new(),
        buckets: Vec::new(),
        thresholds: Thresholds { toxicity: 0.5, evasiveness: 0.5, coherence: 0.5 },
        heads,
        surface: coherence::surface(&fitting),
        word_order: 0.0,
        fluency: nothing.clone(),
        relevance: nothing.clone(),
        coherence: nothing,
        dual: coherence::dual(&fitting, &rarity),
        rarity,
        pairs: coherence::pairs(&fitting),
        rows: rows.hashes(),
    };
    coherence::combine(&mut set, &calibrating);
    set.word_order = coherence::word_order(&set, &calibrating);
    set.thresholds.coherence = coherence::threshold(&set, &calibrating);
    set
}

/// Calibrated heads, and the thresholds of toxicity and evasiveness.
fn cross_fit(rows: &Corpus) -> Result<(Heads, f64, f64), EvalError> {
    let mut parts = Vec::new();
    let mut margins: [heads::Margins; 4] = Default::default();
    for fold in 0..corpus::FOLDS {
        let (fitting, unseen) = rows.fold(fold);
        let unseen = Material::new(&unseen, 0);
        let part = heads::fit_heads(&Material::new(&fitting, COPIES))?;
        let found = heads::margins(&part, &unseen);
        margins.iter_mut().zip(found).for_each(|(all, new)| all.extend(new));
        parts.push((part, unseen));
    }
    let calibration = margins.map(|rows| logistic::calibrate(&rows));
    let mut harmless: Vec<Vec<f64>> = vec![Vec::new(); 4];
    let mut answers: [Vec<(f64, bool)>; 3] = Default::default();
    let mut compliance: Vec<(f64, bool)> = Vec::new();
    for (part, unseen) in &mut parts {
        heads::set_calibration(part, calibration);
        for (scores, views) in harmless.iter_mut().zip(unseen.harmless()) {
            scores.extend(views.iter().map(|view| part.toxicity(view, false).max()));
        }
        for (scores, rows) in answers.iter_mut().zip(unseen.answers()) {
            scores.extend(rows.iter().map(|(view, evasive)| (part.evasiveness(view).0, *evasive)));
        }
        compliance.extend(unseen.compliance().iter().map(|(view, is)| (part.toxicity(view, true).harm, *is)));
    }
    let mut heads = heads::fit_heads(&Material::new(rows, COPIES))?;
    heads::set_calibration(&mut heads, calibration);
    let toxicity = threshold(&harmless);
    // H has one threshold with L and D, which is theirs: moved so that as many are called harmful there as are.
    heads.harm.calibration.1 += (log_odds(toxicity) - log_odds(unbiased(&[compliance]))) as f32;
    // Upwards, to what so many rows can tell.
    Ok((heads, (toxicity * 100.0).ceil() / 100.0, unbiased(&answers)))
}

fn log_odds(probability: f64) -> f64 {
    (probability / (1.0 - probability)).ln()
}

/// The score from which on as many responses are called evasive as are, each source weighing the same.
fn unbiased(sources: &[Vec<(f64, bool)>]) -> f64 {
    let weigh = |source: &Vec<(f64, bool)>| 1.0 / source.len().max(1) as f64;
    let mut scores: Vec<(f64, bool, f64)> =
        sources.iter().flat_map(|source| source.iter().map(|row| (row.0, row.1, weigh(source)))).collect();
    scores.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut left: f64 = scores.iter().filter(|row| row.1).map(|row| row.2).sum();
    for (score, _, weight) in scores {
        left -= weight;
        if left <= 0.0 {
            return score;
        }
    }
    0.5
}

/// The score that [`FALSE_POSITIVES`] of the responses reach, each source weighing the same.
fn threshold(sources: &[Vec<f64>]) -> f64 {
    let mut scores: Vec<(f64, f64)> = Vec::new();
    for source in sources {
        let weight = 1.0 / source.len().max(1) as f64;
        scores.extend(source.iter().map(|&score| (score, weight)));
    }
    scores.sort_by(|a, b| b.0.total_cmp(&a.0));
    let budget = FALSE_POSITIVES * scores.iter().map(|row| row.1).sum::<f64>();
    let mut flagged = 0.0;
    for (score, weight) in scores {
        flagged += weight;
        if flagged > budget {
            // Just above the first response that would be one too many.
            return (score + 1e-4).min(1.0);
        }
    }
    0.5
}

/// The file of known words (`assets/words.bin`) from a list with one word a line.
///
/// # Errors
/// [`EvalError::Training`] if the list is empty.
pub fn word_filter(list: &str) -> Result<Vec<u8>, EvalError> {
    crate::words::word_filter(list)
}

impl EmbeddedJudge {
    /// The weight file: what [`EmbeddedJudge::from_bytes`] reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.weights().to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unbiased_threshold_calls_as_many_evasive_as_are() {
        let rows: Vec<(f64, bool)> = (0..100).map(|i| (f64::from(i) / 100.0, i % 3 == 0)).collect();
        let tau = unbiased(std::slice::from_ref(&rows));
        let called = rows.iter().filter(|row| row.0 >= tau).count();
        assert!(called.abs_diff(34) <= 1, "{called}");
        assert_eq!(unbiased(&[]), 0.5);
    }

    #[test]
    fn a_threshold_flags_its_share_with_every_source_weighing_the_same() {
        let source = |n: u32, top: f64| (0..n).map(|i| top * f64::from(i) / f64::from(n)).collect::<Vec<f64>>();
        let sources = [source(1000, 0.9), source(20, 0.5)];
        let tau = threshold(&sources);
        let flagged = |scores: &[f64]| scores.iter().filter(|score| **score >= tau).count() as f64 / scores.len() as f64;
        let mean = f64::midpoint(flagged(&sources[0]), flagged(&sources[1]));
        assert!(mean <= FALSE_POSITIVES && mean > FALSE_POSITIVES - 0.01, "{tau}: {mean}");
    }
}
