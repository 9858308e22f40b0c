//! A chat model behind OpenAI-compatible endpoints (`POST …/chat/completions`).

use std::path::Path;

use adpo_data::{Role, Turn};
use serde::{Deserialize, Serialize};

use super::options::EndpointOptions;
use super::service::Service;
use crate::embedded::weights::fingerprint as hash;
use crate::error::EvalError;
use crate::llm::{ChatCompletion, ChatModel};
use crate::rubric;

/// A chat model behind one or more endpoints: a [`ChatModel`] for judges, and a speaker for
/// [`sample_endpoint`](super::sample_endpoint).
pub struct ChatEndpoint {
    pub(super) service: Service<Completion>,
    pub(super) model: String,
    max_tokens: usize,
}

/// What is sent. The order of its fields is part of the cache's keys.
#[derive(Serialize)]
pub(super) struct Request<'a> {
    pub(super) model: &'a str,
    pub(super) messages: &'a [Turn],
    pub(super) max_tokens: usize,
    pub(super) temperature: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seed: Option<u64>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Completion {
    #[serde(rename = "text")]
    Text(String),
    #[serde(rename = "refusal")]
    Refusal(String),
}

impl ChatEndpoint {
    /// Endpoints ready to be asked; nothing is sent yet. Responses to [`ChatModel::complete`] are kept in the file `cache`
    /// and found there again.
    ///
    /// # Errors
    /// [`EvalError::Endpoint`] for a URL or limit that cannot be used, [`EvalError::ApiKey`] for a key that is missing,
    /// [`EvalError::Io`] for a cache that cannot be read or written.
    pub fn open(options: &EndpointOptions, cache: Option<&Path>) -> Result<Self, EvalError> {
        let urls: Vec<String> = options.urls.iter().map(|base| format!("{}/chat/completions", base.trim_end_matches('/'))).collect();
        let problem = |problem: &str| EvalError::Endpoint { url: options.urls.join(", "), problem: problem.to_owned() };
        if options.model.is_empty() || options.max_tokens == 0 {
            return Err(problem("`model` names the model that is served, and `max_tokens` is at least 1"));
        }
        if options.urls.iter().any(|base| base.trim_end_matches('/').ends_with("/chat/completions")) {
            return Err(problem("give the base URL (http://host:port/v1); `/chat/completions` is added to it"));
        }
        let service = Service::open(&urls, options.api_key_env.as_deref(), &options.limits, cache, decode)?;
        Ok(Self { service, model: options.model.clone(), max_tokens: options.max_tokens })
    }
}

impl ChatModel for ChatEndpoint {
    fn name(&self) -> String {
        format!("endpoint:{}", self.model)
    }

    fn fingerprint(&self) -> String {
        hash(format!("chat\n{}\n{}", self.model, self.max_tokens).as_bytes())
    }

    fn complete(&self, prompts: &[String]) -> Vec<ChatCompletion> {
        let body = |prompt: &String| {
            let messages = [Turn { role: Role::User, content: prompt.clone() }];
            encode(&Request {
                model: &self.model,
                messages: &messages,
                max_tokens: self.max_tokens,
                temperature: 0.0,
                top_p: None,
                seed: None,
            })
        };
        let responses = self.service.ask(&format!("rubric {}", rubric::VERSION), prompts.iter().map(body).collect());
        let response = |outcome| match outcome {
            Ok(Completion::Text(text)) => ChatCompletion::Text(text),
            Ok(Completion::Refusal(text)) => ChatCompletion::Refusal(text),
            Err(error) => ChatCompletion::Error(error),
        };
        responses.into_iter().map(response).collect()
    }

    fn warnings(&self) -> Vec<String> {
        self.service.warnings()
    }

    fn unavailable(&self) -> Option<String> {
        self.service.pool.unavailable()
    }
}

pub(super) fn encode(request: &Request<'_>) -> String {
    // Strings and finite numbers always serialise.
    serde_json::to_string(request).unwrap_or_default()
}

/// The first choice of a completion, or what is wrong with it.
pub(super) fn decode(body: &str) -> Result<Completion, String> {
    #[derive(Deserialize)]
    struct Body {
        choices: Vec<Choice>,
    }
    #[derive(Deserialize)]
    struct Choice {
        message: Message,
        finish_reason: Option<String>,
    }
    #[derive(Deserialize)]
    struct Message {
        content: Option<String>,
        refusal: Option<String>,
    }
    // serde's own message could repeat what the body says.
    let body: Body = serde_json::from_str(body).map_err(|_| "is no chat completion (`choices[0].message.content`)".to_owned())?;
    let choice = body.choices.into_iter().next().ok_or("has no choices")?;
    match (choice.message.content, choice.message.refusal) {
        (_, Some(refusal)) if !refusal.is_empty() => Ok(Completion::Refusal(refusal)),
        (content, _) if choice.finish_reason.as_deref() == Some("content_filter") => Ok(Completion::Refusal(content.unwrap_or_default())),
        (Some(content), _) => Ok(Completion::Text(content)),
        (None, _) => Err("has no content".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_is_text_a_declared_refusal_or_an_error() {
        let text = |text: &str| Ok(Completion::Text(text.to_owned()));
        let refusal = |text: &str| Ok(Completion::Refusal(text.to_owned()));
        let cases = [
            (
                r#"{"id": "1", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}"#,
                text("Hi"),
            ),
            (r#"{"choices": [{"message": {"content": "", "refusal": null}}]}"#, text("")),
            (r#"{"choices": [{"message": {"content": null, "refusal": "No."}}]}"#, refusal("No.")),
            (r#"{"choices": [{"message": {"content": null}, "finish_reason": "content_filter"}]}"#, refusal("")),
        ];
        for (body, expected) in cases {
            assert_eq!(decode(body), expected, "{body}");
        }
        for body in
            ["", "<html>", "{}", "[]", r#"{"choices": []}"#, r#"{"choices": [{"message": {"content": null}}]}"#, r#"{"error": "x"}"#]
        {
            assert!(decode(body).is_err(), "{body}");
        }
    }

    #[test]
    fn a_full_url_is_refused_with_the_fix() {
        let options = EndpointOptions::new(vec!["http://localhost:8000/v1/chat/completions/".to_owned()], "m");
        assert!(ChatEndpoint::open(&options, None).err().is_some_and(|error| error.to_string().contains("base URL")));
    }
}
