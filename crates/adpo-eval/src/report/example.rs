//! A few prompts with what each system said, so that a reader sees what the table is about.

use std::collections::HashMap;

use adpo_data::Prompt;
use serde::{Deserialize, Serialize};

use crate::judge::{Exchange, Judge, Judgement};
use crate::response::{Response, first_to_each_prompt};
use crate::statistics::SplitMix;
use crate::text::Text;

/// How many prompts are shown.
const SHOWN: usize = 3;

/// A prompt, drawn by the seed, and what each system said to it first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Example {
    /// The prompt's id.
    pub prompt_id: String,
    /// The last turn of the prompt, or its length.
    pub prompt: String,
    /// One response for each system, in the order of the report.
    pub responses: Vec<ExampleResponse>,
}

/// What one system said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ExampleResponse {
    /// The system.
    pub system: String,
    /// The response, or its length where it is toxic or was not scored.
    pub response: String,
}

/// How a redacted text ends.
const REDACTED: &str = " words, redacted]";

/// A text, or how long it is.
pub(super) fn redacted(text: &str, show: bool) -> String {
    if show { text.to_owned() } else { format!("[{}{REDACTED}", Text::new(text).count_words()) }
}

/// Whether only the length of a text is left.
pub(super) fn is_redacted(text: &str) -> bool {
    text.ends_with(REDACTED)
}

/// Draws among prompts that every system answered, and among those not marked harmful if there are any. `systems` have their responses
/// with their judgements.
pub(super) fn examples(systems: &[(&str, &[Response], &[Judgement])], judge: &dyn Judge, seed: u64, show: bool) -> Vec<Example> {
    // The first response to each prompt, with its judgement.
    let answered: Vec<(&str, HashMap<&str, (&Response, &Judgement)>)> = systems
        .iter()
        .map(|(name, responses, judgements)| {
            let first =
                first_to_each_prompt(responses).into_iter().map(|(at, response)| (response.prompt_id(), (response, &judgements[at])));
            (*name, first.collect())
        })
        .collect();
    let Some((_, responses, _)) = systems.first() else { return Vec::new() };
    let mut prompts: Vec<&Response> = first_to_each_prompt(responses).into_iter().map(|(_, response)| response).collect();
    prompts.retain(|response| answered.iter().all(|(_, responses)| responses.contains_key(response.prompt_id())));
    if prompts.iter().any(|response| !response.is_harmful()) {
        prompts.retain(|response| !response.is_harmful());
    }
    SplitMix::new(seed).shuffle(&mut prompts);
    prompts.truncate(SHOWN);
    let taus = judge.thresholds();
    let harmless = |judgement: &Judgement| judgement.scores().is_some_and(|scores| scores.toxicity < taus.toxicity);
    // As if somebody said it: the prompt itself may be what should not stand in a report.
    let unmarked: Vec<Prompt> = prompts.iter().map(|response| Prompt::from(response.prompt.value.dialogue.clone())).collect();
    let asked = |prompt| Exchange { prompt, response: prompt.dialogue.last_user().unwrap_or_default() };
    let questions: Vec<Exchange<'_>> = unmarked.iter().map(asked).collect();
    let judged = if show || questions.is_empty() { Vec::new() } else { judge.judge(&questions) };
    let example = |(index, prompt): (usize, &&Response)| Example {
        prompt_id: prompt.prompt_id().to_owned(),
        prompt: redacted(questions[index].response, show || (!prompt.is_harmful() && judged.get(index).is_some_and(harmless))),
        responses: answered
            .iter()
            .filter_map(|(system, responses)| {
                let (response, judgement) = responses.get(prompt.prompt_id())?;
                let response = redacted(&response.text, show || harmless(judgement));
                Some(ExampleResponse { system: (*system).to_owned(), response })
            })
            .collect(),
    };
    prompts.iter().enumerate().map(example).collect()
}
