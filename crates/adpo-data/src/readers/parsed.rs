//! The content of a record, and the values that can be made of it.

use super::record::{Fault, Record};
use crate::dialogue::{Dialogue, Role, Turn};
use crate::rows::{Preference, Prompt, SftExample, ToxicLabel};

/// How one format is told from the others, and read.
pub(super) struct Reader {
    /// In recipes.
    pub name: &'static str,
    /// A row, as JSON.
    pub example: &'static str,
    /// What becomes of a row, and what may differ from the example.
    pub becomes: &'static str,
    /// What its rows are by nature.
    pub kind: Kind,
    /// Whether a row has this format's columns.
    pub matches: fn(&Record) -> bool,
    /// The content of a row, with errors that name the field.
    pub parse: fn(&mut Record) -> Result<Parsed, Fault>,
}

/// What a format's rows are by nature, for who looks at a file.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Preferences,
    Prompts,
    Sft,
    /// They may have labels, and may wait for a response.
    Dialogues,
    /// They have no labels.
    Chats,
}

/// Values with a suffix for the row's id each, or why there are none.
type Converted<T> = Result<Vec<(&'static str, T)>, Fault>;

/// What can be made of a record.
pub trait FromParsed: Sized {
    fn from_parsed(parsed: Parsed) -> Converted<Self>;
}

/// The natural content of one record.
pub enum Parsed {
    Sft(SftExample),
    Preference(Preference),
    Prompt(Prompt),
    /// A chat between two people.
    Chat(Dialogue),
    Quickstart {
        request: String,
        tone: String,
        good: String,
        evasive: String,
        rude: String,
    },
}

impl Parsed {
    /// With instructions from a column of their own ahead of it all.
    pub(super) fn with_system(mut self, system: &str) -> Result<Self, &'static str> {
        let dialogue = match &mut self {
            Self::Sft(example) => &mut example.dialogue,
            Self::Preference(pair) => &mut pair.prompt,
            Self::Prompt(prompt) => &mut prompt.dialogue,
            Self::Chat(dialogue) => dialogue,
            Self::Quickstart { .. } => return Err("field `system` is not supported in quickstart rows; take it out"),
        };
        match dialogue.turns.first() {
            Some(turn) if turn.role == Role::System && turn.content.trim() == system.trim() => {}
            Some(turn) if turn.role == Role::System => {
                return Err("field `system` says something else than the dialogue's own system message; take one of them out");
            }
            _ => dialogue.turns.insert(0, Turn { role: Role::System, content: system.trim().to_owned() }),
        }
        Ok(self)
    }
}

fn cannot(wanted: &str, has: &str, fix: &str) -> Fault {
    Fault::Unfit(format!("{wanted} are wanted, and this is {has}; {fix}"))
}

const NO_ANSWER: &str = "a prompt without a response";

impl FromParsed for SftExample {
    fn from_parsed(parsed: Parsed) -> Converted<Self> {
        let plain = |dialogue| Self { dialogue, toxic: None, category: None };
        match parsed {
            Parsed::Sft(example) if example.dialogue.ends_with_assistant() => Ok(vec![("", example)]),
            Parsed::Sft(example) => Ok(vec![("", SftExample { dialogue: answered(example.dialogue)?, ..example })]),
            Parsed::Preference(pair) => Ok(vec![("", plain(pair.prompt.with(Role::Assistant, pair.chosen)))]),
            Parsed::Chat(dialogue) => Ok(vec![("", plain(answered(dialogue)?))]),
            Parsed::Quickstart { request, tone, good, evasive, rude } => {
                let example = |response, toxic| SftExample {
                    dialogue: Dialogue::from_user(&*request).with(Role::Assistant, response),
                    toxic,
                    category: Some(tone.clone()),
                };
                Ok(vec![
                    ("#good", example(good, None)),
                    ("#evasive", example(evasive, None)),
                    ("#rude", example(rude, Some(ToxicLabel::Human))),
                ])
            }
            Parsed::Prompt(_) => Err(cannot("dialogues with a response", NO_ANSWER, "call the response `completion`, or give `messages`")),
        }
    }
}

impl FromParsed for Preference {
    fn from_parsed(parsed: Parsed) -> Converted<Self> {
        match parsed {
            Parsed::Preference(pair) if pair.chosen.trim() == pair.rejected.trim() => Err(Fault::Drop("chosen and rejected are the same")),
            Parsed::Preference(pair) if pair.toxic.as_deref().map(str::trim) == Some(pair.chosen.trim()) => {
                Err(Fault::Drop("chosen and toxic are the same"))
            }
            Parsed::Preference(pair) => Ok(vec![("", pair)]),
            Parsed::Sft(_) | Parsed::Chat(_) => {
                Err(cannot("preferences", "a dialogue with one response", "give a file with `chosen` and `rejected`"))
            }
            Parsed::Quickstart { .. } => {
                Err(cannot("preferences", "a quickstart row", "its responses are to fine-tune on; triples come from the stage `annotate`"))
            }
            Parsed::Prompt(_) => Err(cannot("preferences", NO_ANSWER, "give a file with `chosen` and `rejected`")),
        }
    }
}

impl FromParsed for Prompt {
    fn from_parsed(parsed: Parsed) -> Converted<Self> {
        let prompt = match parsed {
            Parsed::Prompt(prompt) => prompt,
            Parsed::Preference(pair) => Prompt { dialogue: pair.prompt, harmful: None, category: None, reference: Some(pair.chosen) },
            Parsed::Sft(example) => {
                let reference = last_response(&example.dialogue).filter(|_| example.toxic.is_none());
                Prompt { dialogue: asked(example.dialogue)?, harmful: None, category: example.category, reference }
            }
            Parsed::Chat(dialogue) => {
                let reference = last_response(&dialogue);
                Prompt { dialogue: asked(dialogue)?, harmful: None, category: None, reference }
            }
            // Harsh words, but nobody in these rows asks for anything harmful.
            Parsed::Quickstart { request, tone, good, .. } => {
                Prompt { dialogue: Dialogue::from_user(request), harmful: Some(false), category: Some(tone), reference: Some(good) }
            }
        };
        Ok(vec![("", prompt)])
    }
}

impl FromParsed for Dialogue {
    fn from_parsed(parsed: Parsed) -> Converted<Self> {
        let dialogue = match parsed {
            Parsed::Prompt(prompt) => prompt.dialogue,
            Parsed::Preference(pair) => pair.prompt.with(Role::Assistant, pair.chosen),
            Parsed::Sft(example) => example.dialogue,
            Parsed::Chat(dialogue) => dialogue,
            Parsed::Quickstart { request, good, .. } => Self::from_user(request).with(Role::Assistant, good),
        };
        Ok(vec![("", dialogue)])
    }
}

/// What the assistant said last, if nobody spoke after it.
fn last_response(dialogue: &Dialogue) -> Option<String> {
    let last = dialogue.turns.last().filter(|turn| turn.role == Role::Assistant)?;
    Some(last.content.clone())
}

/// Up to the last response.
fn answered(dialogue: Dialogue) -> Result<Dialogue, Fault> {
    let dialogue = dialogue.cut_after_last(Role::Assistant);
    if dialogue.turns.is_empty() { Err(Fault::Drop("no assistant turn")) } else { Ok(dialogue) }
}

/// Up to the last user turn.
fn asked(dialogue: Dialogue) -> Result<Dialogue, Fault> {
    let dialogue = dialogue.cut_after_last(Role::User);
    if dialogue.turns.is_empty() { Err(Fault::Drop("no user turn")) } else { Ok(dialogue) }
}

/// What every format asks of a dialogue: turns that say something, by user and assistant in turn, the user first,
/// system text ahead of it all. Chat templates refuse the rest, or write it in a way that nobody meant.
pub(super) fn checked(dialogue: Dialogue) -> Result<Dialogue, Fault> {
    let turns = &dialogue.turns;
    if turns.iter().any(|turn| turn.content.trim().is_empty()) {
        return Err(Fault::Drop("an empty turn"));
    }
    let spoken = if turns.first().is_some_and(|turn| turn.role == Role::System) { &turns[1..] } else { &turns[..] };
    match spoken.first().map(|turn| turn.role) {
        None => return Err(Fault::Drop("no turns")),
        Some(Role::User) => {}
        Some(_) => return Err(Fault::Drop("the first turn is not the user's")),
    }
    if spoken.iter().any(|turn| turn.role == Role::System) {
        return Err(Fault::Drop("a system turn inside the dialogue"));
    }
    if spoken.windows(2).any(|pair| pair[0].role == pair[1].role) {
        return Err(Fault::Drop("two turns in a row by one speaker"));
    }
    Ok(dialogue)
}

/// A prompt is a checked dialogue in which it is the assistant's turn. Some files write that turn's opening already: an
/// assistant turn without text.
pub(super) fn checked_prompt(mut dialogue: Dialogue) -> Result<Dialogue, Fault> {
    dialogue.turns.pop_if(|turn| turn.role == Role::Assistant && turn.content.trim().is_empty());
    let dialogue = checked(dialogue)?;
    if dialogue.ends_with_user() { Ok(dialogue) } else { Err(Fault::Drop("the prompt does not end with the user")) }
}

/// A chat between two people; whoever speaks first is the user, so that every second turn is the assistant's.
/// Messages in a row by one of them are one turn.
pub(super) fn chat<'a>(messages: impl Iterator<Item = (&'a str, String)>) -> Result<Dialogue, Fault> {
    let mut dialogue = Dialogue::default();
    let mut speakers: Vec<&str> = Vec::new();
    for (speaker, text) in messages {
        let place = speakers.iter().position(|known| *known == speaker).unwrap_or_else(|| {
            speakers.push(speaker);
            speakers.len() - 1
        });
        let role = match place {
            0 => Role::User,
            1 => Role::Assistant,
            _ => return Err(Fault::Drop("more than two speakers")),
        };
        match dialogue.turns.last_mut() {
            Some(last) if last.role == role => {
                last.content.push('\n');
                last.content.push_str(&text);
            }
            _ => dialogue = dialogue.with(role, text),
        }
    }
    checked(dialogue)
}
