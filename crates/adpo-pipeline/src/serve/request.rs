//! What a request asks for. Every field is used, or has the value that changes nothing, or is refused: none is ignored.

use adpo_data::{Dialogue, Role, Turn, derive_seed};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Server;
use super::error::Refusal;

/// Rows of one request: prompts times `n`.
const MOST_ROWS: usize = 64;
/// Alternatives beside each token.
const MOST_LOG_PROBS: usize = 20;
const MOST_STOPS: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Chat,
    Completions,
}

/// A request that can be answered.
pub(super) struct Ask {
    /// Counts up.
    pub number: u64,
    pub endpoint: Endpoint,
    pub prompts: Vec<Prompt>,
    /// Completions of each prompt.
    pub n: usize,
    pub temperature: f64,
    pub top_p: f64,
    pub top_k: Option<usize>,
    pub seed: u64,
    pub stops: Vec<String>,
    /// Whether tokens come with log-probs, and with how many alternatives.
    pub log_probs: Option<usize>,
    /// Whether a prompt stands before its completions.
    pub echo: bool,
    pub stream: bool,
    /// Whether a stream ends with the number of tokens.
    pub stream_usage: bool,
}

pub(super) struct Prompt {
    pub ids: Vec<u32>,
    /// As it was sent, if it was sent as text.
    pub text: Option<String>,
    pub max_new_tokens: usize,
}

impl Ask {
    pub(super) fn read(server: &Server, endpoint: Endpoint, body: &[u8]) -> Result<Self, Refusal> {
        let bad = |problem: String| Refusal::new(StatusCode::BAD_REQUEST, problem);
        let fields = match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return Err(bad("the body must be a JSON object".to_owned())),
            Err(error) => return Err(bad(format!("the body is no JSON: {error}"))),
        };
        let mut fields = Fields(fields);
        let model: String = fields.needed("model", "a string")?;
        if model != server.speaker.name {
            let problem = format!("`model` is `{model}`; this server has `{}`", server.speaker.name);
            return Err(Refusal::new(StatusCode::NOT_FOUND, problem).with_code("model_not_found"));
        }
        let chat = endpoint == Endpoint::Chat;
        let toxic = fields.take("toxic", "true or false")?.unwrap_or(false);
        if toxic && !server.options.toxic {
            return Err(Refusal::field("toxic", "may be asked for where the server was started with --toxic alone"));
        }
        let number = server.requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let seed = match fields.take::<i64>("seed", "an integer")? {
            Some(seed) => seed as u64,
            None => derive_seed(server.options.seed, &format!("request {number}")),
        };
        let temperature = fields.within("temperature", 0.0, 2.0)?.unwrap_or(1.0);
        let top_p = fields.within("top_p", 0.0, 1.0)?.unwrap_or(1.0);
        if top_p == 0.0 {
            return Err(Refusal::field("top_p", "must be more than 0"));
        }
        let top_k = fields.count("top_k", 1, usize::MAX)?;
        let n = fields.count("n", 1, MOST_ROWS)?.unwrap_or(1);
        let stream = fields.take("stream", "true or false")?.unwrap_or(false);
        let stream_usage = stream_usage(fields.take("stream_options", "an object")?, stream)?;
        let stops = stops(fields.take("stop", "a string or a list")?)?;
        let echo = !chat && fields.take("echo", "true or false")?.unwrap_or(false);
        let log_probs = if chat { chat_log_probs(&mut fields)? } else { fields.count("logprobs", 0, MOST_LOG_PROBS)? };
        let prompts = if chat { chat_prompt(server, &mut fields, toxic)? } else { prompts(server, &mut fields, toxic, echo)? };
        if prompts.len() * n > MOST_ROWS {
            return Err(Refusal::field("n", format!("times {} prompts is more than {MOST_ROWS}", prompts.len())));
        }
        fields.refuse_what_is_left()?;
        Ok(Self { number, endpoint, prompts, n, temperature, top_p, top_k, seed, stops, log_probs, echo, stream, stream_usage })
    }
}

/// The fields that nobody has asked for yet. `null` is as good as absent.
struct Fields(Map<String, Value>);

impl Fields {
    fn take<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Result<Option<T>, Refusal> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value).map(Some).map_err(|_| Refusal::field(name, format!("must be {expected}"))),
        }
    }

    fn needed<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Result<T, Refusal> {
        self.take(name, expected)?.ok_or_else(|| Refusal::field(name, format!("is missing; it must be {expected}")))
    }

    fn within(&mut self, name: &str, least: f64, most: f64) -> Result<Option<f64>, Refusal> {
        let expected = format!("a number from {least} to {most}");
        let value = self.take::<f64>(name, &expected)?;
        if value.is_some_and(|value| !(least..=most).contains(&value)) {
            return Err(Refusal::field(name, format!("must be {expected}")));
        }
        Ok(value)
    }

    fn count(&mut self, name: &str, least: usize, most: usize) -> Result<Option<usize>, Refusal> {
        let expected =
            if most == usize::MAX { format!("an integer from {least} on") } else { format!("an integer from {least} to {most}") };
        let value = self.take::<usize>(name, &expected)?;
        if value.is_some_and(|value| !(least..=most).contains(&value)) {
            return Err(Refusal::field(name, format!("must be {expected}")));
        }
        Ok(value)
    }

    /// What is left may have the value that changes nothing, as some clients send it.
    fn refuse_what_is_left(self) -> Result<(), Refusal> {
        for (name, value) in self.0 {
            let is_empty = value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
            let changes_nothing = match name.as_str() {
                // Names of the sender, not of anything that is drawn.
                "user" | "metadata" | "safety_identifier" => true,
                "presence_penalty" | "frequency_penalty" => value.as_f64() == Some(0.0),
                "best_of" => value.as_u64() == Some(1),
                "logit_bias" | "tools" | "functions" => is_empty,
                "tool_choice" | "function_call" => value == "none" || value == "auto",
                "parallel_tool_calls" | "store" => value.is_boolean(),
                "response_format" => value == serde_json::json!({ "type": "text" }),
                "modalities" => value == serde_json::json!(["text"]),
                "service_tier" => value == "auto" || value == "default",
                "suffix" => value == "",
                _ => false,
            };
            if !(value.is_null() || changes_nothing) {
                return Err(Refusal::field(&name, "is not supported, or not with this value; leave it out").with_code("unsupported_field"));
            }
        }
        Ok(())
    }
}

fn stream_usage(options: Option<Map<String, Value>>, stream: bool) -> Result<bool, Refusal> {
    let Some(options) = options else { return Ok(false) };
    if !stream {
        return Err(Refusal::field("stream_options", "needs `stream`"));
    }
    let mut options = Fields(options);
    let usage = options.take("include_usage", "true or false")?.unwrap_or(false);
    options.refuse_what_is_left()?;
    Ok(usage)
}

fn stops(stop: Option<Value>) -> Result<Vec<String>, Refusal> {
    let wrong = || Refusal::field("stop", format!("must be a string or a list of at most {MOST_STOPS}, none of them empty"));
    let stops: Vec<String> = match stop {
        None => Vec::new(),
        Some(Value::String(stop)) => vec![stop],
        Some(list) => serde_json::from_value(list).map_err(|_| wrong())?,
    };
    if stops.len() > MOST_STOPS || stops.iter().any(String::is_empty) { Err(wrong()) } else { Ok(stops) }
}

fn chat_log_probs(fields: &mut Fields) -> Result<Option<usize>, Refusal> {
    let wanted = fields.take("logprobs", "true or false")?.unwrap_or(false);
    let top = fields.count("top_logprobs", 0, MOST_LOG_PROBS)?;
    match (wanted, top) {
        (false, Some(1..)) => Err(Refusal::field("top_logprobs", "needs `logprobs`")),
        (wanted, top) => Ok(wanted.then(|| top.unwrap_or(0))),
    }
}

fn chat_prompt(server: &Server, fields: &mut Fields, toxic: bool) -> Result<Vec<Prompt>, Refusal> {
    let messages: Vec<Map<String, Value>> = fields.needed("messages", "a list of objects with role and content")?;
    let turns = messages.into_iter().enumerate().map(|(i, message)| turn(i, message)).collect::<Result<Vec<_>, _>>()?;
    if turns.last().is_none_or(|turn| turn.role != Role::User) {
        return Err(Refusal::field("messages", "must end with a message by the user"));
    }
    let ids = server.speaker.prompt(&Dialogue { turns }, toxic)?;
    let old = fields.count("max_tokens", 1, usize::MAX)?;
    let new = fields.count("max_completion_tokens", 1, usize::MAX)?;
    if old.is_some() && new.is_some() && old != new {
        return Err(Refusal::field("max_tokens", "and `max_completion_tokens` differ; give one of them"));
    }
    let max_new_tokens = length(server, ids.len(), new.or(old), server.options.max_new_tokens)?;
    Ok(vec![Prompt { ids, text: None, max_new_tokens }])
}

fn turn(number: usize, message: Map<String, Value>) -> Result<Turn, Refusal> {
    let place = format!("messages[{number}]");
    let wrong = |problem: &str| Refusal::field(&place, problem);
    let mut fields = Fields(message);
    let role: String = fields.take("role", "a string")?.ok_or_else(|| wrong("has no role"))?;
    let role = match role.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" | "developer" => Role::System,
        _ => return Err(wrong("has a role other than user, assistant, system and developer")),
    };
    let content = match fields.take::<Value>("content", "text")? {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => {
            let text = |part: &Value| match part {
                Value::Object(part) if part.len() == 2 && part.get("type").is_some_and(|kind| kind == "text") => {
                    part.get("text").and_then(Value::as_str).map(str::to_owned)
                }
                _ => None,
            };
            parts.iter().map(text).collect::<Option<String>>().ok_or_else(|| wrong("has a part that is not text"))?
        }
        _ => return Err(wrong("has no text in `content`")),
    };
    // lm-eval's clients say what everything here is.
    if fields.take::<Value>("type", "text")?.is_some_and(|kind| kind != "text") {
        return Err(wrong("has a type other than text"));
    }
    match fields.0.into_iter().find(|(_, value)| !value.is_null()) {
        Some((name, _)) => Err(wrong(&format!("has a field `{name}`, which is not supported; leave it out"))),
        None => Ok(Turn { role, content }),
    }
}

fn prompts(server: &Server, fields: &mut Fields, toxic: bool, echo: bool) -> Result<Vec<Prompt>, Refusal> {
    if toxic {
        return Err(Refusal::field("toxic", "belongs to /v1/chat/completions, where the control token has its place"));
    }
    let expected = "a string, a list of token ids, or a list of these";
    let wrong = || Refusal::field("prompt", format!("must be {expected}"));
    let asked = fields.count("max_tokens", 0, usize::MAX)?;
    let prompt: Value = fields.needed("prompt", expected)?;
    let prompts = match prompt {
        Value::Array(list) if list.is_empty() => return Err(wrong()),
        Value::Array(list) if !list[0].is_number() => list,
        one => vec![one],
    };
    let read = |prompt: Value| {
        let (ids, text) = match prompt {
            Value::String(text) => (server.plain.encode(&text).map_err(crate::PipelineError::from)?, Some(text)),
            ids => (serde_json::from_value::<Vec<u32>>(ids).map_err(|_| wrong())?, None),
        };
        if ids.is_empty() {
            return Err(Refusal::field("prompt", "has no tokens"));
        }
        let tokenizer = &server.speaker.checkpoint.tokenizer;
        if let Some(id) = ids.iter().find(|id| **id as usize >= tokenizer.vocab_size()) {
            return Err(Refusal::field("prompt", format!("has the id {id}, which lies outside the vocabulary")));
        }
        // As text it could not be written, so that it may not be sent as a number.
        if let Some(id) = ids.iter().find(|id| tokenizer.is_reserved(**id)) {
            return Err(Refusal::field("prompt", format!("has the id {id}, which is a special token that requests may not use")));
        }
        // OpenAI's default.
        let max_new_tokens = length(server, ids.len(), asked, 16)?;
        if max_new_tokens == 0 && !echo {
            return Err(Refusal::field("max_tokens", "is 0, and without `echo` nothing would come back"));
        }
        Ok(Prompt { ids, text, max_new_tokens })
    };
    prompts.into_iter().map(read).collect()
}

/// How many tokens may be drawn behind so many of a prompt.
fn length(server: &Server, prompt: usize, asked: Option<usize>, default: usize) -> Result<usize, Refusal> {
    let (context, most) = (server.speaker.context(), server.options.max_new_tokens);
    let room = context.saturating_sub(prompt);
    if let Some(asked) = asked.filter(|asked| *asked > most) {
        return Err(Refusal::field("max_tokens", format!("is {asked}; this server draws at most {most}")));
    }
    if prompt > context || room < asked.unwrap_or(1) {
        let problem = match asked {
            Some(asked) => format!("the prompt has {prompt} tokens, which with {asked} new ones is more than the context of {context}"),
            None => format!("the prompt has {prompt} tokens, which leaves nothing of the context of {context}"),
        };
        return Err(Refusal::new(StatusCode::BAD_REQUEST, problem).with_code("context_length_exceeded"));
    }
    Ok(asked.unwrap_or(default.min(room).min(most)))
}
