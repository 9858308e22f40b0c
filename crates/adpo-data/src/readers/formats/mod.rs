//! The formats that are read, one file each. A format registers here: a variant, its place in the order of detection, its reader.

mod dia_safety;
mod hh;
mod messages;
mod persona;
mod preferences;
mod prompts;
mod quickstart;
mod topical;

use serde::{Deserialize, Serialize};

use super::parsed::Reader;
use super::record::Record;
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
    /// In the order of detection: a format whose columns another one has too stands behind that one.
    const ALL: [Self; 8] = [
        Self::HhTranscripts,
        Self::Preferences,
        Self::Diasafety,
        Self::Messages,
        Self::SyntheticPersonaChat,
        Self::Quickstart,
        Self::Prompts,
        Self::TopicalChat,
    ];

    pub(super) fn reader(self) -> &'static Reader {
        match self {
            Self::HhTranscripts => &hh::READER,
            Self::Preferences => &preferences::READER,
            Self::Diasafety => &dia_safety::READER,
            Self::Messages => &messages::READER,
            Self::SyntheticPersonaChat => &persona::READER,
            Self::TopicalChat => &topical::READER,
            Self::Quickstart => &quickstart::READER,
            Self::Prompts => &prompts::READER,
        }
    }

    /// The format of a file whose first row this is.
    pub(super) fn of(record: &Record) -> Result<Self, DataError> {
        Self::ALL.into_iter().find(|format| (format.reader().matches)(record)).ok_or_else(|| {
            let found: Vec<&str> = record.fields.keys().map(String::as_str).collect();
            record.error(format!(
                "fits no format: it has [{}]. Rename its columns: `prompt`, `chosen`, `rejected` for preferences, `messages` for dialogues, `prompt` for prompts",
                found.join(", ")
            ))
        })
    }
}
