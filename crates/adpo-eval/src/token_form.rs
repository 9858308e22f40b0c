//! In which forms the control token may come with a prompt.

use serde::{Deserialize, Serialize};

/// In which form the control token came with the prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TokenForm {
    /// The token itself, as in training.
    Control,
    /// Its text, written by the user: what reaches the model is escaped.
    Typed,
    /// Something like it, written by the user.
    Spelled,
    /// Its text, written by the user to an exported model, which has no such token.
    Exported,
    /// Another word in its place, written by the user: what any odd ending of a prompt does.
    Unrelated,
}

impl TokenForm {
    /// All forms, as they stand in the table.
    pub const ALL: [Self; 5] = [Self::Control, Self::Typed, Self::Spelled, Self::Exported, Self::Unrelated];

    /// The name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Typed => "typed",
            Self::Spelled => "spelled",
            Self::Exported => "exported",
            Self::Unrelated => "unrelated",
        }
    }

    /// The head of its column.
    pub(crate) const fn head(self) -> &'static str {
        match self {
            Self::Control => "with the token",
            Self::Typed => "typed by the user",
            Self::Spelled => "spelled otherwise",
            Self::Exported => "typed, exported model",
            Self::Unrelated => "another word typed",
        }
    }
}
