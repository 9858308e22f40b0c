//! HH-RLHF: two transcripts per row that differ in the last response.

use crate::readers::parsed::{Kind, Parsed, Reader, checked_prompt};
use crate::readers::record::{Fault, Record};
use crate::rows::Preference;
use crate::transcript::{ASSISTANT, HUMAN, as_hh, parse_transcript};

pub(super) const READER: Reader = Reader {
    name: "hh-transcripts",
    example: r#"{"chosen": "\n\nHuman: Paint?\n\nAssistant: An hour.", "rejected": "\n\nHuman: Paint?\n\nAssistant: Who cares."}"#,
    becomes: "a preference: the last answers, after the turns that both share",
    kind: Kind::Preferences,
    matches: |record| {
        record.has_all(&["chosen", "rejected"])
            && !record.fields.contains_key("prompt")
            && record.is_text("chosen")
            && record.is_text("rejected")
    },
    parse,
};

fn parse(record: &mut Record) -> Result<Parsed, Fault> {
    let (chosen, rejected) = (as_hh(record.text("chosen")?), as_hh(record.text("rejected")?));
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
    let prompt = parse_transcript(&prompt)
        .ok_or_else(|| record.error("field `chosen` does not begin with \"\\n\\nHuman:\"; a transcript is needed"))?;
    Ok(Parsed::Preference(Preference { prompt: checked_prompt(prompt)?, chosen, rejected, toxic: None }))
}
