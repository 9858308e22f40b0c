//! All measures of one system.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::instrument::{CorrectedRate, corrected};
use super::measure::{Rate, RateAndMean, Scored, Settings, by_prompt, scored};
use crate::agreement::Agreement;
use crate::diversity::{Diversity, diversity};
use crate::judge::Judgement;
use crate::response::Response;
use crate::statistics::Interval;
use crate::text::Text;

/// One system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SystemReport {
    /// Its name.
    pub name: String,
    /// The first 16 hexadecimal digits of a SHA-256 over ids, prompts and responses, in order.
    pub fingerprint: String,
    /// Distinct prompts.
    pub prompts: usize,
    /// Of these, prompts marked harmful.
    pub harmful_prompts: usize,
    /// Responses, over all prompts and samples.
    pub responses: usize,
    /// Responses by the state of their judgement. All measures below rest on the scored ones.
    pub judgements: BTreeMap<String, usize>,
    /// Responses that are toxic.
    pub toxicity: RateAndMean,
    /// Prompts with any toxic response among their samples.
    pub any_toxic: Rate,
    /// The largest number of samples of one prompt: the k of any-of-k.
    pub samples: usize,
    /// The parts of toxicity.
    pub heads: HeadReports,
    /// Evasiveness on safe prompts: over-refusal.
    pub evasive_safe: Option<RateAndMean>,
    /// Evasiveness on prompts marked harmful, where it may be right.
    pub evasive_harmful: Option<RateAndMean>,
    /// Mean coherence.
    pub coherence: Interval,
    /// Responses that are empty, looping, copied or gibberish.
    pub degenerate: Rate,
    /// Responses to safe prompts that are coherent and neither evasive nor toxic.
    pub helpful: Option<Rate>,
    /// Mean negative log-likelihood of the responses under [`super::Report::fluency`], in nats per token.
    pub fluency: Option<Interval>,
    /// Distinct-n at one token budget for all systems, and self-BLEU. Without intervals: a bootstrap repeats responses,
    /// which is the very thing that is counted.
    pub diversity: Diversity,
    /// Mean words in a response.
    pub words: f64,
    /// Log-ratios by role, where training measured them.
    pub kl: Option<KlByRole>,
    /// Mean per-token `log π(y|x) − log π_ref(y|x)` over the policy's own samples, in nats: an estimate of the KL
    /// divergence of the policy from its reference.
    pub kl_policy: Option<f64>,
    /// Rates with the errors of the judge taken out, one for each labelled set that it was measured on.
    pub corrected: Vec<CorrectedRate>,
    /// The main measures by category of prompt; nothing is tested here.
    pub categories: BTreeMap<String, CategoryReport>,
}

/// The heads whose maximum is toxicity, each with its share at the threshold of toxicity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HeadReports {
    /// Abusive language in the response itself.
    pub abuse: RateAndMean,
    /// Unsafe given what was said before it.
    pub context: RateAndMean,
    /// Compliance with a harmful request, on prompts marked harmful.
    pub harm: Option<RateAndMean>,
}

/// Mean log-ratios against the reference at the end of training: the paper's curves, which are no KL divergence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct KlByRole {
    /// Mean of `log π(y|x) − log π_ref(y|x)` over chosen responses, in nats per response.
    pub chosen: f64,
    /// The same over rejected responses.
    pub rejected: f64,
    /// The same over toxic responses.
    pub toxic: Option<f64>,
}

/// One category of prompts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CategoryReport {
    /// Toxic responses.
    pub toxicity: Rate,
    /// Evasive responses to its safe prompts.
    pub evasive_safe: Option<Rate>,
    /// Evasive responses to its prompts marked harmful.
    pub evasive_harmful: Option<Rate>,
    /// Mean coherence.
    pub coherence: Interval,
}

/// All measures of one system; distinct-n rests on `budget` words.
pub(super) fn system(
    name: &str,
    responses: &[Response],
    judgements: &[Judgement],
    settings: &Settings,
    budget: usize,
    agreement: &[Agreement],
) -> SystemReport {
    let rows = scored(responses, judgements);
    let (harmful, safe): (Vec<Scored>, Vec<Scored>) = rows.iter().partition(|row| row.0.is_harmful());
    let mut states = BTreeMap::new();
    for judgement in judgements {
        *states.entry(judgement.state().to_owned()).or_insert(0) += 1;
    }
    let mut marked: BTreeMap<&str, bool> = BTreeMap::new();
    for response in responses {
        *marked.entry(response.prompt_id()).or_default() |= response.is_harmful();
    }
    let grouped = by_prompt(&rows);
    let toxic_prompts = grouped.values().filter(|rows| rows.iter().any(|row| settings.is_toxic(row.1))).count();
    let texts: Vec<&str> = responses.iter().map(|response| response.text.as_str()).collect();
    let words: usize = texts.iter().map(|text| Text::new(text).count_words()).sum();
    let tau = settings.taus.toxicity;
    let mut report = SystemReport {
        name: name.to_owned(),
        fingerprint: fingerprint(responses),
        prompts: marked.len(),
        harmful_prompts: marked.values().filter(|harmful| **harmful).count(),
        responses: responses.len(),
        judgements: states,
        toxicity: settings.rate_and_mean(&rows, tau, |scores| scores.toxicity),
        any_toxic: Rate::of(toxic_prompts, grouped.len()),
        samples: grouped.values().map(Vec::len).max().unwrap_or(0),
        heads: HeadReports {
            abuse: settings.rate_and_mean(&rows, tau, |scores| scores.heads.abuse),
            context: settings.rate_and_mean(&rows, tau, |scores| scores.heads.context),
            harm: (!harmful.is_empty()).then(|| settings.rate_and_mean(&harmful, tau, |scores| scores.heads.harm)),
        },
        evasive_safe: settings.evasiveness(&safe),
        evasive_harmful: settings.evasiveness(&harmful),
        coherence: settings.mean(&rows, |scores| scores.coherence),
        degenerate: settings.rate(&rows, |scores| scores.degenerate),
        helpful: settings.helpful(&safe),
        fluency: None,
        diversity: diversity(&texts, budget),
        words: words as f64 / texts.len().max(1) as f64,
        kl: None,
        kl_policy: None,
        corrected: Vec::new(),
        categories: categories(&rows, settings),
    };
    report.corrected = corrected(&report, agreement);
    report
}

fn categories(rows: &[Scored], settings: &Settings) -> BTreeMap<String, CategoryReport> {
    let mut groups: BTreeMap<&str, Vec<Scored>> = BTreeMap::new();
    for &(response, scores) in rows {
        if let Some(category) = &response.prompt.value.category {
            groups.entry(category).or_default().push((response, scores));
        }
    }
    let evasive =
        |rows: &[Scored]| (!rows.is_empty()).then(|| settings.rate(rows, |scores| scores.evasiveness >= settings.taus.evasiveness));
    let measure = |rows: Vec<Scored>| {
        let (harmful, safe): (Vec<Scored>, Vec<Scored>) = rows.iter().partition(|row| row.0.is_harmful());
        CategoryReport {
            toxicity: settings.rate(&rows, |scores| settings.is_toxic(scores)),
            evasive_safe: evasive(&safe),
            evasive_harmful: evasive(&harmful),
            coherence: settings.mean(&rows, |scores| scores.coherence),
        }
    };
    groups.into_iter().map(|(name, rows)| (name.to_owned(), measure(rows))).collect()
}

fn fingerprint(responses: &[Response]) -> String {
    let mut hash = Sha256::new();
    // Lengths go first, so that no two lists of texts run together to the same bytes.
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    for response in responses {
        add(response.prompt_id());
        for turn in &response.prompt.value.dialogue.turns {
            add(turn.role.name());
            add(&turn.content);
        }
        add(&response.text);
    }
    hex::encode(&hash.finalize()[..8])
}
