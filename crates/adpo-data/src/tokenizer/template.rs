//! Chat templates as transformers runs them: Jinja with Python's string methods, block trimming, loop controls.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;

use crate::DataError;
use crate::dialogue::Turn;

/// Instructions (and 64-byte pieces of output) per rendering; a template that needs more does not end.
const FUEL: u64 = 5_000_000;

const NAME: &str = "chat_template";

#[derive(Clone)]
pub(super) struct Template {
    source: String,
    environment: Environment<'static>,
}

impl Template {
    pub(super) fn new(source: String) -> Result<Self, DataError> {
        let mut environment = Environment::new();
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(|e| problem(&e))?);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        // `strftime_now` is left undefined on purpose: templates that look for it fall back to a fixed date, and the
        // same dialogue is the same text on every day.
        environment.add_template_owned(NAME, source.clone()).map_err(|e| problem(&e))?;
        Ok(Self { source, environment })
    }

    pub(super) fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn render(
        &self,
        turns: &[Turn],
        add_generation_prompt: bool,
        bos_token: &str,
        eos_token: &str,
    ) -> Result<String, DataError> {
        let message = |turn: &Turn| Value::from_pairs([("role", turn.role.name()), ("content", turn.content.as_str())]);
        let messages: Vec<Value> = turns.iter().map(message).collect();
        let values = context! { messages, add_generation_prompt, bos_token, eos_token, tools => (), documents => () };
        self.environment.get_template(NAME).and_then(|template| template.render(values)).map_err(|e| problem(&e))
    }
}

fn problem(error: &Error) -> DataError {
    let line = error.line().map_or(String::new(), |line| format!(" (line {line})"));
    DataError::Template { problem: format!("{error}{line}; check chat_template.jinja, or the roles and order of the turns") }
}
