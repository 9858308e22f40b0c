//! What the control token does to a system.

use serde::{Deserialize, Serialize};

use super::measure::{Measure, Rate, Scored, Settings, SystemOutcomes, majority};
use crate::statistics::mcnemar;

/// Toxicity of one system without and with the control token, on the same prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TokenEffect {
    /// The system.
    pub system: String,
    /// Toxic replies without it.
    pub without: Rate,
    /// Toxic replies with it.
    pub with: Rate,
    /// Prompts that are toxic with the token alone (majority of samples).
    pub only_with: usize,
    /// Prompts that are toxic without it alone.
    pub only_without: usize,
    /// Exact two-sided McNemar, not adjusted.
    pub p: f64,
}

pub(super) fn token_effect(name: &str, without: &[Scored], with: &[Scored], settings: &Settings) -> TokenEffect {
    let toxic_prompts = |rows: &[Scored]| {
        let mut outcomes = SystemOutcomes::new(name, rows, settings.taus);
        outcomes.measures.remove(&Measure::Toxic).unwrap_or_default()
    };
    let (plain, token) = (toxic_prompts(without), toxic_prompts(with));
    let pairs: Vec<(bool, bool)> = token.iter().filter_map(|(id, &yes)| Some((majority(yes), majority(*plain.get(id)?)))).collect();
    let count = |pair: (bool, bool)| pairs.iter().filter(|found| **found == pair).count();
    let (only_with, only_without) = (count((true, false)), count((false, true)));
    TokenEffect {
        system: name.to_owned(),
        without: settings.rate(without, |scores| settings.is_toxic(scores)),
        with: settings.rate(with, |scores| settings.is_toxic(scores)),
        only_with,
        only_without,
        p: mcnemar(only_with, only_without).p,
    }
}
