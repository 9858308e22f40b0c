//! The texts that a turn must not contain because they have a meaning of their own, found in the tokenizer and in what its template writes between turns.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::DataError;
use crate::dialogue::{Role, Turn};

/// Separates the characters of a marker without being seen.
const ZERO_WIDTH_SPACE: char = '\u{200b}';

/// Stands for the text of turns while the template is probed; no template knows it.
const PROBE: &str = "\u{e000}";

/// Writes turns as the template does.
type Render<'r> = &'r dyn Fn(&[Turn], bool) -> Result<String, DataError>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Markers {
    /// Tokens that mean something: `</s>`, `[TOXIC]`, `<|assistant|>`, `<think>`.
    tokens: Vec<String>,
    /// Turn markers that are plain text to the tokenizer: `\n\nHuman:`, `[/INST]`.
    turns: Vec<String>,
}

impl Markers {
    /// `added` are the tokenizer's added tokens, and whether they are special. `render` writes turns as the template does.
    pub(super) fn of(added: Vec<(String, bool)>, render: impl Fn(&[Turn], bool) -> Result<String, DataError>) -> Self {
        let between = between_turns(&render);
        // Others are words or stretches of white space that the tokenizer's maker gave a token to save some.
        let is_structure = |text: &str| is_marker(text) || between.iter().any(|between| between.contains(text));
        let mut tokens: Vec<String> = added
            .into_iter()
            .filter(|(text, special)| !text.trim().is_empty() && (*special || is_structure(text)))
            .map(|(text, _)| text)
            .collect();
        tokens.sort();
        let mut turns = BTreeSet::new();
        for between in &between {
            turn_markers(between, &tokens, &mut turns);
        }
        Self { tokens, turns: turns.into_iter().collect() }
    }

    pub(super) fn tokens(&self) -> impl Iterator<Item = &str> {
        self.tokens.iter().map(String::as_str)
    }

    /// See [`super::ChatTokenizer::escape`].
    pub(super) fn escape<'t>(&self, text: &'t str) -> (Cow<'t, str>, usize) {
        let opening = text.len() - text.trim_start().len();
        let is_marker = |at: usize| {
            let rest = &text[at..];
            self.tokens.iter().chain(&self.turns).any(|marker| rest.starts_with(marker.as_str()))
                // The template may write the marker's line breaks ahead of the text.
                || at == opening && self.turns.iter().any(|marker| rest.starts_with(marker.trim_start()))
        };
        let (mut escaped, mut copied, mut count) = (String::new(), 0, 0);
        for (at, c) in text.char_indices() {
            if is_marker(at) {
                let end = at + c.len_utf8();
                escaped.push_str(&text[copied..end]);
                escaped.push(ZERO_WIDTH_SPACE);
                (copied, count) = (end, count + 1);
            }
        }
        if count == 0 {
            return (Cow::Borrowed(text), 0);
        }
        escaped.push_str(&text[copied..]);
        (Cow::Owned(escaped), count)
    }
}

fn turn(role: Role) -> Turn {
    Turn { role, content: PROBE.to_owned() }
}

/// What the template writes around the text of turns. A template that refuses some of them (most often: system turns) has no markers
/// for them.
fn between_turns(render: Render<'_>) -> Vec<String> {
    let plain = [Role::User, Role::Assistant, Role::User, Role::Assistant, Role::User].map(turn);
    let system = [Role::System, Role::User, Role::Assistant].map(turn);
    let written = [render(&plain, true), render(&plain[..4], false), render(&system, false), render(&system[..2], true)];
    written.iter().flatten().flat_map(|text| text.split(PROBE)).map(str::to_owned).collect()
}

/// What the template writes ahead of a response though not into a prompt that waits for one: it is no part of the response. White space
/// alone may be either's, and is left where tokenizers join it to the text.
pub(super) fn header(render: impl Fn(&[Turn], bool) -> Result<String, DataError>) -> String {
    let turns = [Role::User, Role::Assistant].map(turn);
    let find = || {
        let prompt = render(&turns[..1], true).ok()?;
        let answered = render(&turns, false).ok()?;
        let rest = answered.strip_prefix(&prompt)?;
        Some(rest[..rest.find(PROBE)?].trim_end_matches([' ', '\t']).to_owned())
    };
    find().filter(|header| !header.trim().is_empty()).unwrap_or_default()
}

/// Letters together with something that is no letter.
fn is_marker(text: &str) -> bool {
    text.contains(char::is_alphanumeric) && text.contains(|c: char| !c.is_alphanumeric() && !c.is_whitespace())
}

/// The parts of what a template writes between turns that are plain text and look like markers. Bare words (`user` after
/// `<|im_start|>`) mean nothing without the token beside them. Those that begin with a sign mean the same wherever they stand; those that
/// begin with a letter (`Human:`) only where a line does.
fn turn_markers(between: &str, tokens: &[String], found: &mut BTreeSet<String>) {
    let mut parts = vec![between];
    for token in tokens.iter().filter(|token| !token.is_empty()) {
        parts = parts.into_iter().flat_map(|part| part.split(token.as_str())).collect();
    }
    for part in parts {
        let marker = part.trim_end().trim_start_matches([' ', '\t']);
        let core = marker.trim_start();
        if is_marker(core) {
            let marker = if core.starts_with(char::is_alphanumeric) { marker } else { core };
            found.insert(marker.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn markers_of(between: &str, tokens: &[&str]) -> Vec<String> {
        let mut found = BTreeSet::new();
        turn_markers(between, &tokens.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>(), &mut found);
        found.into_iter().collect()
    }

    #[test]
    fn turn_markers_are_found_where_they_are_plain_text() {
        assert_eq!(markers_of("</s>\n\nHuman: ", &["</s>"]), ["\n\nHuman:"]);
        assert_eq!(markers_of(" [/INST] ", &["</s>"]), ["[/INST]"]);
        assert_eq!(markers_of("<|im_end|>\n<|im_start|>user\n", &["<|im_end|>", "<|im_start|>"]), [""; 0]);
        assert_eq!(markers_of("</s>\n<|user|>\n", &["</s>"]), ["<|user|>"], "wherever it stands");
    }

    #[test]
    fn overlapping_and_nested_markers_are_all_broken() {
        let markers = Markers { tokens: vec!["<s>".into(), "[T]".into(), "s>[".into()], turns: vec!["\n\nHuman:".into()] };
        let (text, count) = markers.escape("<s>[T] x\n\nHuman: <s>");
        assert_eq!(count, 5);
        assert_eq!(markers.escape(&text), (Cow::Borrowed(&*text), 0), "nothing is left to escape");
        assert_eq!(text.replace(ZERO_WIDTH_SPACE, ""), "<s>[T] x\n\nHuman: <s>", "nothing is lost");
    }

    #[test]
    fn a_marker_that_opens_the_text_is_broken_without_its_line_breaks_too() {
        let markers = Markers { tokens: Vec::new(), turns: vec!["\n\nHuman:".into()] };
        assert_eq!(markers.escape("Human: hi"), (Cow::Owned("H\u{200b}uman: hi".into()), 1));
        assert_eq!(markers.escape("\nHuman: hi").1, 1);
        assert_eq!(markers.escape("a Human: hi").1, 0);
    }
}
