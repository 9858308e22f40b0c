//! Topical-Chat: a chat as a list of messages by two agents.

use serde_json::Value;

use crate::readers::parsed::{Kind, Parsed, Reader, chat};
use crate::readers::record::{Fault, Record};

pub(super) const READER: Reader = Reader {
    name: "topical-chat",
    example: r#"{"content": [{"agent": "agent_1", "message": "Hi!"}, {"agent": "agent_2", "message": "Hello!"}]}"#,
    becomes: "a chat, of which the first speaker is the user",
    kind: Kind::Chats,
    matches: |record| record.fields.get("content").is_some_and(Value::is_array),
    parse,
};

fn parse(record: &mut Record) -> Result<Parsed, Fault> {
    let content = record.need("content")?;
    let Value::Array(messages) = content else { return Err(record.error("field `content` must be a list of {agent, message}").into()) };
    let messages =
        messages.iter().map(|message| Some((message.get("agent")?.as_str()?, message.get("message")?.as_str()?.trim().to_owned())));
    let Some(messages) = messages.collect::<Option<Vec<_>>>() else {
        return Err(record
            .error("field `content` holds a message without the strings `agent` and `message`; all of them need both")
            .into());
    };
    Ok(Parsed::Chat(chat(messages.into_iter())?))
}
