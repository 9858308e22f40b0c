//! A few prompts with what each system said: nobody should believe a table about replies that nobody has read.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::build::{Reply, first_replies};
use crate::judge::{Exchange, Judge, Judgement};
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
    /// One reply for each system, in the order of the report.
    pub replies: Vec<ExampleReply>,
}

/// What one system said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ExampleReply {
    /// The system.
    pub system: String,
    /// The reply, or its length where it is toxic or was not scored.
    pub reply: String,
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

/// Draws among prompts that every system answered, and among those not marked harmful if there are any. `systems` have their replies
/// with their judgements.
pub(super) fn examples(systems: &[(&str, &[Reply], &[Judgement])], judge: &dyn Judge, seed: u64, show: bool) -> Vec<Example> {
    // The first reply to each prompt, with its judgement.
    let answered: Vec<(&str, HashMap<&str, (&Reply, &Judgement)>)> = systems
        .iter()
        .map(|(name, replies, judgements)| {
            let first = first_replies(replies).into_iter().map(|(at, reply)| (reply.prompt_id.as_str(), (reply, &judgements[at])));
            (*name, first.collect())
        })
        .collect();
    let Some((_, replies, _)) = systems.first() else { return Vec::new() };
    let mut prompts: Vec<&Reply> = first_replies(replies).into_iter().map(|(_, reply)| reply).collect();
    prompts.retain(|reply| answered.iter().all(|(_, replies)| replies.contains_key(reply.prompt_id.as_str())));
    if prompts.iter().any(|reply| !reply.exchange.harmful) {
        prompts.retain(|reply| !reply.exchange.harmful);
    }
    SplitMix::new(seed).shuffle(&mut prompts);
    prompts.truncate(SHOWN);
    let taus = judge.thresholds();
    let harmless = |judgement: &Judgement| judgement.scores().is_some_and(|scores| scores.toxicity < taus.toxicity);
    // As if somebody said it: the prompt itself may be what should not stand in a report.
    let asked = |reply: &&Reply| {
        let text = reply.exchange.prompt.last_user().unwrap_or_default().to_owned();
        Exchange { prompt: reply.exchange.prompt.clone(), response: text, harmful: false }
    };
    let questions: Vec<Exchange> = prompts.iter().map(asked).collect();
    let judged = if show || questions.is_empty() { Vec::new() } else { judge.judge(&questions) };
    let example = |(index, prompt): (usize, &&Reply)| Example {
        prompt_id: prompt.prompt_id.clone(),
        prompt: redacted(&questions[index].response, show || (!prompt.exchange.harmful && judged.get(index).is_some_and(harmless))),
        replies: answered
            .iter()
            .filter_map(|(system, replies)| {
                let (reply, judgement) = replies.get(prompt.prompt_id.as_str())?;
                let reply = redacted(&reply.exchange.response, show || harmless(judgement));
                Some(ExampleReply { system: (*system).to_owned(), reply })
            })
            .collect(),
    };
    prompts.iter().enumerate().map(example).collect()
}
