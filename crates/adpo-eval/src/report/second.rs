//! A second judge on the same responses: what both find, and how often they differ. Where two verdicts on one response differ, one of
//! the judges is wrong, so their rates of error sum to at least the share of differing verdicts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::instrument::JudgeInfo;
use super::measure::{Rate, Settings, scored};
use crate::judge::{Judge, Judgement, Verdicts, shared_rows};
use crate::response::Response;
use crate::statistics::{Confusion, Interval};

/// What a second judge finds in the responses of all systems, beside the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SecondJudge {
    /// Who judged.
    pub judge: JudgeInfo,
    /// Training rows that both judges learnt from: errors in these labels are errors of both.
    pub shared_rows: usize,
    /// The systems, in the order of the report.
    pub systems: Vec<SecondSystem>,
    /// How far the verdicts of both agree, over the responses of all systems.
    pub agreement: Vec<JudgeAgreement>,
}

/// One system by the second judge and its thresholds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SecondSystem {
    /// Its name.
    pub name: String,
    /// Responses by the state of their judgement.
    pub judgements: BTreeMap<String, usize>,
    /// Toxic responses.
    pub toxic: Rate,
    /// Evasive responses to safe prompts.
    pub evasive_safe: Option<Rate>,
    /// Evasive responses to prompts marked harmful.
    pub evasive_harmful: Option<Rate>,
    /// Mean coherence.
    pub coherence: Interval,
}

/// Two judges' verdicts on the same responses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct JudgeAgreement {
    /// Which verdict: `toxic`, `evasive` or `coherent`.
    pub verdict: String,
    /// The share of responses, of those with scores of both, on which the verdicts differ: the least that the judges' rates of error sum to.
    pub differ: Rate,
    /// Of these, responses to which the first judge says yes.
    pub only_first: usize,
    /// Cohen's κ; none where both give one verdict throughout.
    pub kappa: Option<f64>,
}

/// A verdict by its name.
type Named = (&'static str, fn(Verdicts) -> bool);

const VERDICTS: [Named; 3] =
    [("toxic", |verdicts| verdicts.toxic), ("evasive", |verdicts| verdicts.evasive), ("coherent", |verdicts| verdicts.coherent)];

/// The second judge's part of a report; `judged` are the first judge's judgements of each system's responses, `seconds` the second's.
pub(super) fn second_judge(
    systems: &[(String, Vec<Response>)],
    (first, judged): (&dyn Judge, &[Vec<Judgement>]),
    (second, seconds): (&dyn Judge, &[Vec<Judgement>]),
    settings: &Settings,
) -> SecondJudge {
    let taus = second.thresholds();
    let own = Settings { taus, ..*settings };
    let one = |((name, responses), judgements): (&(String, Vec<Response>), &Vec<Judgement>)| {
        let rows = scored(responses, judgements);
        let (harmful, safe): (Vec<_>, Vec<_>) = rows.iter().copied().partition(|row| row.0.is_harmful());
        let evasive = |rows: &[_]| (!rows.is_empty()).then(|| own.rate(rows, |scores| scores.verdicts(taus).evasive));
        let mut states = BTreeMap::new();
        for judgement in judgements {
            *states.entry(judgement.state().to_owned()).or_insert(0) += 1;
        }
        SecondSystem {
            name: name.clone(),
            judgements: states,
            toxic: own.rate(&rows, |scores| own.is_toxic(scores)),
            evasive_safe: evasive(&safe),
            evasive_harmful: evasive(&harmful),
            coherence: own.mean(&rows, |scores| scores.coherence),
        }
    };
    // Prompts are the units: those of all systems are the same, so a prompt's responses count together.
    let mut pairs: BTreeMap<&str, Vec<(Verdicts, Verdicts)>> = BTreeMap::new();
    for ((_, responses), (firsts, seconds)) in systems.iter().zip(judged.iter().zip(seconds)) {
        for (response, (a, b)) in responses.iter().zip(firsts.iter().zip(seconds)) {
            if let Some((a, b)) = a.scores().zip(b.scores()) {
                pairs.entry(response.prompt_id()).or_default().push((a.verdicts(settings.taus), b.verdicts(taus)));
            }
        }
    }
    let agreement = |(name, says): Named| {
        let prompts: Vec<Vec<(bool, bool)>> =
            pairs.values().map(|of_prompt| of_prompt.iter().map(|&(a, b)| (says(a), says(b))).collect()).collect();
        let differing = |of_prompt: &Vec<(bool, bool)>| of_prompt.iter().filter(|(a, b)| a != b).count();
        let counts: Vec<(usize, usize)> = prompts.iter().map(|of_prompt| (differing(of_prompt), of_prompt.len())).collect();
        let table = Confusion::count(prompts.into_iter().flatten());
        JudgeAgreement {
            verdict: name.to_owned(),
            differ: settings.rate_of_prompts(&counts),
            // The second judge's verdict stands where a label would.
            only_first: table.false_positive,
            kappa: Some(table.kappa()).filter(|kappa| kappa.is_finite()),
        }
    };
    SecondJudge {
        judge: JudgeInfo::of(second),
        shared_rows: shared_rows(first, second),
        systems: systems.iter().zip(seconds).map(one).collect(),
        agreement: VERDICTS.into_iter().map(agreement).collect(),
    }
}
