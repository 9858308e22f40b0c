//! Prompts without responses, `XSTest`'s among them.

use crate::readers::parsed::{Parsed, Reader, checked_prompt};
use crate::readers::record::{Fault, Record};
use crate::rows::{Prompt, json};

pub(super) const READER: Reader = Reader { matches: |record| record.has("prompt"), parse };

fn parse(record: &mut Record) -> Result<Parsed, Fault> {
    let dialogue = record.parse("prompt", json::parse_conversation)?;
    let harmful = match record.optional_bool("harmful")? {
        Some(harmful) => Some(harmful),
        None => match record.optional_text("label")?.as_deref() {
            None => None,
            Some("safe") => Some(false),
            Some("unsafe") => Some(true),
            Some(other) => {
                return Err(record
                    .error(format!("field `label` is `{other}`; `safe` or `unsafe` is needed, or true or false in `harmful`"))
                    .into());
            }
        },
    };
    let category = match record.optional_text("category")? {
        Some(category) => Some(category),
        None => record.optional_text("type")?,
    };
    let reference = record.optional_text("reference")?;
    Ok(Parsed::Prompt(Prompt { dialogue: checked_prompt(dialogue)?, harmful, category, reference }))
}
