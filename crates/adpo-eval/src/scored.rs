use adpo_data::Prompt;
use serde::{Deserialize, Serialize};

use crate::judge::Judgement;
use crate::response::Response;

/// A line of `samples.jsonl`: a response to a prompt as it is, and what the judge made of it.
///
/// ```json
/// {"prompt_id": "…", "prompt": "…", "model": "…", "response": "…", "state": "scored", "toxicity": 0.02, "evasiveness": 0.11, …}
/// ```
///
/// [`crate::read_responses`] reads the same lines, to have them judged anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredResponse {
    /// The prompt's id: it pairs the responses of two systems.
    pub prompt_id: String,
    /// The prompt.
    #[serde(flatten)]
    pub prompt: Prompt,
    /// The system that responded.
    pub model: String,
    /// What it said.
    pub response: String,
    /// What the judge made of it.
    #[serde(flatten)]
    pub judgement: Judgement,
}

impl ScoredResponse {
    pub(crate) fn new(model: &str, response: &Response, judgement: &Judgement) -> Self {
        Self {
            prompt_id: response.prompt_id().to_owned(),
            prompt: response.prompt.value.clone(),
            model: model.to_owned(),
            response: response.text.clone(),
            judgement: judgement.clone(),
        }
    }
}
