//! The texts that a turn must not contain because they have a meaning of their own, found in the tokenizer and in what its template writes between turns.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::DataError;
use crate::dialogue::{Role, Turn};

/// Separates the characters of a marker without being seen.
const ZERO_WIDTH_SPACE: char = '\u{200b}';

/// Stands for the text of turns while the template is probed; no template knows it.
const PROBE: &str = "\u{e000}";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Markers {
    /// Special tokens: `</s>`, `[TOXIC]`.
    tokens: Vec<String>,
    /// Turn markers that are plain text to the tokenizer: `\n\nHuman:`, `[/INST]`.
    turns: Vec<String>,
}

impl Markers {
    /// `render` writes turns as the template does.
    pub(super) fn of(tokens: Vec<String>, render: impl Fn(&[Turn], bool) -> Result<String, DataError>) -> Self {
        let turn = |role| Turn { role, content: PROBE.to_owned() };
        let plain = [Role::User, Role::Assistant, Role::User, Role::Assistant, Role::User].map(turn);
        let system = [Role::System, Role::User, Role::Assistant].map(turn);
        // A template that refuses one of these (most often: system turns) has no markers for it.
        let written = [render(&plain, true), render(&plain[..4], false), render(&system, false)];
        let mut turns = BTreeSet::new();
        for text in written.iter().flatten() {
            text.split(PROBE).for_each(|between| turn_markers(between, &tokens, &mut turns));
        }
        Self { tokens, turns: turns.into_iter().collect() }
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

/// The parts of what a template writes between turns that are plain text and look like markers: letters together with
/// something that is no letter. Bare words (`user` after `<|im_start|>`) mean nothing without the token beside them.
fn turn_markers(between: &str, tokens: &[String], found: &mut BTreeSet<String>) {
    let mut parts = vec![between];
    for token in tokens.iter().filter(|token| !token.is_empty()) {
        parts = parts.into_iter().flat_map(|part| part.split(token.as_str())).collect();
    }
    for part in parts {
        let marker = part.trim_end().trim_start_matches([' ', '\t']);
        let core = marker.trim_start();
        if core.contains(char::is_alphanumeric) && core.contains(|c: char| !c.is_alphanumeric() && !c.is_whitespace()) {
            found.insert(marker.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between_turns(between: &str, tokens: &[&str]) -> Vec<String> {
        let mut found = BTreeSet::new();
        turn_markers(between, &tokens.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>(), &mut found);
        found.into_iter().collect()
    }

    #[test]
    fn turn_markers_are_found_where_they_are_plain_text() {
        assert_eq!(between_turns("</s>\n\nHuman: ", &["</s>"]), ["\n\nHuman:"]);
        assert_eq!(between_turns(" [/INST] ", &["</s>"]), ["[/INST]"]);
        assert_eq!(between_turns("<|im_end|>\n<|im_start|>user\n", &["<|im_end|>", "<|im_start|>"]), [""; 0]);
        assert_eq!(between_turns("</s>\n<|user|>\n", &["</s>"]), ["\n<|user|>"]);
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
