//! What the model itself thinks of a token: at temperature 1, whatever the options of the draw.

use burn::module::Module;

use super::{SampleRequest, SamplingOptions, check};
use crate::{Llama, ModelError, TokenInput};

/// The log-prob of a token, and those of the likeliest ones in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogProbs {
    /// Of the token itself, in nats.
    pub chosen: f64,
    /// The likeliest tokens with theirs, best first; of equals the smaller id comes first.
    pub top: Vec<(u32, f64)>,
}

impl TokenLogProbs {
    /// Of `token` and the `top` likeliest, from logits `[vocab]`.
    pub(super) fn of(logits: &[f32], token: u32, top: usize) -> Self {
        let max = logits.iter().fold(f32::NEG_INFINITY, |max, logit| max.max(*logit));
        let sum: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
        let log_prob = |logit: f32| f64::from(logit - max) - sum.ln();
        let mut best: Vec<(u32, f32)> = Vec::with_capacity(top + 1);
        for (id, logit) in (0..).zip(logits) {
            if best.len() < top || best.last().is_some_and(|(_, least)| logit > least) {
                let at = best.partition_point(|(_, better)| better >= logit);
                best.insert(at, (id, *logit));
                best.truncate(top);
            }
        }
        Self { chosen: log_prob(logits[token as usize]), top: best.into_iter().map(|(id, logit)| (id, log_prob(logit))).collect() }
    }
}

impl Llama {
    /// Of each token of `prompt` but the first: its log-prob after those before it, and the `top` likeliest in its place.
    ///
    /// # Errors
    /// [`ModelError::Sampling`] if the prompt is empty, too long or outside the vocabulary.
    pub fn prompt_log_probs(&self, prompt: &[u32], top: usize) -> Result<Vec<TokenLogProbs>, ModelError> {
        // Logits of a long prompt and a large vocabulary would take gigabytes.
        const AT_ONCE: usize = 128;
        let no_new_ones = SamplingOptions { max_new_tokens: 0, ..SamplingOptions::default() };
        check(&SampleRequest { prompt, row: 0 }, &no_new_ones, self.config())?;
        let predicted = prompt.len() - 1;
        if predicted == 0 {
            return Ok(Vec::new());
        }
        let model = self.valid();
        let positions: Vec<u32> = (0..predicted as u32).collect();
        let input = TokenInput::new(1, predicted, &prompt[..predicted], &positions, &vec![1; predicted], &model.device());
        let hidden = model.hidden(&input).reshape([predicted, self.config().hidden_size]);
        let mut scores = Vec::with_capacity(predicted);
        for start in (0..predicted).step_by(AT_ONCE) {
            let some = start..predicted.min(start + AT_ONCE);
            let logits: Vec<f32> = model.logits(hidden.clone().slice([some])).into_data().iter::<f32>().collect();
            let targets = logits.chunks_exact(self.config().vocab_size).zip(&prompt[start + 1..]);
            scores.extend(targets.map(|(logits, token)| TokenLogProbs::of(logits, *token, top)));
        }
        Ok(scores)
    }
}
