//! A language model as a judge: it gets the rubric's prompt, and its verdict is read strictly.

use crate::embedded::weights::fingerprint as hash;
use crate::judge::{Exchange, Judge, Judgement};
use crate::rubric;

/// What a language model says to a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChatCompletion {
    /// Its words.
    Text(String),
    /// A refusal that it, or the service around it, declared to be one.
    Refusal(String),
    /// Why it could not be asked, or broke while answering.
    Error(String),
}

/// A language model that follows instructions; what [`LlmJudge`] and [`crate::compare_pairs`] ask.
pub trait ChatModel: Send + Sync {
    /// The name shown in reports.
    fn name(&self) -> String;

    /// A hash of everything that decides a response besides the prompt (weights or model name, options).
    fn fingerprint(&self) -> String;

    /// One response for each prompt (a single user turn), in order, at temperature 0.
    fn complete(&self, prompts: &[String]) -> Vec<ChatCompletion>;

    /// See [`Judge::warnings`].
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// See [`Judge::unavailable`].
    fn unavailable(&self) -> Option<String> {
        None
    }
}

/// Judges with a language model and the [`rubric`].
#[derive(Debug)]
pub struct LlmJudge<M>(M);

impl<M: ChatModel> LlmJudge<M> {
    /// A judge that asks `model`.
    pub const fn new(model: M) -> Self {
        Self(model)
    }
}

impl<M: ChatModel> Judge for LlmJudge<M> {
    fn name(&self) -> String {
        self.0.name()
    }

    fn fingerprint(&self) -> String {
        hash(format!("{}\n{}", self.0.fingerprint(), rubric::fingerprint()).as_bytes())
    }

    fn judge(&self, exchanges: &[Exchange<'_>]) -> Vec<Judgement> {
        let prompts: Vec<String> = exchanges.iter().map(rubric::prompt).collect();
        let read = |(exchange, response): (&Exchange<'_>, ChatCompletion)| match response {
            ChatCompletion::Text(text) => rubric::parse(exchange, &text),
            ChatCompletion::Refusal(raw) => Judgement::Refused { raw },
            ChatCompletion::Error(error) => Judgement::ApiError { error },
        };
        exchanges.iter().zip(self.0.complete(&prompts)).map(read).collect()
    }

    fn warnings(&self) -> Vec<String> {
        self.0.warnings()
    }

    fn unavailable(&self) -> Option<String> {
        self.0.unavailable()
    }
}
