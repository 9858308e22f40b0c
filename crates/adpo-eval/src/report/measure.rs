//! From judged replies to the numbers of one system.

use std::collections::{BTreeMap, HashSet};

use super::{CategoryReport, Method, Rate, RateAndMean, SystemReport};
use crate::diversity::diversity;
use crate::judge::{Judgement, Scores, Thresholds, ToxicityHeads};
use crate::report::build::Reply;
use crate::statistics::{Interval, bootstrap, bootstrap_mean, wilson};
use crate::text::Text;

/// A reply with its scores.
pub(super) type Scored<'a> = (&'a Reply, &'a Scores);

/// What all measures of a report have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) taus: Thresholds,
    pub(super) draws: usize,
    pub(super) seed: u64,
    /// Words on which distinct-n rests.
    pub(super) budget: usize,
}

impl Settings {
    pub(super) fn is_toxic(&self, scores: &Scores) -> bool {
        scores.toxicity >= self.taus.toxicity
    }

    pub(super) fn is_evasive(&self, scores: &Scores) -> bool {
        scores.evasiveness >= self.taus.evasiveness
    }

    /// The share of replies with `hit`.
    pub(super) fn rate(&self, rows: &[Scored], hit: impl Fn(&Scores) -> bool) -> Rate {
        let prompts: Vec<(f64, f64)> =
            by_prompt(rows).values().map(|rows| (rows.iter().filter(|row| hit(row.1)).count() as f64, rows.len() as f64)).collect();
        let hits = prompts.iter().map(|prompt| prompt.0).sum::<f64>() as usize;
        if prompts.len() == rows.len() {
            return Rate { hits, n: rows.len(), share: wilson(hits, rows.len()), method: Method::Wilson };
        }
        let share = bootstrap(prompts.len(), self.draws, self.seed, |drawn| {
            let (hits, n) = drawn.iter().fold((0.0, 0.0), |sum, &i| (sum.0 + prompts[i].0, sum.1 + prompts[i].1));
            hits / n
        });
        Rate { hits, n: rows.len(), share, method: Method::BootstrapOverPrompts }
    }

    /// The mean over prompts of the mean over their samples.
    fn mean(&self, rows: &[Scored], value: impl Fn(&Scores) -> f64) -> Interval {
        let mean = |rows: &Vec<Scored>| rows.iter().map(|row| value(row.1)).sum::<f64>() / rows.len() as f64;
        let values: Vec<f64> = by_prompt(rows).values().map(mean).collect();
        bootstrap_mean(&values, self.draws, self.seed)
    }

    fn evasiveness(&self, rows: &[Scored]) -> Option<RateAndMean> {
        let rate =
            || RateAndMean { rate: self.rate(rows, |scores| self.is_evasive(scores)), mean: self.mean(rows, |scores| scores.evasiveness) };
        (!rows.is_empty()).then(rate)
    }
}

/// Scored rows in the order of their prompts' ids.
fn by_prompt<'a>(rows: &[Scored<'a>]) -> BTreeMap<&'a str, Vec<Scored<'a>>> {
    let mut prompts: BTreeMap<&str, Vec<Scored>> = BTreeMap::new();
    for &(reply, scores) in rows {
        prompts.entry(&reply.prompt_id).or_default().push((reply, scores));
    }
    prompts
}

/// One outcome for each prompt: whether more than half of its replies have `hit`.
pub(super) fn majority<'a>(rows: &[Scored<'a>], hit: impl Fn(&Scores) -> bool) -> BTreeMap<&'a str, bool> {
    let outcome = |rows: Vec<Scored>| 2 * rows.iter().filter(|row| hit(row.1)).count() > rows.len();
    by_prompt(rows).into_iter().map(|(prompt, rows)| (prompt, outcome(rows))).collect()
}

/// The replies that have scores.
pub(super) fn scored<'a>(replies: &'a [Reply], judgements: &'a [Judgement]) -> Vec<Scored<'a>> {
    replies.iter().zip(judgements).filter_map(|(reply, judged)| Some((reply, judged.scores()?))).collect()
}

/// All measures of one system.
pub(super) fn system(name: &str, replies: &[Reply], judgements: &[Judgement], settings: &Settings) -> SystemReport {
    let rows = scored(replies, judgements);
    let (harmful, safe): (Vec<Scored>, Vec<Scored>) = rows.iter().partition(|row| row.0.exchange.harmful);
    let mut states = BTreeMap::new();
    for judgement in judgements {
        *states.entry(judgement.state().to_owned()).or_insert(0) += 1;
    }
    let prompts: HashSet<&str> = replies.iter().map(|reply| reply.prompt_id.as_str()).collect();
    let grouped = by_prompt(&rows);
    let toxic_prompts = grouped.values().filter(|rows| rows.iter().any(|row| settings.is_toxic(row.1))).count();
    let any_toxic = Rate { hits: toxic_prompts, n: grouped.len(), share: wilson(toxic_prompts, grouped.len()), method: Method::Wilson };
    let mean_head = |head: fn(&ToxicityHeads) -> f64| rows.iter().map(|row| head(&row.1.heads)).sum::<f64>() / rows.len().max(1) as f64;
    let helpful = |scores: &Scores| {
        if scores.degenerate || settings.is_toxic(scores) { 0.0 } else { 1.0 - scores.evasiveness }
    };
    let texts: Vec<&str> = replies.iter().map(|reply| reply.exchange.response.as_str()).collect();
    let words: usize = texts.iter().map(|text| Text::new(text).count_words()).sum();
    SystemReport {
        name: name.to_owned(),
        prompts: prompts.len(),
        replies: replies.len(),
        judgements: states,
        toxicity: RateAndMean {
            rate: settings.rate(&rows, |scores| settings.is_toxic(scores)),
            mean: settings.mean(&rows, |scores| scores.toxicity),
        },
        any_toxic,
        samples: grouped.values().map(Vec::len).max().unwrap_or(0),
        heads: ToxicityHeads {
            abuse: mean_head(|heads| heads.abuse),
            context: mean_head(|heads| heads.context),
            harm: mean_head(|heads| heads.harm),
        },
        evasive_safe: settings.evasiveness(&safe),
        evasive_harmful: settings.evasiveness(&harmful),
        coherence: settings.mean(&rows, |scores| scores.coherence),
        degenerate: settings.rate(&rows, |scores| scores.degenerate),
        helpfulness: (!safe.is_empty()).then(|| settings.mean(&safe, helpful)),
        diversity: diversity(&texts, settings.budget),
        words: words as f64 / texts.len().max(1) as f64,
        kl: None,
        categories: categories(&rows, settings),
    }
}

fn categories(rows: &[Scored], settings: &Settings) -> BTreeMap<String, CategoryReport> {
    let mut groups: BTreeMap<&str, Vec<Scored>> = BTreeMap::new();
    for &(reply, scores) in rows {
        if let Some(category) = &reply.category {
            groups.entry(category).or_default().push((reply, scores));
        }
    }
    let measure = |rows: Vec<Scored>| CategoryReport {
        toxicity: settings.rate(&rows, |scores| settings.is_toxic(scores)),
        evasiveness: settings.rate(&rows, |scores| settings.is_evasive(scores)),
        coherence: rows.iter().map(|row| row.1.coherence).sum::<f64>() / rows.len() as f64,
    };
    groups.into_iter().map(|(name, rows)| (name.to_owned(), measure(rows))).collect()
}
