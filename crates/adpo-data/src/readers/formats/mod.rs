//! The formats that are read, one file each. A format registers here: a variant, its place in the order of detection, its reader.

mod alpaca;
mod dia_safety;
mod hh;
mod messages;
mod persona;
mod preferences;
mod prompt_completion;
mod prompts;
mod quickstart;
mod sharegpt;
mod topical;

use serde::{Deserialize, Serialize};

use super::parsed::{Kind, Reader};
use super::record::Record;
use crate::DataError;

/// The formats that are read. In recipes: `hh-transcripts`, `preferences`, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// HH-RLHF: `chosen` and `rejected` are whole transcripts, `\n\nHuman: … \n\nAssistant: …`.
    HhTranscripts,
    /// TRL's columns `prompt`, `chosen`, `rejected`, and `toxic` for triples; plain strings or conversations, which may be whole
    /// (UltraFeedback) and without `prompt` (the turns that both share are the prompt).
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
    /// TRL's `prompt` and `completion`.
    PromptCompletion,
    /// `ShareGPT`: `conversations`, a list of {from, value}.
    Sharegpt,
    /// `ShareGPT` with `chosen` and `rejected`, one message each.
    SharegptPreferences,
    /// `instruction`, `input`, `output`, `history`.
    Alpaca,
}

impl Format {
    /// In the order of detection: a format whose columns another one has too stands behind that one.
    pub const ALL: [Self; 12] = [
        Self::SharegptPreferences,
        Self::HhTranscripts,
        Self::Preferences,
        Self::Diasafety,
        Self::Messages,
        Self::Sharegpt,
        Self::SyntheticPersonaChat,
        Self::Quickstart,
        Self::PromptCompletion,
        Self::Alpaca,
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
            Self::PromptCompletion => &prompt_completion::READER,
            Self::Sharegpt => &sharegpt::READER,
            Self::SharegptPreferences => &sharegpt::PREFERENCES,
            Self::Alpaca => &alpaca::READER,
        }
    }

    /// Its name in recipes.
    pub fn name(self) -> &'static str {
        self.reader().name
    }

    /// A row of it, as JSON.
    pub fn example(self) -> &'static str {
        self.reader().example
    }

    /// What a row of it becomes.
    pub fn becomes(self) -> &'static str {
        self.reader().becomes
    }

    pub(crate) fn kind(self) -> Kind {
        self.reader().kind
    }

    /// The format of a file whose first row this is.
    pub(super) fn of(record: &Record) -> Result<Self, DataError> {
        Self::ALL.into_iter().find(|format| (format.reader().matches)(record)).ok_or_else(|| {
            let columns = record.columns();
            let null: Vec<&str> = record.fields.iter().filter(|(_, value)| value.is_null()).map(|(column, _)| column.as_str()).collect();
            let null = if null.is_empty() { String::new() } else { format!(" (null: {})", null.join(", ")) };
            record.error(format!("fits no format: it has the columns [{columns}]{null}. {}", nearest(record)))
        })
    }
}

/// What the columns of a row that fits no format come close to, and what is to be done.
fn nearest(record: &Record) -> &'static str {
    let has = |column: &str| record.fields.contains_key(column);
    match () {
        () if has("chosen") && !has("rejected") => {
            "`preferences` needs `rejected` beside `chosen`: add it, or rename `chosen` to `completion` to fine-tune on it"
        }
        () if has("rejected") && !has("chosen") => "`preferences` needs `chosen` beside `rejected`: add it",
        () if has("completion") => "`prompt-completion` needs `prompt` beside `completion`, and neither may be null in the first row",
        () if has("instruction") || has("output") => "`alpaca` needs `instruction` and `output`; rename the column that holds the response",
        () if has("text") => {
            "A column `text` does not say who speaks: give `messages` ([{\"role\": \"user\", \"content\": \"…\"}, …]), or `prompt` and \
             `completion`"
        }
        () if has("question") => "Rename `question` to `prompt`, and the response to `completion`; or give `messages`",
        () => {
            "Rename its columns: `prompt`, `chosen`, `rejected` for preferences, `messages` for dialogues, `prompt` and `completion` for \
             one answer each, `prompt` for prompts; `adpo data formats` shows a row of each format"
        }
    }
}
