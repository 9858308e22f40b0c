//! Dialogues written as one text, the way HH-RLHF does: `\n\nHuman: … \n\nAssistant: …`.

use crate::dialogue::{Dialogue, Role};

/// Opens a turn of the user.
pub(crate) const HUMAN: &str = "\n\nHuman:";

/// Opens a turn of the assistant.
pub(crate) const ASSISTANT: &str = "\n\nAssistant:";

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
