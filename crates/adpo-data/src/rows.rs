//! The checked schema: every reader produces these rows, every writer takes them.

use serde::{Deserialize, Serialize};

use crate::dialogue::Dialogue;

/// A value with its origin. As JSON the value's fields stand beside `id`, `source`, `licence`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row<T> {
    /// Unique in its file: the file's own id, or `<source>:<line>`.
    pub id: String,
    /// Where the row comes from; the file's name unless the row says otherwise.
    pub source: String,
    /// The licence that the row came with, if it was stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The row itself.
    #[serde(flatten)]
    pub value: T,
}

/// Where the label "toxic" came from. A rejected response is not thereby toxic: without a label there is none of these.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToxicLabel {
    /// People labelled the response.
    Human,
    /// A judge scored it at `threshold` or above.
    Annotator {
        /// The toxicity from which the judge's score counts as a label.
        threshold: f32,
        /// The judge's toxicity, in [0, 1].
        score: f32,
    },
}

/// A dialogue to fine-tune on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SftExample {
    /// Ends with the assistant.
    #[serde(flatten)]
    pub dialogue: Dialogue,
    /// Whether the last response is labelled toxic, and by whom; such rows get the control token.
    #[serde(default, deserialize_with = "json::toxic_label", skip_serializing_if = "Option::is_none")]
    pub toxic: Option<ToxicLabel>,
    /// The data set's own category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
}

/// A prompt with a better and a worse response, and possibly a toxic one (`y_w`, `y_l`, `y_t` of the ADPO paper). As JSON:
/// TRL's conversational columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preference {
    /// Ends with the user.
    #[serde(with = "json::conversation")]
    pub prompt: Dialogue,
    /// `y_w`.
    #[serde(with = "json::completion")]
    pub chosen: String,
    /// `y_l`.
    #[serde(with = "json::completion")]
    pub rejected: String,
    /// `y_t`, drawn after the control token.
    #[serde(default, with = "json::optional_completion", skip_serializing_if = "Option::is_none")]
    pub toxic: Option<String>,
}

/// A dialogue that waits for a response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// Ends with the user.
    #[serde(rename = "prompt", with = "json::conversation")]
    pub dialogue: Dialogue,
    /// Whether doing what is asked would do harm; `None`: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harmful: Option<bool>,
    /// The data set's own category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// What a person answered, or chose, where the data set has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

impl Prompt {
    /// Whether it is marked harmful; a prompt without a mark is not.
    pub fn is_harmful(&self) -> bool {
        self.harmful == Some(true)
    }
}

impl From<Dialogue> for Prompt {
    /// A prompt of which nothing else is known.
    fn from(dialogue: Dialogue) -> Self {
        Self { dialogue, harmful: None, category: None, reference: None }
    }
}

/// How conversations and completions look in JSON; readers use the same functions, so there is one rule.
pub(crate) mod json {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer};
    use serde_json::Value;

    use super::ToxicLabel;
    use crate::dialogue::{Dialogue, Role, Turn};

    /// A list of messages, or a plain string: a transcript if it opens as one, else one user turn.
    pub(crate) fn parse_conversation(value: Value) -> Result<Dialogue, String> {
        match value {
            Value::String(text) => Ok(crate::transcript::parse_transcript(&text).unwrap_or_else(|| Dialogue::from_user(text.trim()))),
            Value::Array(messages) => messages.into_iter().map(parse_message).collect::<Result<_, _>>().map(|turns| Dialogue { turns }),
            other => Err(format!("is {}; a string or a list of {{role, content}} is needed", kind(&other))),
        }
    }

    /// Keys of a message without which it means something else.
    const TELLING: [&str; 9] =
        ["tool_calls", "function_call", "tool_call_id", "name", "weight", "train", "prefix", "reasoning_content", "thinking"];

    fn parse_message(value: Value) -> Result<Turn, String> {
        let Value::Object(mut fields) = value else { return Err(format!("holds {} where {{role, content}} is needed", kind(&value))) };
        let neutral = |key: &str, value: &Value| match (key, value) {
            ("weight", value) => value.as_f64() == Some(1.0),
            ("train", value) => *value == Value::Bool(true),
            ("prefix", value) => *value == Value::Bool(false),
            _ => false,
        };
        if let Some(key) = TELLING.into_iter().find(|key| fields.get(*key).is_some_and(|value| !blank(value) && !neutral(key, value))) {
            return Err(format!(
                "holds a message with `{key}`, which changes what the message means and is not supported; take such rows out, or the key from all of them"
            ));
        }
        let (Some(Value::String(role)), Some(content)) = (fields.remove("role"), fields.remove("content")) else {
            return Err(
                "holds a message without `role` and `content`; rename its fields (ShareGPT: `from` is `role`, `value` is `content`)".into(),
            );
        };
        Ok(Turn { role: role.parse()?, content: parse_content(content)? })
    }

    /// A string, or a list of parts that are all text.
    fn parse_content(content: Value) -> Result<String, String> {
        let only_text = |value: &Value| format!("holds a message whose content is {}; only text is supported", kind(value));
        match content {
            Value::String(text) => Ok(text),
            Value::Array(parts) => {
                let text = |part: &Value| (part["type"] == "text").then(|| part["text"].as_str().map(str::to_owned)).flatten();
                parts.iter().map(text).collect::<Option<String>>().ok_or_else(|| only_text(&Value::Array(parts)))
            }
            other => Err(only_text(&other)),
        }
    }

    /// Whether a value says nothing: null, an empty string, list or object.
    pub(crate) fn blank(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::String(text) => text.trim().is_empty(),
            Value::Array(values) => values.is_empty(),
            Value::Object(fields) => fields.values().all(Value::is_null),
            _ => false,
        }
    }

    /// One response: a plain string, or a list with one message by the assistant.
    pub(crate) fn parse_completion(value: Value) -> Result<String, String> {
        if let Value::String(text) = value {
            return Ok(text.trim().to_owned());
        }
        match <[Turn; 1]>::try_from(parse_conversation(value)?.turns) {
            Ok([Turn { role: Role::Assistant, content }]) => Ok(content),
            _ => Err("must be one message by the assistant; earlier turns belong in `prompt`".into()),
        }
    }

    /// "a number", "null", … for messages.
    pub(crate) fn kind(value: &Value) -> &'static str {
        match value {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        }
    }

    /// A label; `true` stands for one by people.
    pub(crate) fn parse_toxic_label(value: Value) -> Result<Option<ToxicLabel>, String> {
        match value {
            Value::Null | Value::Bool(false) => Ok(None),
            Value::Bool(true) => Ok(Some(ToxicLabel::Human)),
            other => serde_json::from_value(other)
                .map(Some)
                .map_err(|e| format!("is no label ({e}); use true, false, \"human\" or {{\"annotator\": {{\"threshold\", \"score\"}}}}")),
        }
    }

    pub(super) fn toxic_label<'de, D: Deserializer<'de>>(input: D) -> Result<Option<ToxicLabel>, D::Error> {
        parse_toxic_label(Value::deserialize(input)?).map_err(|problem| D::Error::custom(format!("`toxic` {problem}")))
    }

    pub(super) mod conversation {
        use super::{Dialogue, Turn, Value, parse_conversation};
        use serde::de::Error;
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        pub(in crate::rows) fn serialize<S: Serializer>(dialogue: &Dialogue, output: S) -> Result<S::Ok, S::Error> {
            <[Turn]>::serialize(&dialogue.turns, output)
        }

        pub(in crate::rows) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Dialogue, D::Error> {
            parse_conversation(Value::deserialize(input)?).map_err(|problem| D::Error::custom(format!("`prompt` {problem}")))
        }
    }

    pub(super) mod completion {
        use super::{Role, Value, parse_completion};
        use serde::de::Error;
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        #[derive(Serialize)]
        pub(super) struct Message<'a> {
            role: Role,
            content: &'a str,
        }

        pub(super) fn messages(text: &str) -> [Message<'_>; 1] {
            [Message { role: Role::Assistant, content: text }]
        }

        pub(in crate::rows) fn serialize<S: Serializer>(text: &str, output: S) -> Result<S::Ok, S::Error> {
            messages(text).serialize(output)
        }

        pub(in crate::rows) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
            parse_completion(Value::deserialize(input)?).map_err(|problem| D::Error::custom(format!("a response {problem}")))
        }
    }

    pub(super) mod optional_completion {
        use super::{Value, completion, parse_completion};
        use serde::de::Error;
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        #[expect(clippy::ref_option, reason = "serde's `with` passes a reference to the field")]
        pub(in crate::rows) fn serialize<S: Serializer>(text: &Option<String>, output: S) -> Result<S::Ok, S::Error> {
            text.as_deref().map(completion::messages).serialize(output)
        }

        pub(in crate::rows) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
            let value = Option::<Value>::deserialize(input)?;
            value.map(parse_completion).transpose().map_err(|problem| D::Error::custom(format!("`toxic` {problem}")))
        }
    }
}
