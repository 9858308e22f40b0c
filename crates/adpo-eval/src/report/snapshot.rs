//! What a snapshot test compares: a line for each measure, and one for each prompt.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::markdown::{line, push};
use super::{Measure, Report, Verdict};
use crate::judge::{Judgement, Thresholds};
use crate::response::Response;

/// What a judge found in a response. One in which it found nothing is fine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// At or above the judge's threshold of toxicity.
    Toxic,
    /// At or above its threshold of evasiveness. To a prompt marked harmful that may be right.
    Evasive,
    /// Below its threshold of coherence.
    Incoherent,
    /// Empty, looping, copied or gibberish.
    Degenerate,
    /// The judge gave no scores.
    Unscored,
}

impl Finding {
    /// Its name in snapshots and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Toxic => "toxic",
            Self::Evasive => "evasive",
            Self::Incoherent => "incoherent",
            Self::Degenerate => "degenerate",
            Self::Unscored => "unscored",
        }
    }

    fn of(judgement: &Judgement, taus: Thresholds) -> Vec<Self> {
        let Some(scores) = judgement.scores() else { return vec![Self::Unscored] };
        let verdicts = scores.verdicts(taus);
        let found = [
            (Self::Toxic, verdicts.toxic),
            (Self::Evasive, verdicts.evasive),
            (Self::Incoherent, !verdicts.coherent),
            (Self::Degenerate, scores.degenerate),
        ];
        found.into_iter().filter_map(|(finding, is)| is.then_some(finding)).collect()
    }
}

/// What was found in the responses to one prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PromptFindings {
    /// The prompt's id.
    pub prompt_id: String,
    /// Whether it is marked harmful.
    pub harmful: bool,
    /// For each system that answered, in how many of its responses the judge found it `toxic`, `evasive`, `incoherent` or `degenerate`, or
    /// left it `unscored`; nothing where all are fine.
    pub systems: BTreeMap<String, BTreeMap<Finding, usize>>,
}

/// The findings of all prompts, in the order in which they come up.
pub(super) fn findings(systems: &[(&str, &[Response], &[Judgement])], taus: Thresholds) -> Vec<PromptFindings> {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut prompts: Vec<PromptFindings> = Vec::new();
    for (system, responses, judgements) in systems {
        for (response, judgement) in responses.iter().zip(*judgements) {
            let place = *places.entry(response.prompt_id()).or_insert_with(|| {
                let (prompt_id, harmful) = (response.prompt_id().to_owned(), response.is_harmful());
                prompts.push(PromptFindings { prompt_id, harmful, systems: BTreeMap::new() });
                prompts.len() - 1
            });
            let found = prompts[place].systems.entry((*system).to_owned()).or_default();
            for finding in Finding::of(judgement, taus) {
                *found.entry(finding).or_default() += 1;
            }
        }
    }
    prompts
}

/// A line of the snapshot: what is counted, on prompts marked harmful or not where that matters, and which test it goes by.
const COUNTED: [(&str, Finding, Option<bool>, Option<Measure>); 6] = [
    ("toxic", Finding::Toxic, None, Some(Measure::Toxic)),
    ("evasive", Finding::Evasive, Some(false), Some(Measure::EvasiveSafe)),
    ("evasive, harmful prompts", Finding::Evasive, Some(true), Some(Measure::EvasiveHarmful)),
    ("incoherent", Finding::Incoherent, None, None),
    ("degenerate", Finding::Degenerate, None, Some(Measure::Degenerate)),
    ("unscored", Finding::Unscored, None, None),
];

impl Report {
    /// What a test should compare: one line for each measure, then one for each prompt with what the judge found in the responses to it.
    /// Where the judge changes its mind on one response, the line of its measure and that of its prompt change, and no other.
    ///
    /// All that moves with every word or belongs to one run is left out: means, intervals, diversity, clocks, paths, and what is known of the
    /// judge. [`Report::json`] has it.
    pub fn snapshot(&self) -> String {
        let mut out = String::new();
        push(&mut out, line(&self.title));
        push(&mut out, format!("judge: {} {}", line(&self.judge.name), line(&self.judge.fingerprint)));
        if let Some(circular) = &self.circular {
            push(&mut out, format!("circular: {}", line(circular)));
        }
        out.push('\n');
        let by_system = |cell: &dyn Fn(&str) -> Option<String>| {
            let cells = self.systems.iter().filter_map(|system| Some(format!("{} {}", line(&system.name), cell(&system.name)?)));
            cells.collect::<Vec<String>>().join("; ")
        };
        let responses = |name: &str| self.systems.iter().find(|system| system.name == name).map(|system| system.responses.to_string());
        push(&mut out, format!("responses: {}", by_system(&responses)));
        for (name, finding, harmful, measure) in COUNTED {
            let cell = |system: &str| Some(format!("{}{}", self.count(system, finding, harmful), self.direction(system, measure)));
            push(&mut out, format!("{name}: {}", by_system(&cell)));
        }
        for effect in &self.control_token {
            let (system, form, with) = (line(&effect.system), effect.form.head(), &effect.with);
            push(&mut out, format!("toxic, {form}: {system} {} of {}", with.hits, with.n));
        }
        out.push('\n');
        for prompt in &self.prompts {
            let harmful = if prompt.harmful { " (harmful)" } else { "" };
            let cell = |system: &str| Some(told(prompt.systems.get(system)?, self.is_one_each()));
            push(&mut out, format!("{}{harmful}: {}", line(&prompt.prompt_id), by_system(&cell)));
        }
        out
    }

    fn count(&self, system: &str, finding: Finding, harmful: Option<bool>) -> usize {
        let prompts = self.prompts.iter().filter(|prompt| harmful.is_none_or(|harmful| prompt.harmful == harmful));
        prompts.filter_map(|prompt| prompt.systems.get(system)?.get(&finding)).sum()
    }

    /// Where a winner may be named.
    fn direction(&self, system: &str, measure: Option<Measure>) -> &'static str {
        let comparison = self.comparisons.iter().find(|c| c.system == system && Some(c.measure) == measure);
        match comparison.map(|comparison| comparison.verdict) {
            Some(Verdict::Lower) => " (lower)",
            Some(Verdict::Higher) => " (higher)",
            Some(Verdict::NotDistinguishable) | None => "",
        }
    }

    /// Whether no system has several responses to a prompt.
    fn is_one_each(&self) -> bool {
        self.systems.iter().all(|system| system.samples <= 1)
    }
}

fn told(found: &BTreeMap<Finding, usize>, is_one_each: bool) -> String {
    if found.is_empty() {
        return "fine".to_owned();
    }
    let one = |(finding, count): (&Finding, &usize)| {
        if is_one_each { finding.name().to_owned() } else { format!("{count} {}", finding.name()) }
    };
    found.iter().map(one).collect::<Vec<String>>().join(", ")
}
