//! Fluency as the papers on detoxification have it: how likely a second language model finds the responses.

use super::measure::Settings;
use crate::error::EvalError;
use crate::judge::Exchange;
use crate::response::Response;
use crate::statistics::{Interval, bootstrap};

/// A language model that reads responses.
pub trait Fluency {
    /// Whose figures these are.
    fn name(&self) -> String;

    /// For each response its negative log-likelihood given the prompt, in nats, and how many tokens that is; in order.
    ///
    /// # Errors
    /// [`EvalError`] if a response cannot be read.
    fn nats(&self, exchanges: &[Exchange<'_>]) -> Result<Vec<ResponseNats>, EvalError>;
}

/// How unlikely a response is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResponseNats {
    /// Minus the sum of its tokens' log-probabilities.
    pub nats: f64,
    /// How many tokens were read; none of an empty response.
    pub tokens: usize,
}

/// Mean nats per token over all responses, bootstrapped over prompts; none of empty responses alone.
pub(super) fn mean_nats(model: &dyn Fluency, responses: &[Response], settings: &Settings) -> Result<Option<Interval>, EvalError> {
    let exchanges: Vec<Exchange<'_>> = responses.iter().map(|response| response.exchange()).collect();
    let read = model.nats(&exchanges)?;
    let name = model.name();
    if read.len() != responses.len() {
        return Err(EvalError::Report(format!("the fluency model {name} read {} of {} responses", read.len(), responses.len())));
    }
    if let Some(wrong) = read.iter().find(|response| !response.nats.is_finite()) {
        return Err(EvalError::Report(format!(
            "the fluency model {name} gives a response {} nats; its weights may be damaged",
            wrong.nats
        )));
    }
    let mut prompts: std::collections::BTreeMap<&str, (f64, f64)> = std::collections::BTreeMap::new();
    for (response, read) in responses.iter().zip(&read) {
        let sum = prompts.entry(response.prompt_id()).or_default();
        *sum = (sum.0 + read.nats, sum.1 + read.tokens as f64);
    }
    let prompts: Vec<(f64, f64)> = prompts.into_values().filter(|prompt| prompt.1 > 0.0).collect();
    if prompts.is_empty() {
        return Ok(None);
    }
    Ok(Some(bootstrap(prompts.len(), settings.draws, settings.seed, |drawn| {
        let (nats, tokens) = drawn.iter().fold((0.0, 0.0), |sum, &i| (sum.0 + prompts[i].0, sum.1 + prompts[i].1));
        nats / tokens
    })))
}
