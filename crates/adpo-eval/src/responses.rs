//! Replies of any model from JSONL: what `adpo evaluate --responses` reads.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use adpo_data::{Dialogue, Turn};
use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::error::EvalError;
use crate::judge::Exchange;
use crate::report::Reply;

/// Replies read from files, sorted by the model that gave them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Responses {
    /// Models in the order of their first line, with their replies in the order of the files.
    pub systems: Vec<(String, Vec<Reply>)>,
    /// Keys that are none of the format's, with the number of lines that have them. They are ignored.
    pub ignored_keys: BTreeMap<String, usize>,
    /// The files and their SHA-256, as they lie on disk.
    pub files: Vec<(String, String)>,
}

/// The keys of a line; anything else is counted and ignored.
const KEYS: [&str; 7] = ["prompt", "response", "model", "prompt_id", "category", "harmful", "reference"];

/// No line of text needs more bytes; a longer one is another kind of file.
const LONGEST_LINE: u64 = 64 << 20;

/// Reads files of replies, gzipped or not, one JSON object per line:
///
/// ```json
/// {"prompt": "…", "response": "…", "model": "…", "prompt_id": "…", "category": "…", "harmful": false, "reference": "…"}
/// ```
///
/// - `prompt`: a string (one user turn), or the dialogue so far as a list of `{"role", "content"}` that ends with the user.
/// - `model`: who replied. Several lines of one model to one prompt are samples.
/// - `prompt_id`, optional: pairs the replies of different models. Without it, the prompt's content does. All lines of all
///   files have one or none has, since otherwise replies to one prompt would not meet.
/// - `category`, `harmful` and `reference` (what a person replied), optional, belong to the prompt: what one line says holds for all its replies, and two
///   lines may not contradict each other. A prompt not marked harmful counts as safe.
/// - Other keys are ignored and counted.
///
/// # Errors
/// [`EvalError::Io`] for a file that cannot be read, [`EvalError::Line`] for a line that is not such an object, uses one
/// id for two prompts, or contradicts an earlier line; [`EvalError::Report`] where there is no line at all.
pub fn read_responses<P: AsRef<Path>>(paths: &[P]) -> Result<Responses, EvalError> {
    let mut reading = Reading::default();
    for path in paths {
        reading.file(path.as_ref())?;
    }
    if reading.responses.systems.is_empty() {
        return Err(EvalError::Report(
            "the files hold no replies; one JSON object with prompt, response and model per line is needed".into(),
        ));
    }
    Ok(reading.finish())
}

/// What has been read so far.
#[derive(Default)]
struct Reading {
    responses: Responses,
    prompts: HashMap<String, PromptFacts>,
    /// Whether lines have a `prompt_id`; decided by the first.
    with_ids: Option<bool>,
}

/// What lines say about a prompt.
struct PromptFacts {
    dialogue: Dialogue,
    category: Option<String>,
    harmful: Option<bool>,
    reference: Option<String>,
}

/// A line, checked.
struct Line {
    prompt: Dialogue,
    response: String,
    model: String,
    prompt_id: Option<String>,
    category: Option<String>,
    harmful: Option<bool>,
    reference: Option<String>,
}

impl Reading {
    fn file(&mut self, path: &Path) -> Result<(), EvalError> {
        let name = path.display().to_string();
        // Read at once: what is hashed is what is parsed, and a pipe can be read only once.
        let bytes = std::fs::read(path).map_err(|source| EvalError::io(path, source))?;
        self.responses.files.push((name.clone(), hex::encode(Sha256::digest(&bytes))));
        // The first two bytes say whether it is gzip, whatever its name says.
        let compressed = bytes.starts_with(&[0x1f, 0x8b]);
        let bytes = bytes.as_slice();
        let mut reader: Box<dyn BufRead> = if compressed { Box::new(BufReader::new(MultiGzDecoder::new(bytes))) } else { Box::new(bytes) };
        let mut buffer = Vec::new();
        for number in 1.. {
            buffer.clear();
            let fail = |reason: String| EvalError::Line { path: name.clone(), line: number, reason };
            let read = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut buffer);
            if read.map_err(|error| fail(error.to_string()))? == 0 {
                break;
            }
            if buffer.len() as u64 == LONGEST_LINE {
                return Err(fail("is longer than 64 MiB; one JSON object per line is needed".to_owned()));
            }
            let text = std::str::from_utf8(&buffer).map_err(|error| fail(format!("is not UTF-8: {error}")))?;
            let text = text.trim_start_matches('\u{feff}').trim();
            if !text.is_empty() {
                let line = self.parse(text).map_err(fail)?;
                self.add(line).map_err(fail)?;
            }
        }
        Ok(())
    }

    fn parse(&mut self, text: &str) -> Result<Line, String> {
        let mut fields: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| format!("is no JSON object: {error}; one object per line is needed"))?;
        let line = Line {
            prompt: prompt(fields.get("prompt"))?,
            response: optional(&fields, "response")?.ok_or("field `response` is missing; it holds the reply, and may be empty")?,
            model: optional(&fields, "model")?
                .filter(|name: &String| !name.trim().is_empty())
                .ok_or("field `model` is missing or empty; it names who replied, so that systems can be told apart")?,
            prompt_id: optional(&fields, "prompt_id")?,
            category: optional(&fields, "category")?,
            harmful: optional(&fields, "harmful")?,
            reference: optional(&fields, "reference")?,
        };
        fields.retain(|key, _| !KEYS.contains(&key.as_str()));
        for (key, _) in fields {
            *self.responses.ignored_keys.entry(key).or_default() += 1;
        }
        Ok(line)
    }

    fn add(&mut self, line: Line) -> Result<(), String> {
        let Line { prompt, response, model, prompt_id, category, harmful, reference } = line;
        let has_id = prompt_id.is_some();
        if *self.with_ids.get_or_insert(has_id) != has_id {
            let (here, before) = if has_id { ("has a", "have none") } else { ("has no", "have one") };
            return Err(format!("{here} `prompt_id` and the lines before {before}; give every line of all files one, or none"));
        }
        let id = prompt_id.unwrap_or_else(|| content_hash(&prompt));
        let unknown = || PromptFacts { dialogue: prompt.clone(), category: None, harmful: None, reference: None };
        let facts = self.prompts.entry(id.clone()).or_insert_with(unknown);
        if facts.dialogue != prompt {
            return Err(format!("`prompt_id` {id:?} stood for another prompt before; an id names one prompt in all files"));
        }
        agree("category", &mut facts.category, category)?;
        agree("harmful", &mut facts.harmful, harmful)?;
        agree("reference", &mut facts.reference, reference)?;
        let reply = Reply { prompt_id: id, exchange: Exchange { prompt, response, harmful: false }, category: None, reference: None };
        match self.responses.systems.iter_mut().find(|(name, _)| *name == model) {
            Some((_, replies)) => replies.push(reply),
            None => self.responses.systems.push((model, vec![reply])),
        }
        Ok(())
    }

    /// Gives every reply what any line said about its prompt.
    fn finish(mut self) -> Responses {
        for (_, replies) in &mut self.responses.systems {
            for reply in replies {
                if let Some(facts) = self.prompts.get(&reply.prompt_id) {
                    reply.exchange.harmful = facts.harmful == Some(true);
                    reply.category.clone_from(&facts.category);
                    reply.reference.clone_from(&facts.reference);
                }
            }
        }
        self.responses
    }
}

/// An optional field; null is as good as absent.
fn optional<T: for<'de> Deserialize<'de>>(fields: &Map<String, Value>, name: &str) -> Result<Option<T>, String> {
    let Some(value) = fields.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    T::deserialize(value).map(Some).map_err(|error| format!("field `{name}`: {error}"))
}

fn prompt(value: Option<&Value>) -> Result<Dialogue, String> {
    let dialogue = match value {
        Some(Value::String(text)) => Dialogue::from_user(text.as_str()),
        Some(messages @ Value::Array(_)) => {
            let turns = Vec::<Turn>::deserialize(messages);
            Dialogue { turns: turns.map_err(|error| format!("field `prompt`: {error}; a message is {{\"role\", \"content\"}}"))? }
        }
        Some(_) => return Err("field `prompt` must be a string or a list of {\"role\", \"content\"}".to_owned()),
        None => return Err("field `prompt` is missing; it holds what was answered".to_owned()),
    };
    match dialogue.last_user() {
        Some(text) if dialogue.ends_with_user() && !text.trim().is_empty() => Ok(dialogue),
        _ => Err("field `prompt` must end with a message by the user that is not empty; the reply belongs in `response`".to_owned()),
    }
}

/// Keeps what was said of a prompt first, and refuses the opposite.
fn agree<T: PartialEq + std::fmt::Debug>(name: &str, known: &mut Option<T>, new: Option<T>) -> Result<(), String> {
    match (&known, new) {
        (Some(old), Some(new)) if *old != new => Err(format!("field `{name}` is {new:?} and was {old:?} for this prompt before")),
        (None, Some(new)) => {
            *known = Some(new);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Names a prompt by its turns: 16 hexadecimal digits.
fn content_hash(prompt: &Dialogue) -> String {
    let mut hash = Sha256::new();
    for turn in &prompt.turns {
        hash.update(turn.role.name());
        hash.update((turn.content.len() as u64).to_le_bytes());
        hash.update(&turn.content);
    }
    hex::encode(&hash.finalize()[..8])
}
