use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Who speaks a turn. Written `user`, `assistant`, `system`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Role {
    /// The person, whose turns are never trained.
    User,
    /// The model.
    Assistant,
    /// Instructions ahead of the dialogue; many chat templates refuse it.
    System,
}

impl Role {
    /// The name that chat templates see.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
        }
    }
}

impl From<Role> for &'static str {
    fn from(role: Role) -> Self {
        role.name()
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "user" => Ok(Self::User),
            "assistant" => Ok(Self::Assistant),
            "system" => Ok(Self::System),
            other => Err(format!(
                "role `{other}` is not known; rename roles to `user`, `assistant` or `system` (ShareGPT: `human` is `user`, `gpt` is `assistant`)"
            )),
        }
    }
}

impl TryFrom<String> for Role {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said, as written by its author: markers in it have no meaning.
    pub content: String,
}

/// A conversation. As JSON: `{"messages": [{"role": "user", "content": "…"}, …]}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Dialogue {
    /// In order of time.
    #[serde(rename = "messages")]
    pub turns: Vec<Turn>,
}

impl Dialogue {
    /// A dialogue of one user turn.
    pub fn from_user(content: impl Into<String>) -> Self {
        Self { turns: vec![Turn { role: Role::User, content: content.into() }] }
    }

    /// This dialogue and one more turn.
    #[must_use]
    pub fn with(mut self, role: Role, content: impl Into<String>) -> Self {
        self.turns.push(Turn { role, content: content.into() });
        self
    }

    /// Content of the last user turn.
    pub fn last_user(&self) -> Option<&str> {
        self.turns.iter().rev().find(|turn| turn.role == Role::User).map(|turn| turn.content.as_str())
    }

    /// Whether it is the assistant's turn to speak.
    pub fn ends_with_user(&self) -> bool {
        self.turns.last().is_some_and(|turn| turn.role == Role::User)
    }

    /// Whether the assistant has spoken last.
    pub fn ends_with_assistant(&self) -> bool {
        self.turns.last().is_some_and(|turn| turn.role == Role::Assistant)
    }

    /// The text that [`bucket`](crate::bucket) splits by: the first user turn. Dialogues that open alike fall into
    /// one bucket however they go on; for a prompt of one turn it is the prompt.
    pub fn split_key(&self) -> &str {
        self.turns.iter().find(|turn| turn.role == Role::User).map_or("", |turn| turn.content.as_str())
    }

    /// Without the turns after the last one by `role`.
    pub(crate) fn cut_after_last(mut self, role: Role) -> Self {
        let end = self.turns.iter().rposition(|turn| turn.role == role).map_or(0, |last| last + 1);
        self.turns.truncate(end);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialogue_is_written_as_messages_and_read_back() -> Result<(), serde_json::Error> {
        let dialogue = Dialogue::from_user("Hi.").with(Role::Assistant, "Hello!");
        let json = serde_json::to_string(&dialogue)?;
        assert_eq!(json, r#"{"messages":[{"role":"user","content":"Hi."},{"role":"assistant","content":"Hello!"}]}"#);
        assert_eq!(serde_json::from_str::<Dialogue>(&json)?, dialogue);
        Ok(())
    }

    #[test]
    fn an_unknown_role_is_refused_with_the_name_to_use_instead() {
        let error = serde_json::from_str::<Turn>(r#"{"role":"gpt","content":"x"}"#).expect_err("gpt is no role").to_string();
        assert!(error.contains("`gpt` is `assistant`"), "{error}");
    }

    #[test]
    fn dialogues_that_open_alike_share_a_split_key() {
        let short = Dialogue::from_user("How do I bake bread?");
        let long = short.clone().with(Role::Assistant, "With flour.").with(Role::User, "And then?");
        assert_eq!(short.split_key(), long.split_key());
        assert_eq!(long.last_user(), Some("And then?"));
        assert!(long.ends_with_user() && !long.ends_with_assistant());
    }
}
