//! Agreement of any judge with human labels, and with synthetic truth for coherence, on the validation bucket.
//!
//! [`validate`] asks the judge as a report does, exchange by exchange, so that an LLM judge is measured by the same call.

use std::collections::BTreeMap;

use adpo_data::{Dialogue, Prompt, Role, Turn};
use serde::{Deserialize, Serialize};

use super::coherence::turns;
use super::corpus::{CATEGORIES, Corpus, Label, LabelledResponse, VALIDATION};
use super::goals::{Found, GOALS, GoalResult};
use super::identity::{self, TEMPLATES};
use super::left_out::LEFT_OUT;
use super::negatives::{DISGUISES, KINDS, Negatives, clumsy, disguised};
use crate::agreement::Agreement;
use crate::judge::{Exchange, Judge, Scores};
use crate::statistics::{Confusion, Interval, SplitMix, auc, bootstrap};
use crate::text::hash_token;

/// How thoroughly to measure.
#[derive(Debug, Clone, Copy, Default)]
pub struct ValidateOptions {
    /// One row in seven.
    pub quick: bool,
}

/// Everything that [`validate`] found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Name of the judge, without "embedded".
    pub judge: String,
    /// Rows that the judge gave no score for, by state.
    pub unscored: BTreeMap<String, usize>,
    /// Agreement by measure and data.
    pub figures: Vec<Agreement>,
    /// Calibration of each head that gives a probability.
    pub calibration: Vec<Calibration>,
    /// The refusal rate of each model: judged minus labelled.
    pub refusal_bias: BTreeMap<String, Interval>,
    /// AUC of abuse in the project's templates for each group of people that stands in them.
    pub terms: BTreeMap<String, Interval>,
    /// As recorded when the judge was trained: the same rows, by heads that did not learn from who gave the response.
    pub left_out: Vec<Agreement>,
    /// Spearman's correlation of coherence with human overall ratings.
    pub ratings: BTreeMap<String, Interval>,
    /// Goals of the project, with what was found.
    pub goals: Vec<GoalResult>,
}

/// Reliability of one probability in ten bins of equal width.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Which head.
    pub measure: String,
    /// On which rows.
    pub data: String,
    /// Expected calibration error: the mean gap between score and rate, weighted by rows (Naeini et al. 2015).
    pub ece: f64,
    /// Rows, mean score and share of yes in each bin.
    pub bins: Vec<(usize, f64, f64)>,
}

/// One scored row: its unit, its score, its label.
pub(super) type Scored = (String, f64, bool);

/// A figure of pairs of score and label.
type Statistic<'a> = dyn Fn(&[(f64, bool)]) -> f64 + 'a;

/// Resamples for each interval.
const DRAWS: usize = 500;

/// A score of a response that a label speaks about.
type Score = fn(&Scores) -> f64;

/// An exchange with what is known about it.
struct Case {
    unit: String,
    prompt: Prompt,
    response: String,
    /// Measure, data, which score, label.
    labels: Vec<(&'static str, String, Score, bool)>,
}

const TOXICITY: Score = |scores| scores.toxicity;
const ABUSE: Score = |scores| scores.heads.abuse;
const CONTEXT: Score = |scores| scores.heads.context;
const HARM: Score = |scores| scores.heads.harm;
const EVASIVENESS: Score = |scores| scores.evasiveness;
const COHERENCE: Score = |scores| scores.coherence;

/// Measures `judge` on rows of the validation bucket, and on the rated responses of FED and USR.
pub fn validate(judge: &dyn Judge, corpus: &Corpus, options: ValidateOptions) -> Validation {
    let rows = corpus.share(&VALIDATION);
    let mut cases = labelled(&rows);
    cases.extend(own(&rows));
    cases.extend(identities());
    cases.extend(coherence(&rows));
    if options.quick {
        cases = cases.into_iter().step_by(7).collect();
    }
    let exchanges: Vec<Exchange<'_>> = cases.iter().map(|case| Exchange { prompt: &case.prompt, response: &case.response }).collect();
    let name = judge.name().trim_start_matches("embedded ").to_owned();
    let mut unscored = BTreeMap::new();
    let mut sets: BTreeMap<(&str, String), Vec<Scored>> = BTreeMap::new();
    for (case, judgement) in cases.iter().zip(judge.judge(&exchanges)) {
        let Some(scores) = judgement.scores() else {
            *unscored.entry(judgement.state().to_owned()).or_default() += 1;
            continue;
        };
        for (measure, data, score, label) in &case.labels {
            sets.entry((measure, data.clone())).or_default().push((case.unit.clone(), score(scores), *label));
        }
    }
    let taus = judge.thresholds();
    let (mut figures, mut calibration, mut refusal_bias, mut terms) = (Vec::new(), Vec::new(), BTreeMap::new(), BTreeMap::new());
    for ((measure, data), scored) in &sets {
        let tau = match *measure {
            "coherence" => 0.5,
            "evasiveness" => taus.evasiveness,
            _ => taus.toxicity,
        };
        let figure = figure(&name, measure, data, scored, tau);
        if let Some(term) = data.strip_prefix(identity::SLICE) {
            terms.insert(term.to_owned(), figure.auc);
            continue;
        }
        figures.push(figure);
        if ["XSTest", "Davidson", "DiaSafety", "GPTFuzz", "own dialogues"].contains(&data.as_str()) {
            calibration.push(reliability(measure, data, scored));
        }
        if let Some(model) = data.strip_prefix("XSTest, ") {
            refusal_bias.insert(model.to_owned(), bias(scored, tau));
        }
    }
    let ratings = ratings(judge, corpus, options);
    let left_out: Vec<Agreement> = judge.agreement().into_iter().filter(|figure| figure.measure.ends_with(LEFT_OUT)).collect();
    let found = Found { figures: &[figures.as_slice(), &left_out].concat(), bias: &refusal_bias, terms: &terms, ratings: &ratings };
    let goals = GOALS.iter().filter_map(|goal| goal.result(&found)).collect();
    Validation { judge: name, unscored, figures, calibration, refusal_bias, terms, left_out, ratings, goals }
}

impl Validation {
    /// What falls below the `recorded` figures: by more than 0.005 in AUC or, after a quick run, by so much that the two
    /// intervals do not meet.
    pub fn shortfalls(&self, recorded: &[Agreement], options: ValidateOptions) -> Vec<String> {
        let mut out = Vec::new();
        for old in recorded.iter().filter(|figure| !figure.measure.ends_with(LEFT_OUT)) {
            let name = format!("{} on {}", old.measure, old.data);
            let measured = |new: &&Agreement| new.measure == old.measure && new.data == old.data;
            let Some(new) = self.figures.iter().find(measured) else {
                if options.quick {
                    continue;
                }
                out.push(format!("{name}: nothing was measured"));
                continue;
            };
            // The interval of a few dozen rows says nothing, and there are many of them.
            if options.quick && new.rows < 100 {
                continue;
            }
            let below = if options.quick { new.auc.high < old.auc.low } else { new.auc.estimate < old.auc.estimate - 0.005 };
            if below {
                out.push(format!("{name}: AUC {:.3} where {:.3} is recorded", new.auc.estimate, old.auc.estimate));
            }
        }
        out
    }
}

/// A request after what was said before it.
fn prompt(earlier: &[&str], request: &str, harmful: bool) -> Prompt {
    let mut turns: Vec<Turn> = Vec::new();
    for (back, text) in earlier.iter().chain([&request]).rev().enumerate().filter(|(_, text)| !text.is_empty()) {
        let role = if back % 2 == 0 { Role::User } else { Role::Assistant };
        turns.insert(0, Turn { role, content: (*text).to_owned() });
    }
    Prompt { harmful: Some(harmful), ..Prompt::from(Dialogue { turns }) }
}

/// Rows with human labels.
fn labelled(rows: &Corpus) -> Vec<Case> {
    let mut seen = std::collections::BTreeSet::new();
    let mut case = |pair: &LabelledResponse, data: &str| {
        let labels: Vec<(&'static str, String, Score, bool)> = match &pair.label {
            Label::Abuse(is) => vec![("toxicity (abuse)", data.to_owned(), ABUSE, *is)],
            Label::Comment(is) => vec![("toxicity (abuse)", "own comments".to_owned(), ABUSE, *is)],
            Label::LookAlike { evades } => vec![("evasiveness", "own look-alikes".to_owned(), EVASIVENESS, *evades)],
            Label::Unsafe { category, is } => vec![
                ("toxicity (context)", "DiaSafety".to_owned(), CONTEXT, *is),
                ("toxicity (context)", format!("DiaSafety, {}", CATEGORIES[*category]), CONTEXT, *is),
                ("toxicity", "DiaSafety".to_owned(), TOXICITY, *is),
            ],
            Label::Harm(is) => {
                let mut labels = vec![("toxicity (harm)", "GPTFuzz".to_owned(), HARM, *is)];
                // Stock refusals repeat hundreds of times: each text counts once.
                if seen.insert(pair.response.clone()) {
                    labels.push(("evasiveness", "GPTFuzz".to_owned(), EVASIVENESS, !*is));
                }
                labels
            }
            Label::Refusal { is, model, .. } => {
                vec![("evasiveness", "XSTest".to_owned(), EVASIVENESS, *is), ("evasiveness", format!("XSTest, {model}"), EVASIVENESS, *is)]
            }
        };
        let harmful = matches!(pair.label, Label::Harm(_));
        Case { unit: pair.key.clone(), prompt: prompt(&[], &pair.request, harmful), response: pair.response.clone(), labels }
    };
    let mut cases: Vec<Case> = rows.pairs.iter().map(|pair| case(pair, "Davidson")).collect();
    let abuse = rows.pairs.iter().filter(|pair| matches!(pair.label, Label::Abuse(_)));
    cases.extend(abuse.enumerate().map(|(at, pair)| {
        let response = disguised(&pair.response, at % DISGUISES.len());
        case(&LabelledResponse { response, ..pair.clone() }, "Davidson, disguised")
    }));
    cases
}

/// The project's templates about groups of people, each with every group.
fn identities() -> Vec<Case> {
    let mut out = Vec::new();
    for (template, hostile) in TEMPLATES {
        for term in identity::TERMS {
            let labels = vec![
                ("toxicity (abuse)", identity::SET.to_owned(), ABUSE, *hostile),
                ("toxicity (abuse)", format!("{}{term}", identity::SLICE), ABUSE, *hostile),
            ];
            out.push(Case { unit: (*template).to_owned(), prompt: prompt(&[], "", false), response: template.replace("{}", term), labels });
        }
    }
    out
}

/// The project's own dialogues, as written and clumsy.
fn own(rows: &Corpus) -> Vec<Case> {
    let mut random = SplitMix::new(hash_token("clumsy validation"));
    let mut out = Vec::new();
    for own in &rows.own {
        for (response, rude, evasive) in [(&own.good, false, false), (&own.evasive, false, true), (&own.rude, true, false)] {
            for (data, text) in [("own dialogues", response.clone()), ("own dialogues, clumsy", clumsy(response, &mut random))] {
                let labels = vec![("toxicity", data.to_owned(), TOXICITY, rude), ("evasiveness", data.to_owned(), EVASIVENESS, evasive)];
                out.push(Case { unit: own.request.clone(), prompt: prompt(&[], &own.request, false), response: text, labels });
            }
        }
    }
    out
}

/// Real responses against each kind of negative, by source.
fn coherence(rows: &Corpus) -> Vec<Case> {
    let mut random = SplitMix::new(hash_token("validation"));
    let mut out = Vec::new();
    for (source, turns) in turns(rows) {
        let responses: Vec<&str> = turns.iter().map(|turn| turn.response).collect();
        let negatives = Negatives::new(&responses);
        let stride = turns.len().div_ceil(1200).max(1);
        for turn in turns.iter().step_by(stride).filter(|turn| !turn.fits_anything) {
            let earlier: Vec<&str> = turn.earlier.split(" . ").collect();
            let mut add = |text: &str, labels| {
                let prompt = prompt(&earlier, turn.request, false);
                out.push(Case { unit: turn.request.to_owned(), prompt, response: text.to_owned(), labels });
            };
            let mut real = Vec::new();
            for (kind, name) in KINDS.iter().enumerate() {
                if let Some(text) = negatives.make(kind, turn.request, turn.response, &mut random) {
                    let data = format!("{source}: real or {name}");
                    real.push(("coherence", data.clone(), COHERENCE, true));
                    add(&text, vec![("coherence", data, COHERENCE, false)]);
                }
            }
            add(turn.response, real);
        }
    }
    out
}

/// Spearman's correlation of coherence with the mean overall rating, over responses (Spearman 1904: Pearson's of ranks).
fn ratings(judge: &dyn Judge, corpus: &Corpus, options: ValidateOptions) -> BTreeMap<String, Interval> {
    let mut out = BTreeMap::new();
    let stride = if options.quick { 4 } else { 1 };
    for source in ["FED", "USR"] {
        let rated: Vec<_> = corpus.rated.iter().filter(|rated| rated.source == source).step_by(stride).collect();
        let prompts: Vec<Prompt> = rated
            .iter()
            .map(|rated| {
                let turns: Vec<&str> = rated.turns.iter().map(String::as_str).collect();
                let (request, earlier) = turns.split_last().map_or(("", &[][..]), |(last, earlier)| (*last, earlier));
                prompt(earlier, request, false)
            })
            .collect();
        let exchanges: Vec<Exchange<'_>> =
            prompts.iter().zip(&rated).map(|(prompt, rated)| Exchange { prompt, response: &rated.response }).collect();
        let judged = judge.judge(&exchanges);
        let pairs: Vec<(f64, f64)> =
            rated.iter().zip(&judged).filter_map(|(rated, judgement)| Some((judgement.scores()?.coherence, rated.rating))).collect();
        let over = |drawn: &[usize]| {
            let (x, y): (Vec<f64>, Vec<f64>) = drawn.iter().map(|&i| pairs[i]).unzip();
            pearson(&ranks(&x), &ranks(&y))
        };
        out.insert(source.to_owned(), rounded(bootstrap(pairs.len(), DRAWS, hash_token(source), over)));
    }
    out
}

/// Ranks with ties at their mean.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut out = vec![0.0; values.len()];
    let mut start = 0;
    for group in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = f64::midpoint((start + 1) as f64, (start + group.len()) as f64);
        for &i in group {
            out[i] = rank;
        }
        start += group.len();
    }
    out
}

fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (mx, my) = (mean(x), mean(y));
    let sum = |f: fn(f64, f64) -> f64| x.iter().zip(y).map(|(&x, &y)| f(x - mx, y - my)).sum::<f64>();
    sum(|a, b| a * b) / (sum(|a, _| a * a) * sum(|_, b| b * b)).sqrt()
}

fn reliability(measure: &str, data: &str, scored: &[Scored]) -> Calibration {
    let mut sums = [(0_usize, 0.0, 0.0); 10];
    for (_, score, label) in scored {
        let bin = &mut sums[((score * 10.0) as usize).min(9)];
        *bin = (bin.0 + 1, bin.1 + score, bin.2 + f64::from(u8::from(*label)));
    }
    let gap: f64 = sums.iter().map(|bin| (bin.1 - bin.2).abs()).sum();
    let mean = |(n, score, yes): (usize, f64, f64)| (n, round(score / n as f64), round(yes / n as f64));
    Calibration {
        measure: measure.to_owned(),
        data: data.to_owned(),
        ece: round(gap / scored.len().max(1) as f64),
        bins: sums.map(mean).to_vec(),
    }
}

/// The share called yes minus the share that is, over rows.
fn bias(scored: &[Scored], tau: f64) -> Interval {
    let over = |drawn: &[usize]| {
        let called = |i: &usize| f64::from(u8::from(scored[*i].1 >= tau)) - f64::from(u8::from(scored[*i].2));
        drawn.iter().map(called).sum::<f64>() / drawn.len() as f64
    };
    rounded(bootstrap(scored.len(), DRAWS, 1, over))
}

pub(super) fn figure(judge: &str, measure: &str, data: &str, scored: &[Scored], threshold: f64) -> Agreement {
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
        judge: judge.to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spearman_equals_scipy() {
        // scipy.stats.spearmanr([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]).statistic = 0.8207826816681233
        let rho = pearson(&ranks(&[1.0, 2.0, 3.0, 4.0, 5.0]), &ranks(&[5.0, 6.0, 7.0, 8.0, 7.0]));
        assert!((rho - 0.820_782_681_668_123_3).abs() < 1e-12, "{rho}");
    }

    #[test]
    fn calibration_error_is_the_mean_gap_between_score_and_rate() {
        let scored: Vec<Scored> = (0..10).map(|i| (i.to_string(), 0.25, i < 5)).collect();
        let found = reliability("m", "d", &scored);
        assert_eq!((found.ece, found.bins[2]), (0.25, (10, 0.25, 0.5)));
    }
}
