//! TRL's preference columns, with `toxic` for triples.

use serde_json::Value;

use crate::dialogue::{Dialogue, Role, Turn};
use crate::readers::parsed::{Kind, Parsed, Reader, checked_prompt};
use crate::readers::record::{Fault, Record};
use crate::rows::{Preference, json};

pub(super) const READER: Reader = Reader {
    name: "preferences",
    example: r#"{"prompt": "Paint?", "chosen": "An hour.", "rejected": "Who cares.", "toxic": "Fool."}"#,
    becomes: "a preference, with `toxic` a triple; each may be a list of {role, content} as well, `chosen` and `rejected` also whole conversations (UltraFeedback), and then without `prompt`",
    kind: Kind::Preferences,
    matches: |record| record.has_all(&["chosen", "rejected"]),
    parse,
};

fn parse(record: &mut Record) -> Result<Parsed, Fault> {
    Ok(Parsed::Preference(if record.has("prompt") || record.is_text("chosen") { explicit(record)? } else { implicit(record)? }))
}

fn explicit(record: &mut Record) -> Result<Preference, Fault> {
    let prompt = record.parse("prompt", json::parse_conversation)?;
    if is_whole(record, "chosen") || is_whole(record, "rejected") {
        return within(&prompt, implicit(record)?, record);
    }
    let chosen = record.completion("chosen")?;
    let rejected = record.completion("rejected")?;
    let toxic = toxic(record, None)?;
    Ok(Preference { prompt: checked_prompt(prompt)?, chosen, rejected, toxic })
}

/// `UltraFeedback` and its kin repeat the prompt, or its first or last turn, in a column beside whole conversations.
fn within(prompt: &Dialogue, pair: Preference, record: &Record) -> Result<Preference, Fault> {
    let same = |turn: &Turn, other: &Turn| turn.role == other.role && turn.content.trim() == other.content.trim();
    let whole = &pair.prompt.turns;
    let told = match prompt.turns.as_slice() {
        [turn] => whole.iter().any(|other| same(turn, other)),
        turns => whole.len() >= turns.len() && turns.iter().zip(whole).all(|(turn, other)| same(turn, other)),
    };
    if told {
        return Ok(pair);
    }
    Err(record.error("field `prompt` says something else than the conversations in `chosen` and `rejected`; take one of them out").into())
}

/// Whether a field is a conversation of more than a response.
fn is_whole(record: &Record, field: &str) -> bool {
    matches!(record.fields.get(field), Some(Value::Array(messages)) if messages.len() > 1)
}

/// Without a prompt column, `chosen` and `rejected` are whole conversations that part at the last turn.
fn implicit(record: &mut Record) -> Result<Preference, Fault> {
    let chosen = split_last(record, "chosen")?;
    let rejected = split_last(record, "rejected")?;
    let ((prompt, chosen), (other, rejected)) = (chosen, rejected);
    if prompt != other {
        return Err(Fault::Drop("chosen and rejected response different prompts"));
    }
    let toxic = toxic(record, Some(&prompt))?;
    Ok(Preference { prompt: checked_prompt(prompt)?, chosen, rejected, toxic })
}

/// A whole conversation as its prompt and its last response.
fn split_last(record: &mut Record, field: &str) -> Result<(Dialogue, String), Fault> {
    let mut dialogue = record.parse(field, json::parse_conversation)?;
    match dialogue.turns.pop() {
        Some(Turn { role: Role::Assistant, content }) if content.trim().is_empty() => Err(Fault::Drop("an empty response")),
        Some(Turn { role: Role::Assistant, content }) => Ok((dialogue, content)),
        _ => Err(record
            .error(format!(
                "field `{field}` does not end with the assistant; end it with the response, or give `prompt` in a column of its own"
            ))
            .into()),
    }
}

/// The toxic response alone, or after the same prompt as the others.
fn toxic(record: &mut Record, prompt: Option<&Dialogue>) -> Result<Option<String>, Fault> {
    let whole = is_whole(record, "toxic");
    match prompt {
        _ if !record.has("toxic") => Ok(None),
        Some(prompt) if whole => match split_last(record, "toxic")? {
            (own, response) if own == *prompt => Ok(Some(response)),
            _ => Err(Fault::Drop("the toxic response has a prompt of its own")),
        },
        _ => record.completion("toxic").map(Some),
    }
}
