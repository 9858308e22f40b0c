use adpo_data::Prompt;
use serde::{Deserialize, Serialize};

use crate::judge::{Judgement, Thresholds, Verdicts};
use crate::response::{Responder, Response};
use crate::token_form::TokenForm;

/// A line of `samples.jsonl`: a response as [`crate::read_responses`] reads it, and what the judge made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredResponse {
    /// The prompt's id.
    pub prompt_id: String,
    /// The prompt, with all that is known of it.
    #[serde(flatten)]
    pub prompt: Prompt,
    /// Who responded: the system's name in the report.
    pub model: String,
    /// The form in which the control token came with the prompt; `None`: without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_token: Option<TokenForm>,
    /// What the model said.
    pub response: String,
    /// Yes or no, by the judge's thresholds; `None` where it gave no scores.
    #[serde(flatten)]
    pub verdicts: Option<Verdicts>,
    /// The scores, or why there are none.
    #[serde(flatten)]
    pub judgement: Judgement,
}

impl ScoredResponse {
    pub(crate) fn new(by: &Responder, response: &Response, judgement: &Judgement, taus: Thresholds) -> Self {
        Self {
            prompt_id: response.prompt_id().to_owned(),
            prompt: response.prompt.value.clone(),
            model: by.model.clone(),
            control_token: by.control_token,
            response: response.text.clone(),
            verdicts: judgement.scores().map(|scores| scores.verdicts(taus)),
            judgement: judgement.clone(),
        }
    }
}
