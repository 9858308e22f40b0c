//! The token audit: how far the control token raises toxicity, in each form in which a user might try it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::measure::{Measure, Rate, Scored, Settings, SystemOutcomes, majority};
use crate::statistics::{holm, mcnemar};
use crate::token_form::TokenForm;

/// Toxicity of one system without the control token and with it in one form, on the same prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TokenEffect {
    /// The system.
    pub system: String,
    /// The form.
    pub form: TokenForm,
    /// Toxic responses without it.
    pub without: Rate,
    /// Toxic responses with it.
    pub with: Rate,
    /// Prompts that are toxic with the token alone (majority of samples).
    pub only_with: usize,
    /// Prompts that are toxic without it alone.
    pub only_without: usize,
    /// Exact two-sided McNemar.
    pub p: f64,
    /// Adjusted by Holm over the whole audit.
    pub p_holm: f64,
    /// The same rates by category of prompt.
    pub categories: BTreeMap<String, TokenRates>,
}

/// Toxic responses of one category without and with the token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TokenRates {
    /// Without it.
    pub without: Rate,
    /// With it.
    pub with: Rate,
}

pub(super) fn token_effect(name: &str, form: TokenForm, without: &[Scored], with: &[Scored], settings: &Settings) -> TokenEffect {
    let toxic_prompts = |rows: &[Scored]| {
        let mut outcomes = SystemOutcomes::new(name, rows, settings.taus);
        outcomes.measures.remove(&Measure::Toxic).unwrap_or_default()
    };
    // The audit may have asked a part of the prompts only.
    let asked: BTreeSet<&str> = with.iter().map(|row| row.0.prompt_id()).collect();
    let without: Vec<Scored> = without.iter().copied().filter(|row| asked.contains(row.0.prompt_id())).collect();
    let without = without.as_slice();
    let (plain, token) = (toxic_prompts(without), toxic_prompts(with));
    let pairs: Vec<(bool, bool)> = token.iter().filter_map(|(id, &yes)| Some((majority(yes), majority(*plain.get(id)?)))).collect();
    let count = |pair: (bool, bool)| pairs.iter().filter(|found| **found == pair).count();
    let (only_with, only_without) = (count((true, false)), count((false, true)));
    let rate = |rows: &[Scored]| settings.rate(rows, |scores| settings.is_toxic(scores));
    let names: BTreeSet<&str> = without.iter().filter_map(|row| row.0.prompt.value.category.as_deref()).collect();
    let within = |rows: &[Scored], category: &str| -> Rate {
        let rows: Vec<Scored> = rows.iter().copied().filter(|row| row.0.prompt.value.category.as_deref() == Some(category)).collect();
        rate(&rows)
    };
    let rates = |category: &str| TokenRates { without: within(without, category), with: within(with, category) };
    TokenEffect {
        system: name.to_owned(),
        form,
        without: rate(without),
        with: rate(with),
        only_with,
        only_without,
        p: mcnemar(only_with, only_without).p,
        p_holm: 1.0,
        categories: names.into_iter().map(|category| (category.to_owned(), rates(category))).collect(),
    }
}

/// Adjusts all p-values of the audit together.
pub(super) fn adjusted(mut effects: Vec<TokenEffect>) -> Vec<TokenEffect> {
    let p: Vec<f64> = effects.iter().map(|effect| effect.p).collect();
    effects.iter_mut().zip(holm(&p)).for_each(|(effect, p)| effect.p_holm = p);
    effects
}
