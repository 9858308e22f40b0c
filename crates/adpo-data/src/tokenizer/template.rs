//! Chat templates as transformers runs them: Jinja with Python's string methods, block trimming, loop controls.
//!
//! A template is somebody else's program. What it may use up is limited: the text of it, the engine's fuel (instructions, and bytes of
//! all that is made), and the stack, which is deep enough for whatever these two allow.

mod python;
mod source;
mod stack;

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};

use crate::DataError;
use crate::dialogue::Turn;
pub(crate) use stack::on_deep_stack;

/// Instructions (and 64-byte pieces of what is made) per rendering; a template that needs more does not end.
const FUEL: u64 = 1_000_000;

/// The longest published templates have a fifth of it. How deep expressions nest follows from it, and the stack is made for that.
const LONGEST_SOURCE: usize = 128 << 10;

/// Macros within macros; the engine's own limit suits larger stacks than a thread has that is not ours.
const RECURSION: usize = 200;

/// Characters of an error that are told: a template may raise one of any length.
const LONGEST_PROBLEM: usize = 500;

const NAME: &str = "chat_template";

#[derive(Clone)]
pub(super) struct Template {
    source: String,
    environment: Environment<'static>,
}

impl Template {
    pub(super) fn new(source: &str) -> Result<Self, DataError> {
        if source.len() > LONGEST_SOURCE {
            return Err(told(&format!("has {} bytes, and {LONGEST_SOURCE} are read at most", source.len())));
        }
        let source = one_line_end(source).into_owned();
        source::check(&source).map_err(|problem| told(&problem))?;
        let mut environment = Environment::new();
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(|e| problem(&e))?);
        environment.set_unknown_method_callback(python::method);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION);
        environment.set_debug(false);
        environment.add_filter("tojson", python::to_json);
        environment.add_test("iterable", python::is_iterable);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        // Templates that ask whether it is there have a date of their own for where it is not, and the same dialogue is then the
        // same text on every day. For the others there is one day.
        if !source.contains("strftime_now is") {
            environment.add_function("strftime_now", python::strftime_now);
        }
        let text = source::without_generation(&source).into_owned();
        let environment = guarded(move || {
            environment.add_template_owned(NAME, text).map_err(|e| problem(&e))?;
            Ok(environment)
        })?;
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
        guarded(|| {
            let message = |turn: &Turn| Value::from_pairs([("role", turn.role.name()), ("content", turn.content.as_str())]);
            let messages: Vec<Value> = turns.iter().map(message).collect();
            let values = context! { messages, add_generation_prompt, bos_token, eos_token, tools => (), documents => () };
            self.environment.get_template(NAME).and_then(|template| template.render(values)).map_err(|e| problem(&e))
        })
    }
}

/// What the engine does with a template, on a stack that is deep enough. A panic of the engine is an error of the template; the
/// panic's own message is on standard error as well.
fn guarded<T: Send>(work: impl FnOnce() -> Result<T, DataError> + Send) -> Result<T, DataError> {
    on_deep_stack(|| catch_unwind(AssertUnwindSafe(work))).unwrap_or_else(|_| Err(told("the engine cannot run it")))
}

/// As Jinja2 reads a template: every line end is a line feed.
fn one_line_end(source: &str) -> Cow<'_, str> {
    if source.contains('\r') { Cow::Owned(source.replace("\r\n", "\n").replace('\r', "\n")) } else { Cow::Borrowed(source) }
}

fn problem(error: &Error) -> DataError {
    let line = error.line().map_or(String::new(), |line| format!(" (line {line})"));
    told(&format!("{error}{line}"))
}

fn told(problem: &str) -> DataError {
    let short: String = problem.chars().take(LONGEST_PROBLEM).collect();
    DataError::Template { problem: format!("{short}; check chat_template.jinja, or the roles and order of the turns") }
}
