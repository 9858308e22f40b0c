//! Prompts without responses, `XSTest`'s among them.

use crate::readers::parsed::{Kind, Parsed, Reader, checked_prompt};
use crate::readers::record::{Fault, Record};
use crate::rows::{Prompt, json};

pub(super) const READER: Reader = Reader {
    name: "prompts",
    example: r#"{"prompt": "Paint?", "harmful": false, "category": "home", "reference": "An hour."}"#,
    becomes: "a prompt; all but `prompt` may be missing, XSTest's `label` stands for `harmful`, `type` for `category`; `reference` is a person's response",
    kind: Kind::Prompts,
    matches: |record| {
        record.has("prompt") && !["chosen", "rejected", "completion"].into_iter().any(|column| record.fields.contains_key(column))
    },
    parse,
};

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
