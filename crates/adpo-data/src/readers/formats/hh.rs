//! HH-RLHF: two transcripts per row that differ in the last response.

use crate::readers::parsed::{Parsed, Reader, checked_prompt};
use crate::readers::record::{Fault, Record};
use crate::rows::Preference;
use crate::transcript::{ASSISTANT, HUMAN, parse_transcript};

pub(super) const READER: Reader = Reader {
    matches: |record| {
        record.has_all(&["chosen", "rejected"]) && !record.has("prompt") && record.is_text("chosen") && record.is_text("rejected")
    },
    parse,
};

fn parse(record: &mut Record) -> Result<Parsed, Fault> {
    let (chosen, rejected) = (record.text("chosen")?, record.text("rejected")?);
    let split = |field: &str, text: &str| -> Result<(String, String), Fault> {
        let (prompt, response) = text.rsplit_once(ASSISTANT).ok_or_else(|| {
            record.error(format!("field `{field}` has no \"\\n\\nAssistant:\"; a transcript is needed, or a column `prompt` beside it"))
        })?;
        Ok((prompt.to_owned(), response.trim().to_owned()))
    };
    let ((prompt, chosen), (other_prompt, rejected)) = (split("chosen", &chosen)?, split("rejected", &rejected)?);
    if prompt != other_prompt {
        return Err(Fault::Drop("chosen and rejected response different prompts"));
    }
    if chosen.contains(HUMAN) || rejected.contains(HUMAN) {
        return Err(Fault::Drop("the transcript does not end with the assistant"));
    }
    if chosen.is_empty() || rejected.is_empty() {
        return Err(Fault::Drop("an empty response"));
    }
    let prompt = parse_transcript(&prompt).map_err(|problem| record.error(format!("field `chosen` {problem}")))?;
    Ok(Parsed::Preference(Preference { prompt: checked_prompt(prompt)?, chosen, rejected, toxic: None }))
}
