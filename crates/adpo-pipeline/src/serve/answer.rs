//! From tokens to text and JSON. An answer is a row of deltas: streamed they go out one by one, otherwise they are added up first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use adpo_data::{ChatTokenizer, TextStream, derive_seed};
use adpo_model::{Finish, SamplingOptions, TokenLogProbs};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::UnboundedSender;

use super::engine::{Event, Row};
use super::request::{Ask, Endpoint};
use super::stops::Stops;

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What is added to a choice.
#[derive(Default)]
pub(super) struct Delta {
    pub choice: usize,
    text: String,
    tokens: Vec<Token>,
    finish: Option<&'static str>,
}

/// A token beside the text that it is part of.
struct Token {
    id: u32,
    /// Characters of the choice's text before it, and bytes.
    offset: (usize, usize),
    /// Absent for the first token of a prompt.
    log_probs: Option<TokenLogProbs>,
}

/// An answer in the making.
pub(super) struct Answer {
    endpoint: Endpoint,
    id: String,
    model: String,
    created: u64,
    with_log_probs: bool,
    choices: Vec<Choice>,
    prompt_tokens: usize,
    drawn: usize,
}

struct Choice {
    /// The prompt, where it has to stand before the completion.
    echo: Option<(Vec<u32>, Option<String>)>,
    stream: TextStream,
    stops: Stops,
    /// Characters and bytes that the stream has given.
    written: (usize, usize),
    /// Bytes of which it is certain that no stop string takes them back.
    certain: usize,
    held: Vec<Token>,
    enough: Arc<AtomicBool>,
    finished: bool,
}

impl Answer {
    /// The answer, still empty, and the rows that have to be drawn for it.
    pub(super) fn new(ask: Ask, model: &str, eos: u32, events: &UnboundedSender<Event>) -> (Self, Vec<Row>) {
        let (mut choices, mut rows) = (Vec::new(), Vec::new());
        let prompt_tokens = ask.prompts.iter().map(|prompt| prompt.ids.len()).sum();
        for prompt in ask.prompts {
            let options = Arc::new(SamplingOptions {
                temperature: ask.temperature,
                top_k: ask.top_k,
                top_p: (ask.top_p < 1.0).then_some(ask.top_p),
                max_new_tokens: prompt.max_new_tokens,
                stop: vec![eos],
                seed: ask.seed,
                ..SamplingOptions::default()
            });
            for choice in 0..ask.n {
                let enough = Arc::new(AtomicBool::new(false));
                rows.push(Row {
                    choice: choices.len(),
                    prompt: prompt.ids.clone(),
                    // Not the number among all choices: a prompt's completions are the same alone and in a list.
                    stream: derive_seed(ask.seed, &format!("choice {choice}")),
                    options: options.clone(),
                    log_probs: ask.log_probs,
                    score_prompt: ask.echo && ask.log_probs.is_some(),
                    enough: enough.clone(),
                    events: events.clone(),
                });
                choices.push(Choice {
                    echo: ask.echo.then(|| (prompt.ids.clone(), prompt.text.clone())),
                    stream: TextStream::default(),
                    stops: Stops::new(ask.stops.clone()),
                    written: (0, 0),
                    certain: 0,
                    held: Vec::new(),
                    enough,
                    finished: false,
                });
            }
        }
        let id = match ask.endpoint {
            Endpoint::Chat => format!("chatcmpl-{}-{}", now(), ask.number),
            Endpoint::Completions => format!("cmpl-{}-{}", now(), ask.number),
        };
        let answer = Self {
            endpoint: ask.endpoint,
            id,
            model: model.to_owned(),
            created: now(),
            with_log_probs: ask.log_probs.is_some(),
            choices,
            prompt_tokens,
            drawn: 0,
        };
        (answer, rows)
    }

    pub(super) fn is_finished(&self) -> bool {
        self.choices.iter().all(|choice| choice.finished)
    }

    /// What an event adds; nothing once its choice is finished.
    pub(super) fn take(&mut self, tokenizer: &ChatTokenizer, event: Event) -> Result<Delta, String> {
        let number = match &event {
            Event::Scored { choice, .. } | Event::Drawn { choice, .. } | Event::Ended { choice } => *choice,
            Event::Failed(problem) => return Err(problem.clone()),
        };
        let choice = &mut self.choices[number];
        let mut delta = Delta { choice: number, ..Delta::default() };
        if choice.finished {
            return Ok(delta);
        }
        if let Some((ids, text)) = choice.echo.take() {
            let log_probs = if let Event::Scored { log_probs, .. } = &event { log_probs.clone() } else { Vec::new() };
            choice.echo(tokenizer, &ids, text, log_probs, &mut delta);
        }
        match event {
            Event::Drawn { token, finish, log_probs, .. } => {
                self.drawn += 1;
                let keep_end = self.endpoint == Endpoint::Completions;
                choice.draw(tokenizer, token, finish, log_probs, keep_end, &mut delta);
            }
            Event::Ended { .. } => {
                delta.finish = Some("length");
                choice.finished = true;
            }
            Event::Scored { .. } | Event::Failed(_) => {}
        }
        Ok(delta)
    }

    /// The whole answer.
    pub(super) fn json(&self, tokenizer: &ChatTokenizer, deltas: Vec<Delta>) -> Value {
        let mut sums: Vec<Delta> = (0..self.choices.len()).map(|choice| Delta { choice, ..Delta::default() }).collect();
        for delta in deltas {
            let sum = &mut sums[delta.choice];
            sum.text += &delta.text;
            sum.tokens.extend(delta.tokens);
            sum.finish = delta.finish.or(sum.finish);
        }
        let (object, text) = match self.endpoint {
            Endpoint::Chat => ("chat.completion", "message"),
            Endpoint::Completions => ("text_completion", "text"),
        };
        let choices = sums.iter().map(|sum| {
            let content = match self.endpoint {
                Endpoint::Chat => json!({ "role": "assistant", "content": sum.text, "refusal": null }),
                Endpoint::Completions => json!(sum.text),
            };
            self.choice(tokenizer, sum, text, content)
        });
        let mut answer = self.frame(object, choices.collect());
        answer["usage"] = self.usage();
        answer
    }

    /// The first chunk of a stream of each choice: who speaks.
    pub(super) fn opening(&self) -> Vec<Value> {
        let opening =
            |choice| json!({ "index": choice, "delta": { "role": "assistant", "content": "" }, "logprobs": null, "finish_reason": null });
        match self.endpoint {
            Endpoint::Chat => (0..self.choices.len()).map(|choice| self.frame("chat.completion.chunk", vec![opening(choice)])).collect(),
            Endpoint::Completions => Vec::new(),
        }
    }

    /// A chunk of a stream; none where nothing was added.
    pub(super) fn chunk(&self, tokenizer: &ChatTokenizer, delta: &Delta) -> Option<Value> {
        if delta.text.is_empty() && delta.tokens.is_empty() && delta.finish.is_none() {
            return None;
        }
        Some(match self.endpoint {
            Endpoint::Chat => {
                let content = if delta.text.is_empty() { json!({}) } else { json!({ "content": delta.text }) };
                self.frame("chat.completion.chunk", vec![self.choice(tokenizer, delta, "delta", content)])
            }
            Endpoint::Completions => self.frame("text_completion", vec![self.choice(tokenizer, delta, "text", json!(delta.text))]),
        })
    }

    /// The last chunk of a stream, where it was asked for.
    pub(super) fn usage_chunk(&self) -> Value {
        let object = if self.endpoint == Endpoint::Chat { "chat.completion.chunk" } else { "text_completion" };
        let mut chunk = self.frame(object, Vec::new());
        chunk["usage"] = self.usage();
        chunk
    }

    fn frame(&self, object: &str, choices: Vec<Value>) -> Value {
        json!({ "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices })
    }

    fn usage(&self) -> Value {
        let (read, drawn) = (self.prompt_tokens, self.drawn);
        json!({ "prompt_tokens": read, "completion_tokens": drawn, "total_tokens": read + drawn })
    }

    fn choice(&self, tokenizer: &ChatTokenizer, delta: &Delta, name: &str, content: Value) -> Value {
        let log_probs = match (self.with_log_probs, self.endpoint) {
            (false, _) => Value::Null,
            (true, Endpoint::Chat) => chat_log_probs(tokenizer, &delta.tokens),
            (true, Endpoint::Completions) => completion_log_probs(tokenizer, &delta.tokens),
        };
        json!({ "index": delta.choice, name: content, "logprobs": log_probs, "finish_reason": delta.finish })
    }
}

impl Choice {
    fn echo(&mut self, tokenizer: &ChatTokenizer, ids: &[u32], text: Option<String>, log_probs: Vec<TokenLogProbs>, delta: &mut Delta) {
        let mut stream = TextStream::default();
        let mut log_probs = log_probs.into_iter();
        for (i, id) in ids.iter().enumerate() {
            let log_probs = if i == 0 { None } else { log_probs.next() };
            delta.tokens.push(Token { id: *id, offset: self.written, log_probs });
            self.advance(&stream.push(tokenizer, *id));
        }
        self.advance(&stream.finish(tokenizer));
        delta.text = text.unwrap_or_else(|| tokenizer.decode(ids));
        // What counts is the text that stands there, however the tokens of it were cut.
        self.written = (delta.text.chars().count(), delta.text.len());
        self.certain = self.written.1;
    }

    fn advance(&mut self, piece: &str) {
        self.written = (self.written.0 + piece.chars().count(), self.written.1 + piece.len());
    }

    fn draw(
        &mut self,
        tokenizer: &ChatTokenizer,
        id: u32,
        finish: Option<Finish>,
        log_probs: Option<TokenLogProbs>,
        keep_end: bool,
        delta: &mut Delta,
    ) {
        let ends = matches!(finish, Some(Finish::Stop(_)));
        if log_probs.is_some() && (!ends || keep_end) {
            self.held.push(Token { id, offset: self.written, log_probs });
        }
        let mut piece = if ends { String::new() } else { self.stream.push(tokenizer, id) };
        if finish.is_some() {
            piece += &std::mem::take(&mut self.stream).finish(tokenizer);
        }
        self.advance(&piece);
        let (mut text, stopped) = self.stops.push(&piece);
        if finish.is_some() && !stopped {
            text += &self.stops.finish();
        }
        self.certain += text.len();
        delta.text += &text;
        delta.finish = match finish {
            _ if stopped => Some("stop"),
            Some(Finish::Stop(_)) => Some("stop"),
            Some(Finish::Length) => Some("length"),
            None => None,
        };
        self.finished = delta.finish.is_some();
        if self.finished {
            self.enough.store(true, Ordering::Relaxed);
        }
        let (all, certain) = (self.finished && !stopped, self.certain);
        let released = self.held.iter().take_while(|token| all || token.offset.1 < certain).count();
        delta.tokens.extend(self.held.drain(..released));
    }
}

fn chat_log_probs(tokenizer: &ChatTokenizer, tokens: &[Token]) -> Value {
    let entry = |id: u32, log_prob: f64| {
        let text = tokenizer.token_text(id);
        // A part of a character has no text of its own, and its bytes are not known here.
        let bytes = (!text.contains(char::REPLACEMENT_CHARACTER)).then(|| text.as_bytes().to_vec());
        json!({ "token": text, "logprob": log_prob, "bytes": bytes })
    };
    let content = tokens.iter().filter_map(|token| {
        let log_probs = token.log_probs.as_ref()?;
        let mut value = entry(token.id, log_probs.chosen);
        value["top_logprobs"] = log_probs.top.iter().map(|(id, log_prob)| entry(*id, *log_prob)).collect();
        Some(value)
    });
    json!({ "content": content.collect::<Vec<_>>(), "refusal": null })
}

fn completion_log_probs(tokenizer: &ChatTokenizer, tokens: &[Token]) -> Value {
    let top = |token: &Token| {
        let log_probs = token.log_probs.as_ref()?;
        let mut top = Map::new();
        // The token itself is among them, likely or not. Two tokens may have one text: the likelier one stays.
        for (id, log_prob) in log_probs.top.iter().copied().chain([(token.id, log_probs.chosen)]) {
            top.entry(tokenizer.token_text(id)).or_insert(json!(log_prob));
        }
        Some(top)
    };
    json!({
        "tokens": tokens.iter().map(|token| tokenizer.token_text(token.id)).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| token.log_probs.as_ref().map(|of| of.chosen)).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "text_offset": tokens.iter().map(|token| token.offset.0).collect::<Vec<_>>(),
    })
}
