//! What a model said to a prompt: the record that sampling writes, and that annotation, evaluation and reports read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use adpo_data::{Dialogue, JsonLines, JsonlWriter, Prompt, Row, Turn};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::error::EvalError;
use crate::judge::Exchange;
use crate::token_form::TokenForm;

/// A response, with the prompt and all that is known of it. Responses to one prompt share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The prompt. Its id pairs the responses of two systems; several responses of one system to it are samples.
    pub prompt: Arc<Row<Prompt>>,
    /// What the model said.
    pub text: String,
}

impl Response {
    /// The prompt's id.
    pub fn prompt_id(&self) -> &str {
        &self.prompt.id
    }

    /// Whether the prompt is marked harmful.
    pub fn is_harmful(&self) -> bool {
        self.prompt.value.is_harmful()
    }

    /// What a judge is shown.
    pub fn exchange(&self) -> Exchange<'_> {
        Exchange { prompt: &self.prompt.value, response: &self.text }
    }
}

/// The first response to each prompt, with its place.
pub(crate) fn first_to_each_prompt(responses: &[Response]) -> Vec<(usize, &Response)> {
    let mut seen = HashSet::new();
    responses.iter().enumerate().filter(|(_, response)| seen.insert(response.prompt_id())).collect()
}

/// Who responded: a model, and in which form the control token came with the prompts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Responder {
    /// The model's name.
    pub model: String,
    /// `None`: the prompts came without the control token.
    pub control_token: Option<TokenForm>,
}

impl Responder {
    /// A model that was asked without the control token.
    pub fn plain(model: impl Into<String>) -> Self {
        Self { model: model.into(), control_token: None }
    }
}

/// Responses read from files, by who gave them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Responses {
    /// In the order of their first lines, with their responses in the order of the files.
    pub by: Vec<(Responder, Vec<Response>)>,
    /// Keys that are none of the format's, with the number of lines that have them. They are ignored.
    pub ignored_keys: BTreeMap<String, usize>,
    /// The files and their SHA-256, as they lie on disk.
    pub files: Vec<(String, String)>,
}

impl Responses {
    /// The models that were asked without the control token, in the order of their first lines.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.by.iter().filter(|(by, _)| by.control_token.is_none()).map(|(by, _)| by.model.as_str())
    }

    /// What a responder said; nothing where the files have nothing of it.
    pub fn of(&self, responder: &Responder) -> &[Response] {
        self.by.iter().find(|(other, _)| other == responder).map_or(&[], |(_, responses)| responses)
    }
}

/// The keys of a line; anything else is counted and ignored.
const KEYS: [&str; 10] =
    ["prompt", "response", "model", "control_token", "prompt_id", "source", "licence", "category", "harmful", "reference"];

/// A line as it is written.
#[derive(Serialize)]
struct Written<'a> {
    prompt_id: &'a str,
    #[serde(flatten)]
    prompt: &'a Prompt,
    response: &'a str,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    control_token: Option<TokenForm>,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    licence: Option<&'a str>,
}

impl<'a> Written<'a> {
    fn new(responder: &'a Responder, response: &'a Response) -> Self {
        Self {
            prompt_id: &response.prompt.id,
            prompt: &response.prompt.value,
            response: &response.text,
            model: &responder.model,
            control_token: responder.control_token,
            source: &response.prompt.source,
            licence: response.prompt.licence.as_deref(),
        }
    }
}

/// Writes one response as a line that [`read_responses`] reads.
///
/// # Errors
/// [`EvalError::Rows`] if the file cannot be written.
pub fn write_response(file: &mut JsonlWriter<'_>, responder: &Responder, response: &Response) -> Result<(), EvalError> {
    Ok(file.push(&Written::new(responder, response))?)
}

/// Writes one responder's responses to a file.
///
/// # Errors
/// As [`write_response`].
pub fn write_responses<'a>(
    path: impl AsRef<Path>,
    responder: &Responder,
    responses: impl IntoIterator<Item = &'a Response>,
) -> Result<(), EvalError> {
    adpo_data::write_jsonl_with(path, |file| responses.into_iter().try_for_each(|response| write_response(file, responder, response)))
}

/// A response as a line with its line feed.
#[cfg(feature = "http")]
pub(crate) fn response_line(responder: &Responder, response: &Response) -> serde_json::Result<String> {
    serde_json::to_string(&Written::new(responder, response)).map(|line| line + "\n")
}

/// Reads a file that [`response_line`]s are appended to; a last line that a kill cut off is left out.
#[cfg(feature = "http")]
pub(crate) fn read_appended(path: &Path) -> Result<Responses, EvalError> {
    let mut reading = Reading::default();
    reading.file(path, true)?;
    Ok(reading.finish())
}

/// Reads files of responses, gzipped or not, one JSON object per line:
///
/// ```json
/// {"prompt": "…", "response": "…", "model": "…", "prompt_id": "…", "category": "…", "harmful": false, "reference": "…"}
/// ```
///
/// - `prompt`: a string (one user turn), or the dialogue so far as a list of `{"role", "content"}` that ends with the user.
/// - `model`: who responded. Several lines of one model to one prompt are samples.
/// - `control_token`, optional: the form in which the control token came with the prompt (`control`, `typed`, `spelled`, `exported`, `unrelated`).
/// - `prompt_id`, optional, a string or a whole number: pairs the responses of different models. Without it, the prompt's content does. All lines of all
///   files have one or none has, since otherwise responses to one prompt would not meet.
/// - `category`, `harmful`, `reference` (what a person responded), `source` and `licence`, optional, belong to the prompt: what one line
///   says holds for all responses to it, and two lines may not contradict each other. A prompt not marked harmful counts as safe.
/// - Other keys are ignored and counted.
///
/// # Errors
/// [`EvalError::Io`] for a file that cannot be read, [`EvalError::Rows`] for a line that is not such an object, uses one
/// id for two prompts, or contradicts an earlier line; [`EvalError::Report`] where there is no line at all.
pub fn read_responses<P: AsRef<Path>>(paths: &[P]) -> Result<Responses, EvalError> {
    let mut reading = Reading::default();
    for path in paths {
        reading.file(path.as_ref(), false)?;
    }
    if reading.by.is_empty() {
        return Err(EvalError::Report(
            "the files hold no responses; one JSON object with prompt, response and model per line is needed".into(),
        ));
    }
    Ok(reading.finish())
}

/// What has been read so far.
#[derive(Default)]
struct Reading {
    by: Vec<(Responder, Vec<Said>)>,
    ignored_keys: BTreeMap<String, usize>,
    files: Vec<(String, String)>,
    prompts: Vec<KnownPrompt>,
    /// Prompts by their ids.
    numbers: HashMap<String, usize>,
    /// Whether lines have a `prompt_id`; decided by the first.
    with_ids: Option<bool>,
}

/// A response, with its prompt's number.
struct Said {
    prompt: usize,
    text: String,
}

/// What lines say about a prompt.
struct KnownPrompt {
    id: String,
    source: Option<String>,
    licence: Option<String>,
    prompt: Prompt,
}

/// A line, checked.
struct Line {
    prompt: Dialogue,
    response: String,
    responder: Responder,
    prompt_id: Option<String>,
    source: Option<String>,
    licence: Option<String>,
    category: Option<String>,
    harmful: Option<bool>,
    reference: Option<String>,
}

impl Reading {
    fn file(&mut self, path: &Path, appended: bool) -> Result<(), EvalError> {
        let name = path.display().to_string();
        // Read at once: what is hashed is what is parsed.
        let bytes = adpo_data::read_bytes(path)?;
        self.files.push((name.clone(), hex::encode(Sha256::digest(&bytes))));
        let lines = JsonLines::from_bytes(name, &bytes);
        for line in if appended { lines.whole_only() } else { lines } {
            let line = line?;
            self.parse(line.fields()?).and_then(|parsed| self.add(parsed)).map_err(|problem| line.error(problem))?;
        }
        Ok(())
    }

    fn parse(&mut self, mut fields: Map<String, Value>) -> Result<Line, String> {
        let model = optional(&fields, "model")?
            .filter(|name: &String| !name.trim().is_empty())
            .ok_or("field `model` is missing or empty; it names who responded, so that systems can be told apart")?;
        let line = Line {
            prompt: prompt(fields.get("prompt"))?,
            response: optional(&fields, "response")?.ok_or("field `response` is missing; it holds the response, and may be empty")?,
            responder: Responder { model, control_token: optional(&fields, "control_token")? },
            prompt_id: optional(&fields, "prompt_id")?.map(prompt_id).transpose()?,
            source: optional(&fields, "source")?,
            licence: optional(&fields, "licence")?,
            category: optional(&fields, "category")?,
            harmful: optional(&fields, "harmful")?,
            reference: optional(&fields, "reference")?,
        };
        fields.retain(|key, _| !KEYS.contains(&key.as_str()));
        for (key, _) in fields {
            *self.ignored_keys.entry(key).or_default() += 1;
        }
        Ok(line)
    }

    fn add(&mut self, line: Line) -> Result<(), String> {
        let Line { prompt, response, responder, prompt_id, source, licence, category, harmful, reference } = line;
        let has_id = prompt_id.is_some();
        if *self.with_ids.get_or_insert(has_id) != has_id {
            let (here, before) = if has_id { ("has a", "have none") } else { ("has no", "have one") };
            return Err(format!("{here} `prompt_id` and the lines before {before}; give every line of all files one, or none"));
        }
        let id = prompt_id.unwrap_or_else(|| content_hash(&prompt));
        let number = *self.numbers.entry(id.clone()).or_insert_with(|| {
            self.prompts.push(KnownPrompt { id: id.clone(), source: None, licence: None, prompt: Prompt::from(prompt.clone()) });
            self.prompts.len() - 1
        });
        let known = &mut self.prompts[number];
        if known.prompt.dialogue != prompt {
            return Err(format!("`prompt_id` {id:?} stood for another prompt before; an id names one prompt in all files"));
        }
        agree("category", &mut known.prompt.category, category)?;
        agree("harmful", &mut known.prompt.harmful, harmful)?;
        agree("reference", &mut known.prompt.reference, reference)?;
        agree("source", &mut known.source, source)?;
        agree("licence", &mut known.licence, licence)?;
        let said = Said { prompt: number, text: response };
        match self.by.iter_mut().find(|(other, _)| *other == responder) {
            Some((_, responses)) => responses.push(said),
            None => self.by.push((responder, vec![said])),
        }
        Ok(())
    }

    /// Gives every response what any line said about its prompt.
    fn finish(self) -> Responses {
        let row =
            |KnownPrompt { id, source, licence, prompt }| Arc::new(Row { id, source: source.unwrap_or_default(), licence, value: prompt });
        let prompts: Vec<Arc<Row<Prompt>>> = self.prompts.into_iter().map(row).collect();
        let response = |Said { prompt, text }| Response { prompt: prompts[prompt].clone(), text };
        let by = self.by.into_iter().map(|(responder, said)| (responder, said.into_iter().map(response).collect())).collect();
        Responses { by, ignored_keys: self.ignored_keys, files: self.files }
    }
}

/// An optional field; null counts as absent.
fn optional<T: for<'de> Deserialize<'de>>(fields: &Map<String, Value>, name: &str) -> Result<Option<T>, String> {
    let Some(value) = fields.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    T::deserialize(value).map(Some).map_err(|error| format!("field `{name}`: {error}"))
}

/// A string, or the number that data sets count their prompts with.
fn prompt_id(value: Value) -> Result<String, String> {
    match value {
        Value::String(id) => Ok(id),
        Value::Number(id) if !id.is_f64() => Ok(id.to_string()),
        other => Err(format!("field `prompt_id` is {other}; a string or a whole number is needed")),
    }
}

fn prompt(value: Option<&Value>) -> Result<Dialogue, String> {
    let dialogue = match value {
        // As rows are read: white space around a prompt makes it no other one.
        Some(Value::String(text)) => Dialogue::from_user(text.trim()),
        Some(messages @ Value::Array(_)) => {
            let turns = Vec::<Turn>::deserialize(messages);
            Dialogue { turns: turns.map_err(|error| format!("field `prompt`: {error}; a message is {{\"role\", \"content\"}}"))? }
        }
        Some(_) => return Err("field `prompt` must be a string or a list of {\"role\", \"content\"}".to_owned()),
        None => return Err("field `prompt` is missing; it holds what was answered".to_owned()),
    };
    match dialogue.last_user() {
        Some(text) if dialogue.ends_with_user() && !text.trim().is_empty() => Ok(dialogue),
        _ => {
            Err("field `prompt` must end with a message by the user that is not empty; what was responded belongs in `response`".to_owned())
        }
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
