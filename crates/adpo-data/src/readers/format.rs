use std::path::Path;

use serde::{Deserialize, Serialize};

use super::parsed::Parsed;
use super::record::{Fault, Record};
use super::{RowFile, dia_safety, hh, messages, persona, preferences, prompts, quickstart, topical};
use crate::DataError;

/// The formats that are read. In recipes: `hh-transcripts`, `preferences`, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// HH-RLHF: `chosen` and `rejected` are whole transcripts, `\n\nHuman: … \n\nAssistant: …`.
    HhTranscripts,
    /// TRL's columns `prompt`, `chosen`, `rejected`, and `toxic` for triples; plain strings or conversations, and
    /// conversations without `prompt` (the turns that both share are the prompt).
    Preferences,
    /// `DiaSafety`: `context`, `response`, `category`, `label` (`Safe`, `Unsafe`).
    Diasafety,
    /// `messages`, a list of {role, content}; `toxic` and `category` where known.
    Messages,
    /// Synthetic-Persona-Chat: `Best Generated Conversation`, lines by `User 1:` and `User 2:`.
    SyntheticPersonaChat,
    /// Topical-Chat: `content`, a list of {agent, message}.
    TopicalChat,
    /// This project's own rows: `request`, `tone`, `good`, `evasive`, `rude`.
    Quickstart,
    /// `prompt`, a string or a conversation; `harmful` (or `XSTest`'s `label`) and `category` (or `type`) where known.
    Prompts,
}

impl Format {
    pub(super) fn parse(self, record: &mut Record) -> Result<Parsed, Fault> {
        match self {
            Self::HhTranscripts => hh::parse(record),
            Self::Preferences => preferences::parse(record),
            Self::Diasafety => dia_safety::parse(record),
            Self::Messages => messages::parse(record),
            Self::SyntheticPersonaChat => persona::parse(record),
            Self::TopicalChat => topical::parse(record),
            Self::Quickstart => quickstart::parse(record),
            Self::Prompts => prompts::parse(record),
        }
    }
}

/// The format of a file, by the columns of its first row.
///
/// # Errors
/// [`DataError`] if the file cannot be read, has no rows, or its first row fits no format.
pub fn detect(path: impl AsRef<Path>) -> Result<Format, DataError> {
    RowFile::new(path).format()
}

pub(super) fn of(record: &Record) -> Result<Format, DataError> {
    let has = |fields: &[&str]| fields.iter().all(|field| record.has(field));
    if has(&["chosen", "rejected"]) {
        let transcripts = !record.has("prompt") && record.is_text("chosen") && record.is_text("rejected");
        Ok(if transcripts { Format::HhTranscripts } else { Format::Preferences })
    } else if has(&["context", "response", "label"]) {
        Ok(Format::Diasafety)
    } else if has(&["messages"]) {
        Ok(Format::Messages)
    } else if has(&[persona::FIELD]) {
        Ok(Format::SyntheticPersonaChat)
    } else if has(&["request", "good", "rude"]) {
        Ok(Format::Quickstart)
    } else if has(&["prompt"]) {
        Ok(Format::Prompts)
    } else if record.fields.get("content").is_some_and(serde_json::Value::is_array) {
        Ok(Format::TopicalChat)
    } else {
        let found: Vec<&str> = record.fields.keys().map(String::as_str).collect();
        Err(record.error(format!(
            "fits no format: it has [{}]. Rename its columns: `prompt`, `chosen`, `rejected` for preferences, `messages` for dialogues, `prompt` for prompts",
            found.join(", ")
        )))
    }
}
