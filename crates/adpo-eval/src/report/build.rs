use std::collections::{BTreeMap, BTreeSet};

use super::compare::comparisons;
use super::example::{examples, redacted};
use super::fluency::{Fluency, mean_nats};
use super::instrument::{JudgeInfo, circular, seen_prompts};
use super::measure::{Outcomes, Scored, Settings, SystemOutcomes, scored};
use super::sanity::sanity_rows;
use super::second::second_judge;
use super::snapshot::findings;
use super::system::{KlByRole, system};
use super::token::{adjusted, token_effect};
use super::{Report, SCHEMA, SystemReport, WorstCase};
use crate::diversity::count_words;
use crate::error::EvalError;
use crate::judge::{Exchange, Judge, Judgement, Scores};
use crate::response::{Responder, Response, Responses};
use crate::samples::ScoredResponse;
use crate::token_form::TokenForm;

/// Resamples for intervals, and sign patterns for tests.
pub(super) const DRAWS: usize = 10_000;

/// A report, and what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The report.
    pub report: Report,
    /// The outcomes of each prompt that its tests rest on: what [`super::OverSeeds`] is made of.
    pub outcomes: Outcomes,
    /// Every response with its scores: the systems' in the order given, then those to prompts with the control token.
    pub samples: Vec<ScoredResponse>,
}

/// Collects what a report is made of; [`ReportBuilder::build`] judges and computes.
#[derive(Default)]
pub struct ReportBuilder<'a> {
    title: String,
    systems: Vec<(String, Vec<Response>)>,
    with_token: Vec<((String, TokenForm), Vec<Response>)>,
    kl: BTreeMap<String, KlByRole>,
    kl_policy: BTreeMap<String, f64>,
    baseline: Option<String>,
    annotator: Option<&'a dyn Judge>,
    second_judge: Option<&'a dyn Judge>,
    fluency: Option<&'a dyn Fluency>,
    seeds: BTreeMap<String, u64>,
    dropped: BTreeMap<String, usize>,
    notes: Vec<String>,
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
    pub fn system(mut self, name: impl Into<String>, responses: Vec<Response>) -> Self {
        self.systems.push((name.into(), responses));
        self
    }

    /// Adds responses that a system already added gave to the same prompts *with* the control token in some form.
    #[must_use]
    pub fn with_token(mut self, name: impl Into<String>, form: TokenForm, responses: Vec<Response>) -> Self {
        self.with_token.push(((name.into(), form), responses));
        self
    }

    /// Adds everybody in files of responses: who was asked without the control token is a system, the others belong to its token audit.
    #[must_use]
    pub fn responses(self, read: Responses) -> Self {
        read.by.into_iter().fold(self, |report, (by, responses)| match by.control_token {
            None => report.system(by.model, responses),
            Some(form) => report.with_token(by.model, form, responses),
        })
    }

    /// Adds the log-ratios at the end of a system's training.
    #[must_use]
    pub fn kl(mut self, name: impl Into<String>, kl: KlByRole) -> Self {
        self.kl.insert(name.into(), kl);
        self
    }

    /// Adds a system's mean per-token log-ratio on its own samples, in nats.
    #[must_use]
    pub fn kl_policy(mut self, name: impl Into<String>, nats: f64) -> Self {
        self.kl_policy.insert(name.into(), nats);
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

    /// Asks a second judge of the same responses; the report has what it finds beside the first, and how often the two differ.
    #[must_use]
    pub fn second_judge(mut self, judge: &'a dyn Judge) -> Self {
        self.second_judge = Some(judge);
        self
    }

    /// Lets a language model read all responses, for their fluency.
    #[must_use]
    pub fn fluency(mut self, model: &'a dyn Fluency) -> Self {
        self.fluency = Some(model);
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

    /// Adds a sentence that a reader has to know before the numbers.
    #[must_use]
    pub fn note(mut self, sentence: impl Into<String>) -> Self {
        self.notes.push(sentence.into());
        self
    }

    /// Records what is true of this run alone: times, paths, versions.
    #[must_use]
    pub fn environment(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// How many of the most toxic responses to list for each system (3 unless set), and whether to show toxic text, here and in the
    /// examples.
    #[must_use]
    pub fn worst(mut self, count: usize, show: bool) -> Self {
        (self.worst, self.show) = (count, show);
        self
    }

    /// Judges all responses and computes the report.
    ///
    /// # Errors
    /// [`EvalError::Report`] for a system without a name of its own or without responses, a baseline, KL or token row of
    /// an unknown system, a KL that is not finite, a second judge that is the first, or a judge that does not answer once
    /// per exchange, leaves [0, 1], or scores none of a system's responses.
    pub fn build(&self, judge: &dyn Judge) -> Result<Report, EvalError> {
        self.evaluate(judge).map(|evaluation| evaluation.report)
    }

    /// The report with all that it rests on.
    ///
    /// # Errors
    /// As [`ReportBuilder::build`].
    pub fn evaluate(&self, judge: &dyn Judge) -> Result<Evaluation, EvalError> {
        self.check()?;
        let mut seeds = self.seeds.clone();
        let seed = *seeds.entry("bootstrap".to_owned()).or_insert(0);
        let settings = Settings { taus: judge.thresholds(), draws: DRAWS, seed };
        let (judged, judged_with_token) = (judge_all(&self.systems, judge)?, judge_all(&self.with_token, judge)?);
        let rows: Vec<(&str, Vec<Scored>)> = self
            .systems
            .iter()
            .zip(&judged)
            .map(|((name, responses), judgements)| (name.as_str(), scored(responses, judgements)))
            .collect();
        let info = JudgeInfo::of(judge);
        let budget = self.systems.iter().map(|(_, responses)| {
            let texts: Vec<&str> = responses.iter().map(|response| response.text.as_str()).collect();
            count_words(&texts)
        });
        let budget = budget.min().unwrap_or(0);
        let measured = |name: &str, responses: &[Response], judgements: &[Judgement]| -> Result<SystemReport, EvalError> {
            let fluency = self.fluency.map(|model| mean_nats(model, responses, &settings)).transpose()?.flatten();
            Ok(SystemReport { fluency, ..system(name, responses, judgements, &settings, budget, &info.agreement) })
        };
        let one = |((name, responses), judgements): (&(String, Vec<Response>), &Vec<Judgement>)| {
            let (kl, kl_policy) = (self.kl.get(name).copied(), self.kl_policy.get(name).copied());
            Ok(SystemReport { kl, kl_policy, ..measured(name, responses, judgements)? })
        };
        let systems = self.systems.iter().zip(&judged).map(one).collect::<Result<Vec<SystemReport>, EvalError>>()?;
        let reference = self.systems.iter().find(|(name, _)| Some(name) == self.baseline.as_ref()).or(self.systems.first());
        let known = sanity_rows(reference.map_or(&[], |(_, responses)| responses), seed);
        let judged_known = judge_all(&known, judge)?;
        let sanity = known.iter().zip(&judged_known).map(|((name, responses), judgements)| measured(name, responses, judgements));
        let sanity = sanity.collect::<Result<Vec<SystemReport>, EvalError>>()?;
        let said: Vec<(&str, &[Response], &[Judgement])> = self
            .systems
            .iter()
            .zip(&judged)
            .map(|((name, responses), judgements)| (name.as_str(), responses.as_slice(), judgements.as_slice()))
            .collect();
        let outcomes = Outcomes { systems: rows.iter().map(|(name, rows)| SystemOutcomes::new(name, rows, settings.taus)).collect() };
        let effect = |(((name, form), responses), judgements): (&((String, TokenForm), Vec<Response>), &Vec<Judgement>)| {
            let (_, without) = rows.iter().find(|(system, _)| system == name)?;
            Some(token_effect(name, *form, without, &scored(responses, judgements), &settings))
        };
        let beside = |second: &dyn Judge| -> Result<_, EvalError> {
            if second.fingerprint() == judge.fingerprint() {
                let name = judge.name();
                return Err(EvalError::Report(format!(
                    "the second judge is {name} as well; that it agrees with itself says nothing, name another"
                )));
            }
            let seconds = judge_all(&self.systems, second)?;
            Ok(second_judge(&self.systems, (judge, &judged), (second, &seconds), &settings))
        };
        let second_judge = self.second_judge.map(beside).transpose()?;
        let baseline = self.baseline.as_deref();
        let mut environment = self.environment.clone();
        environment.insert("adpo-eval".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let report = Report {
            schema: SCHEMA,
            title: self.title.clone(),
            circular: self.annotator.and_then(|annotator| circular(annotator, judge)),
            prompts_seen_by_judge: seen_prompts(judge, self.systems.iter().flat_map(|(_, responses)| responses)),
            notes: self.notes.iter().cloned().chain(self.caveats(&systems)).collect(),
            systems,
            sanity,
            prompts: findings(&said, settings.taus),
            examples: examples(&said, judge, seed, self.show),
            fluency: self.fluency.map(Fluency::name),
            baseline: self.baseline.clone(),
            comparisons: baseline.map(|name| comparisons(&outcomes, name, &info.agreement, &settings)).unwrap_or_default(),
            control_token: adjusted(self.with_token.iter().zip(&judged_with_token).filter_map(effect).collect()),
            worst: rows.iter().flat_map(|(name, rows)| self.worst_of(name, rows)).collect(),
            judge: info,
            second_judge,
            annotator: self.annotator.map(JudgeInfo::of),
            seeds,
            dropped: self.dropped.clone(),
            environment,
        };
        let all_scored = |by: &Responder, responses: &[Response], judgements: &[Judgement]| -> Vec<ScoredResponse> {
            let both = responses.iter().zip(judgements);
            both.map(|(response, judgement)| ScoredResponse::new(by, response, judgement, settings.taus)).collect()
        };
        let mut samples = Vec::new();
        for ((name, responses), judgements) in self.systems.iter().zip(&judged) {
            samples.extend(all_scored(&Responder::plain(name), responses, judgements));
        }
        for (((name, form), responses), judgements) in self.with_token.iter().zip(&judged_with_token) {
            let by = Responder { model: name.clone(), control_token: Some(*form) };
            samples.extend(all_scored(&by, responses, judgements));
        }
        Ok(Evaluation { report, outcomes, samples })
    }

    /// What the responses themselves make hard to compare.
    fn caveats(&self, systems: &[SystemReport]) -> Vec<String> {
        let mut notes = Vec::new();
        for system in systems {
            let lost: Vec<String> =
                system.judgements.iter().filter(|(state, _)| *state != "scored").map(|(state, n)| format!("{n} {state}")).collect();
            if !lost.is_empty() {
                notes.push(format!(
                    "{} of {} responses of {} count nowhere: {}",
                    lost_responses(system),
                    system.responses,
                    system.name,
                    lost.join(", ")
                ));
            }
        }
        let samples: BTreeSet<usize> = systems.iter().map(|system| system.samples).collect();
        if samples.len() > 1 {
            notes.push(
                "the systems have different numbers of responses to a prompt: do not compare their rates of any toxic response".to_owned(),
            );
        }
        if systems.iter().all(|system| system.harmful_prompts == 0) {
            notes.push(
                "no prompt is marked harmful: harmful compliance is not looked for, and all evasion counts as over-refusal".to_owned(),
            );
        }
        if let Some((baseline, responses)) = self.systems.iter().find(|(name, _)| Some(name) == self.baseline.as_ref()) {
            let prompts =
                |responses: &[Response]| responses.iter().map(|response| response.prompt_id().to_owned()).collect::<BTreeSet<String>>();
            let theirs = prompts(responses);
            for (name, responses) in self.systems.iter().filter(|(name, _)| name != baseline) {
                let here = prompts(responses);
                let common = here.intersection(&theirs).count();
                if common < here.len().max(theirs.len()) {
                    let (n, m) = (here.len(), theirs.len());
                    notes.push(format!("{name} answered {n} prompts and {baseline} {m}; tests rest on the {common} that both answered"));
                }
            }
        }
        notes
    }

    fn check(&self) -> Result<(), EvalError> {
        let fail = |message: String| Err(EvalError::Report(message));
        let known = |name: &str| self.systems.iter().any(|(system, _)| system == name);
        if self.systems.is_empty() {
            return fail("there is no system to report on; add one with `system`".to_owned());
        }
        for (index, (name, responses)) in self.systems.iter().enumerate() {
            if self.systems[..index].iter().any(|(earlier, _)| earlier == name) {
                return fail(format!("two systems are called {name:?}; give each a name of its own"));
            }
            if responses.is_empty() {
                return fail(format!("system {name:?} has no responses"));
            }
        }
        let token = self.with_token.iter().map(|((name, _), _)| name);
        let named = self.baseline.iter().chain(token).chain(self.kl.keys()).chain(self.kl_policy.keys());
        if let Some(name) = named.into_iter().find(|name| !known(name)) {
            let systems: Vec<&str> = self.systems.iter().map(|(system, _)| system.as_str()).collect();
            let systems = systems.join(", ");
            return fail(format!("{name:?} is named as baseline, token or KL row, but is none of the systems ({systems})"));
        }
        let by_role = self.kl.iter().flat_map(|(name, kl)| [kl.chosen, kl.rejected, kl.toxic.unwrap_or(0.0)].map(|nats| (name, nats)));
        match by_role.chain(self.kl_policy.iter().map(|(name, nats)| (name, *nats))).find(|(_, nats)| !nats.is_finite()) {
            Some((name, nats)) => fail(format!("the log-ratio of {name:?} is {nats}")),
            None => Ok(()),
        }
    }

    fn worst_of(&self, name: &str, rows: &[Scored]) -> Vec<WorstCase> {
        let mut rows: Vec<&Scored> = rows.iter().collect();
        rows.sort_by(|a, b| b.1.toxicity.total_cmp(&a.1.toxicity));
        let text = |text: &str| redacted(text, self.show);
        let case = |(response, scores): &Scored| WorstCase {
            system: name.to_owned(),
            prompt_id: response.prompt_id().to_owned(),
            toxicity: scores.toxicity,
            head: scores.heads.loudest().to_owned(),
            prompt: text(response.prompt.value.dialogue.turns.last().map_or("", |turn| &turn.content)),
            response: text(&response.text),
        };
        rows.into_iter().take(self.worst).map(case).collect()
    }
}

fn judge_all<K: std::fmt::Debug>(systems: &[(K, Vec<Response>)], judge: &dyn Judge) -> Result<Vec<Vec<Judgement>>, EvalError> {
    let one = |(name, responses): &(K, Vec<Response>)| {
        let exchanges: Vec<Exchange<'_>> = responses.iter().map(|response| response.exchange()).collect();
        let judgements = judge.judge(&exchanges);
        let (judge, got, asked) = (judge.name(), judgements.len(), exchanges.len());
        if got != asked {
            return Err(EvalError::Report(format!("judge {judge} gave {got} judgements for {asked} responses of {name:?}")));
        }
        if judgements.iter().all(|judgement| judgement.scores().is_none()) {
            let states: BTreeSet<&str> = judgements.iter().map(Judgement::state).collect();
            let states: Vec<&str> = states.into_iter().collect();
            let states = states.join(", ");
            return Err(EvalError::Report(format!("judge {judge} scored none of the {asked} responses of {name:?} ({states})")));
        }
        let numbers = |scores: &Scores| {
            let heads = scores.heads;
            [scores.toxicity, heads.abuse, heads.context, heads.harm, scores.evasiveness, scores.coherence]
        };
        match judgements.iter().filter_map(Judgement::scores).find(|scores| numbers(scores).iter().any(|x| !(0.0..=1.0).contains(x))) {
            Some(scores) => Err(EvalError::Report(format!("judge {judge} left [0, 1] on a response of {name:?}: {scores:?}"))),
            None => Ok(judgements),
        }
    };
    systems.iter().map(one).collect()
}

fn lost_responses(system: &SystemReport) -> usize {
    system.responses - system.judgements.get("scored").copied().unwrap_or(0)
}
