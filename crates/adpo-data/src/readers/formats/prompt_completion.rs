//! TRL's columns for fine-tuning: `prompt` and `completion`, strings or conversations.

use crate::dialogue::Role;
use crate::readers::parsed::{Kind, Parsed, Reader, checked, checked_prompt};
use crate::readers::record::{Fault, Record};
use crate::rows::{SftExample, json};

pub(super) const READER: Reader = Reader {
    name: "prompt-completion",
    example: r#"{"prompt": "How long does paint take to dry?", "completion": "An hour or two."}"#,
    becomes: "a dialogue to fine-tune on; KTO's unpaired `label` is refused, since every objective here compares pairs",
    kind: Kind::Sft,
    matches: |record| record.has_all(&["prompt", "completion"]),
    parse,
};

fn parse(record: &mut Record) -> Result<Parsed, Fault> {
    if record.fields.get("label").is_some_and(|label| label.is_boolean() || label.is_number()) {
        return Err(record
            .error(
                "field `label` marks one response as good or bad (KTO), and every objective here compares two; give rows with `prompt`, \
                 `chosen` (label true) and `rejected` (label false) for prompts that have both, or, to fine-tune on the good ones, only \
                 these, without `label`",
            )
            .into());
    }
    let prompt = checked_prompt(record.parse("prompt", json::parse_conversation)?)?;
    let completion = record.completion("completion")?;
    let category = match record.optional_text("category")? {
        Some(category) => Some(category),
        None => record.optional_text("type")?,
    };
    Ok(Parsed::Sft(SftExample { dialogue: checked(prompt.with(Role::Assistant, completion))?, toxic: None, category }))
}
