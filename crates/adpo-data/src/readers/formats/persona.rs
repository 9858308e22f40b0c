//! Synthetic-Persona-Chat: a chat as one string, a line per message. Lines without a speaker go on with the message
//! before them.

use crate::readers::parsed::{Kind, Parsed, Reader, chat};
use crate::readers::record::{Fault, Record};

const FIELD: &str = "Best Generated Conversation";

const SPEAKERS: [&str; 2] = ["User 1:", "User 2:"];

pub(super) const READER: Reader = Reader {
    name: "synthetic-persona-chat",
    example: r#"{"Best Generated Conversation": "User 1: Hi!\nUser 2: Hello!"}"#,
    becomes: "a chat, of which the first speaker is the user",
    kind: Kind::Chats,
    matches: |record| record.has(FIELD),
    parse,
};

fn parse(record: &mut Record) -> Result<Parsed, Fault> {
    let text = record.text(FIELD)?;
    let mut messages: Vec<(&str, String)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let speaker = SPEAKERS.into_iter().find_map(|speaker| line.strip_prefix(speaker).map(|said| (speaker, said)));
        match (speaker, messages.last_mut()) {
            (Some((speaker, said)), _) => messages.push((speaker, said.trim().to_owned())),
            (None, Some((_, message))) => {
                message.push('\n');
                message.push_str(line);
            }
            (None, None) => return Err(Fault::Drop("text ahead of the first speaker")),
        }
    }
    Ok(Parsed::Chat(chat(messages.into_iter())?))
}
