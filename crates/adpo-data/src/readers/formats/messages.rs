//! Dialogues as lists of messages; what this crate itself writes for dialogues and fine-tuning examples.

use crate::readers::parsed::{Kind, Parsed, Reader, checked};
use crate::readers::record::{Fault, Record};
use crate::rows::{SftExample, json};

pub(super) const READER: Reader = Reader {
    name: "messages",
    example: r#"{"messages": [{"role": "user", "content": "Paint?"}, {"role": "assistant", "content": "An hour."}], "toxic": false, "category": "home"}"#,
    becomes: "a dialogue to fine-tune on; `toxic` (true, or who labelled it) and `category` may be missing",
    kind: Kind::Dialogues,
    matches: |record| record.has("messages"),
    parse,
};

fn parse(record: &mut Record) -> Result<Parsed, Fault> {
    let dialogue = record.parse("messages", json::parse_conversation)?;
    let toxic = if record.has("toxic") { record.parse("toxic", json::parse_toxic_label)? } else { None };
    let category = record.optional_text("category")?;
    if toxic.is_some() && !dialogue.ends_with_assistant() {
        return Err(record
            .error("field `toxic` labels the last response, and the dialogue does not end with the assistant; end it with that response")
            .into());
    }
    Ok(Parsed::Sft(SftExample { dialogue: checked(dialogue)?, toxic, category }))
}
