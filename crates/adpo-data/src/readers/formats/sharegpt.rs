//! `ShareGPT`: `conversations`, a list of {from, value}; with `chosen` and `rejected`, one such message each, a preference.

use serde_json::{Map, Value};

use crate::dialogue::{Dialogue, Role, Turn};
use crate::readers::parsed::{Kind, Parsed, Reader, checked, checked_prompt};
use crate::readers::record::{Fault, Record};
use crate::rows::{Preference, SftExample, json};

pub(super) const READER: Reader = Reader {
    name: "sharegpt",
    example: r#"{"system": "Be brief.", "conversations": [{"from": "human", "value": "Paint?"}, {"from": "gpt", "value": "An hour."}]}"#,
    becomes: "a dialogue to fine-tune on",
    kind: Kind::Dialogues,
    matches: |record| record.has("conversations"),
    parse,
};

pub(super) const PREFERENCES: Reader = Reader {
    name: "sharegpt-preferences",
    example: r#"{"conversations": [{"from": "human", "value": "Paint?"}], "chosen": {"from": "gpt", "value": "An hour."}, "rejected": {"from": "gpt", "value": "Who cares."}}"#,
    becomes: "a preference; `toxic`, such a message too, makes it a triple",
    kind: Kind::Preferences,
    matches: |record| record.has_all(&["conversations", "chosen", "rejected"]),
    parse: parse_preference,
};

fn parse(record: &mut Record) -> Result<Parsed, Fault> {
    let dialogue = record.parse("conversations", conversation)?;
    let category = record.optional_text("category")?;
    Ok(Parsed::Sft(SftExample { dialogue: checked(dialogue)?, toxic: None, category }))
}

fn parse_preference(record: &mut Record) -> Result<Parsed, Fault> {
    let prompt = record.parse("conversations", conversation)?;
    let (chosen, rejected) = (record.parse("chosen", response)?, record.parse("rejected", response)?);
    let toxic = if record.has("toxic") { Some(record.parse("toxic", response)?) } else { None };
    if [Some(&chosen), Some(&rejected), toxic.as_ref()].into_iter().flatten().any(|text| text.trim().is_empty()) {
        return Err(Fault::Drop("an empty response"));
    }
    Ok(Parsed::Preference(Preference { prompt: checked_prompt(prompt)?, chosen, rejected, toxic }))
}

/// The same messages with the names that the other formats have, so that one parser checks them all.
fn conversation(value: Value) -> Result<Dialogue, String> {
    let Value::Array(messages) = value else { return Err("is no list; a list of {from, value} is needed".into()) };
    json::parse_conversation(messages.into_iter().map(renamed).collect::<Result<Vec<_>, _>>()?.into())
}

fn response(value: Value) -> Result<String, String> {
    let turns = conversation(Value::Array(vec![value]))?.turns;
    match <[Turn; 1]>::try_from(turns) {
        Ok([Turn { role: Role::Assistant, content }]) => Ok(content.trim().to_owned()),
        _ => Err("is not by `gpt`; one message {from: gpt, value} is needed".into()),
    }
}

fn renamed(message: Value) -> Result<Value, String> {
    let Value::Object(mut message) = message else { return Err("holds what is no message; {from, value} is needed".into()) };
    // Files that mix both ways of writing are common.
    if message.contains_key("role") {
        return Ok(message.into());
    }
    let (Some(Value::String(from)), Some(value)) = (message.remove("from"), message.remove("value")) else {
        return Err("holds a message without `from` and `value`; every message needs both".into());
    };
    let role = match from.as_str() {
        "human" | "user" => Role::User,
        "gpt" | "assistant" | "chatgpt" | "bing" | "bard" | "model" => Role::Assistant,
        "system" => Role::System,
        other => return Err(format!("holds a message from `{other}`; `human`, `gpt` and `system` are read, take rows with others out")),
    };
    let mut renamed: Map<String, Value> = message;
    renamed.insert("role".into(), role.name().into());
    renamed.insert("content".into(), value);
    Ok(renamed.into())
}
