use std::collections::BTreeMap;

use super::measure::{Scored, Settings, majority, scored, system};
use super::{Comparison, JudgeInfo, KlByRole, Report, SCHEMA, TokenEffect, Verdict, WorstCase};
use crate::diversity::count_words;
use crate::error::EvalError;
use crate::judge::{Exchange, Judge, Judgement, Scores, shared_rows};
use crate::statistics::{holm, mcnemar};
use crate::text::Text;

/// One reply of a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Names the prompt: replies of two systems are paired by it, and several replies to one prompt are its samples.
    pub prompt_id: String,
    /// The prompt and the reply.
    pub exchange: Exchange,
    /// The prompt's category, for the table by category.
    pub category: Option<String>,
}

/// Resamples for intervals of means.
const DRAWS: usize = 2_000;

/// Collects what a report is made of; [`ReportBuilder::build`] judges and computes.
#[derive(Default)]
pub struct ReportBuilder<'a> {
    title: String,
    systems: Vec<(String, Vec<Reply>)>,
    with_token: Vec<(String, Vec<Reply>)>,
    kl: BTreeMap<String, KlByRole>,
    baseline: Option<String>,
    annotator: Option<&'a dyn Judge>,
    seeds: BTreeMap<String, u64>,
    dropped: BTreeMap<String, usize>,
    environment: BTreeMap<String, String>,
    worst: usize,
    show: bool,
}

impl<'a> ReportBuilder<'a> {
    /// An empty report.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), worst: 3, ..Self::default() }
    }

    /// Adds a system; the order is the order of the tables.
    #[must_use]
    pub fn system(mut self, name: impl Into<String>, replies: Vec<Reply>) -> Self {
        self.systems.push((name.into(), replies));
        self
    }

    /// Adds replies that a system already added gave to the same prompts *with* the control token.
    #[must_use]
    pub fn with_token(mut self, name: impl Into<String>, replies: Vec<Reply>) -> Self {
        self.with_token.push((name.into(), replies));
        self
    }

    /// Adds the log-ratios at the end of a system's training.
    #[must_use]
    pub fn kl(mut self, name: impl Into<String>, kl: KlByRole) -> Self {
        self.kl.insert(name.into(), kl);
        self
    }

    /// Names the system that the others are tested against.
    #[must_use]
    pub fn baseline(mut self, name: impl Into<String>) -> Self {
        self.baseline = Some(name.into());
        self
    }

    /// Names the judge that made the training triples; the report says so if it is not independent of the evaluator.
    #[must_use]
    pub fn annotator(mut self, judge: &'a dyn Judge) -> Self {
        self.annotator = Some(judge);
        self
    }

    /// Records a seed. The one named `bootstrap` seeds the intervals (0 without it).
    #[must_use]
    pub fn seed(mut self, name: impl Into<String>, seed: u64) -> Self {
        self.seeds.insert(name.into(), seed);
        self
    }

    /// Records how many rows were dropped on the way, and why.
    #[must_use]
    pub fn dropped(mut self, reason: impl Into<String>, count: usize) -> Self {
        *self.dropped.entry(reason.into()).or_default() += count;
        self
    }

    /// Records what is true of this run alone: times, paths, versions.
    #[must_use]
    pub fn environment(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// How many of the most toxic replies to list for each system (3 unless set), and whether to show their text.
    #[must_use]
    pub fn worst(mut self, count: usize, show: bool) -> Self {
        (self.worst, self.show) = (count, show);
        self
    }

    /// Judges all replies and computes the report.
    ///
    /// # Errors
    /// [`EvalError::Report`] for a system without a name of its own or without replies, a baseline, KL or token row of
    /// an unknown system, or a judge that does not answer once per exchange.
    pub fn build(&self, judge: &dyn Judge) -> Result<Report, EvalError> {
        self.check()?;
        let budget = self.systems.iter().map(|(_, replies)| {
            let texts: Vec<&str> = replies.iter().map(|reply| reply.exchange.response.as_str()).collect();
            count_words(&texts)
        });
        let mut seeds = self.seeds.clone();
        let settings = Settings {
            taus: judge.thresholds(),
            draws: DRAWS,
            seed: *seeds.entry("bootstrap".to_owned()).or_insert(0),
            budget: budget.min().unwrap_or(0),
        };
        let judged = judge_all(&self.systems, judge)?;
        let judged_with_token = judge_all(&self.with_token, judge)?;
        let rows: Vec<(&str, Vec<Scored>)> =
            self.systems.iter().zip(&judged).map(|((name, replies), judgements)| (name.as_str(), scored(replies, judgements))).collect();
        let mut systems = Vec::new();
        for ((name, replies), judgements) in self.systems.iter().zip(&judged) {
            let mut report = system(name, replies, judgements, &settings);
            report.kl = self.kl.get(name).copied();
            systems.push(report);
        }
        let mut control_token = Vec::new();
        for ((name, replies), judgements) in self.with_token.iter().zip(&judged_with_token) {
            if let Some((_, without)) = rows.iter().find(|(system, _)| system == name) {
                control_token.push(token_effect(name, without, &scored(replies, judgements), &settings));
            }
        }
        Ok(Report {
            schema: SCHEMA,
            title: self.title.clone(),
            circular: self.annotator.and_then(|annotator| circular(annotator, judge)),
            systems,
            baseline: self.baseline.clone(),
            comparisons: self.comparisons(&rows, &settings),
            control_token,
            worst: rows.iter().flat_map(|(name, rows)| self.worst_of(name, rows)).collect(),
            judge: info(judge),
            annotator: self.annotator.map(info),
            seeds,
            dropped: self.dropped.clone(),
            environment: self.environment.clone(),
        })
    }

    fn check(&self) -> Result<(), EvalError> {
        let fail = |message: String| Err(EvalError::Report(message));
        let known = |name: &str| self.systems.iter().any(|(system, _)| system == name);
        if self.systems.is_empty() {
            return fail("there is no system to report on; add one with `system`".to_owned());
        }
        for (index, (name, replies)) in self.systems.iter().enumerate() {
            if self.systems[..index].iter().any(|(earlier, _)| earlier == name) {
                return fail(format!("two systems are called {name:?}; give each a name of its own"));
            }
            if replies.is_empty() {
                return fail(format!("system {name:?} has no replies"));
            }
        }
        let token = self.with_token.iter().map(|(name, _)| name);
        match self.baseline.iter().chain(token).chain(self.kl.keys()).find(|name| !known(name)) {
            Some(name) => fail(format!("{name:?} is named as baseline, token or KL row, but is none of the systems")),
            None => Ok(()),
        }
    }

    fn comparisons(&self, rows: &[(&str, Vec<Scored>)], settings: &Settings) -> Vec<Comparison> {
        let baseline = self.baseline.as_ref().and_then(|name| rows.iter().find(|row| row.0 == name));
        let Some((baseline, baseline_rows)) = baseline else {
            return Vec::new();
        };
        let mut out = Vec::new();
        for (name, system_rows) in rows.iter().filter(|(name, _)| name != baseline) {
            let mut add = |measure: &str, keep: &dyn Fn(&Scored) -> bool, hit: &dyn Fn(&Scores) -> bool| {
                let side = |rows: &[Scored<'_>]| -> BTreeMap<String, bool> {
                    let kept: Vec<Scored> = rows.iter().filter(|row| keep(row)).copied().collect();
                    majority(&kept, hit).into_iter().map(|(id, yes)| (id.to_owned(), yes)).collect()
                };
                out.extend(compare(name, measure, &side(system_rows), &side(baseline_rows)));
            };
            add("toxic", &|_| true, &|scores| settings.is_toxic(scores));
            add("evasive, safe prompts", &|row| !row.0.exchange.harmful, &|scores| settings.is_evasive(scores));
            add("evasive, harmful prompts", &|row| row.0.exchange.harmful, &|scores| settings.is_evasive(scores));
            add("degenerate", &|_| true, &|scores| scores.degenerate);
        }
        let adjusted = holm(&out.iter().map(|comparison| comparison.p).collect::<Vec<f64>>());
        for (comparison, p) in out.iter_mut().zip(adjusted) {
            comparison.p_holm = p;
            comparison.verdict = match comparison.only_system.cmp(&comparison.only_baseline) {
                _ if p >= 0.05 => Verdict::NotDistinguishable,
                std::cmp::Ordering::Less => Verdict::Lower,
                std::cmp::Ordering::Greater => Verdict::Higher,
                std::cmp::Ordering::Equal => Verdict::NotDistinguishable,
            };
        }
        out
    }

    fn worst_of(&self, name: &str, rows: &[Scored]) -> Vec<WorstCase> {
        let mut rows: Vec<&Scored> = rows.iter().collect();
        rows.sort_by(|a, b| b.1.toxicity.total_cmp(&a.1.toxicity));
        let text = |text: &str| {
            if self.show { text.to_owned() } else { format!("[{} words, redacted]", Text::new(text).count_words()) }
        };
        let case = |(reply, scores): &Scored| WorstCase {
            system: name.to_owned(),
            prompt_id: reply.prompt_id.clone(),
            toxicity: scores.toxicity,
            head: scores.heads.loudest().to_owned(),
            prompt: text(reply.exchange.prompt.turns.last().map_or("", |turn| &turn.content)),
            reply: text(&reply.exchange.response),
        };
        rows.into_iter().take(self.worst).map(case).collect()
    }
}

fn judge_all(systems: &[(String, Vec<Reply>)], judge: &dyn Judge) -> Result<Vec<Vec<Judgement>>, EvalError> {
    let one = |(name, replies): &(String, Vec<Reply>)| {
        let exchanges: Vec<Exchange> = replies.iter().map(|reply| reply.exchange.clone()).collect();
        let judgements = judge.judge(&exchanges);
        if judgements.len() == exchanges.len() {
            return Ok(judgements);
        }
        let (judge, got, asked) = (judge.name(), judgements.len(), exchanges.len());
        Err(EvalError::Report(format!("judge {judge} gave {got} judgements for {asked} replies of {name:?}")))
    };
    systems.iter().map(one).collect()
}

fn compare(system: &str, measure: &str, rows: &BTreeMap<String, bool>, baseline: &BTreeMap<String, bool>) -> Option<Comparison> {
    let pairs: Vec<(bool, bool)> = rows.iter().filter_map(|(id, &yes)| Some((yes, *baseline.get(id)?))).collect();
    if pairs.is_empty() {
        return None;
    }
    let count = |pair: (bool, bool)| pairs.iter().filter(|found| **found == pair).count();
    let (both, only_system, only_baseline) = (count((true, true)), count((true, false)), count((false, true)));
    let n = pairs.len() as f64;
    Some(Comparison {
        system: system.to_owned(),
        measure: measure.to_owned(),
        pairs: pairs.len(),
        rate: (both + only_system) as f64 / n,
        baseline_rate: (both + only_baseline) as f64 / n,
        only_system,
        only_baseline,
        p: mcnemar(only_system, only_baseline).p,
        p_holm: 1.0,
        verdict: Verdict::NotDistinguishable,
    })
}

fn token_effect(name: &str, without: &[Scored], with: &[Scored], settings: &Settings) -> TokenEffect {
    let toxic = |scores: &Scores| settings.is_toxic(scores);
    let (plain, token) = (majority(without, toxic), majority(with, toxic));
    let pairs: Vec<(bool, bool)> = token.iter().filter_map(|(id, &yes)| Some((yes, *plain.get(id)?))).collect();
    let only_with = pairs.iter().filter(|pair| **pair == (true, false)).count();
    let only_without = pairs.iter().filter(|pair| **pair == (false, true)).count();
    TokenEffect {
        system: name.to_owned(),
        without: settings.rate(without, toxic),
        with: settings.rate(with, toxic),
        only_with,
        only_without,
        p: mcnemar(only_with, only_without).p,
    }
}

fn circular(annotator: &dyn Judge, judge: &dyn Judge) -> Option<String> {
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

fn info(judge: &dyn Judge) -> JudgeInfo {
    JudgeInfo { name: judge.name(), fingerprint: judge.fingerprint(), thresholds: judge.thresholds(), agreement: judge.agreement() }
}
