//! HH-RLHF: two transcripts per row that differ in the last answer.

use super::parsed::{Parsed, checked_prompt};
use super::record::{Fault, Record};
use crate::dialogue::{Dialogue, Role};
use crate::rows::Preference;

const HUMAN: &str = "\n\nHuman:";
const ASSISTANT: &str = "\n\nAssistant:";

pub(super) fn parse(record: &mut Record) -> Result<Parsed, Fault> {
    let (chosen, rejected) = (record.text("chosen")?, record.text("rejected")?);
    let split = |field: &str, text: &str| -> Result<(String, String), Fault> {
        let (prompt, answer) = text.rsplit_once(ASSISTANT).ok_or_else(|| {
            record.error(format!("field `{field}` has no \"\\n\\nAssistant:\"; a transcript is needed, or a column `prompt` beside it"))
        })?;
        Ok((prompt.to_owned(), answer.trim().to_owned()))
    };
    let ((prompt, chosen), (other_prompt, rejected)) = (split("chosen", &chosen)?, split("rejected", &rejected)?);
    if prompt != other_prompt {
        return Err(Fault::Drop("chosen and rejected answer different prompts"));
    }
    if chosen.contains(HUMAN) || rejected.contains(HUMAN) {
        return Err(Fault::Drop("the transcript does not end with the assistant"));
    }
    if chosen.is_empty() || rejected.is_empty() {
        return Err(Fault::Drop("an empty answer"));
    }
    let prompt = parse_transcript(&prompt).map_err(|problem| record.error(format!("field `chosen` {problem}")))?;
    Ok(Parsed::Preference(Preference { prompt: checked_prompt(prompt)?, chosen, rejected, toxic: None }))
}

/// Whether a string opens as a transcript.
pub(crate) fn is_transcript(text: &str) -> bool {
    text.starts_with(HUMAN)
}

/// Turns of a transcript; white space around each is not part of it.
pub(crate) fn parse_transcript(text: &str) -> Result<Dialogue, String> {
    if !is_transcript(text) {
        return Err("does not begin with \"\\n\\nHuman:\"; a transcript is needed".into());
    }
    let mut dialogue = Dialogue::default();
    let mut rest = text;
    while !rest.is_empty() {
        let role = if rest.starts_with(HUMAN) { Role::User } else { Role::Assistant };
        let content = &rest[if role == Role::User { HUMAN.len() } else { ASSISTANT.len() }..];
        let end = [HUMAN, ASSISTANT].iter().filter_map(|marker| content.find(marker)).min().unwrap_or(content.len());
        dialogue = dialogue.with(role, content[..end].trim());
        rest = &content[end..];
    }
    Ok(dialogue)
}
