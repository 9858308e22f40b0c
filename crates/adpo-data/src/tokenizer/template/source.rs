//! What can be said of a template by its text.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

/// A statement or an expression.
struct Tag<'s> {
    is_statement: bool,
    /// Between its delimiters.
    inner: Range<usize>,
    tokens: Vec<Token<'s>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'s> {
    /// A name or a number.
    Word(&'s str),
    /// A string.
    Text,
    Sign(char),
}

use Token::{Sign, Word};

/// The tags of a template, comments and raw text left out. A text that Jinja cannot read may give anything.
fn tags(source: &str) -> Vec<Tag<'_>> {
    let mut tags = Vec::new();
    let mut at = 0;
    let mut raw = false;
    while let Some(begin) = source[at..].find('{').map(|found| at + found) {
        let rest = &source[begin..];
        at = match rest.as_bytes().get(1) {
            Some(b'#') if !raw => rest.find("#}").map_or(source.len(), |end| begin + end + 2),
            Some(b'{') if raw => begin + 1,
            Some(kind @ (b'{' | b'%')) => {
                let is_statement = *kind == b'%';
                let (tag, end) = tag(source, begin + 2, is_statement);
                match tag.tokens.as_slice() {
                    [Word("endraw")] if is_statement => raw = false,
                    _ if raw => {
                        at = begin + 1;
                        continue;
                    }
                    [Word("raw")] if is_statement => raw = true,
                    _ => tags.push(tag),
                }
                end
            }
            _ => begin + 1,
        };
    }
    tags
}

/// The tag whose inner part begins at a place, and where the text goes on behind it.
fn tag(source: &str, begin: usize, is_statement: bool) -> (Tag<'_>, usize) {
    let close = if is_statement { "%}" } else { "}}" };
    // How white space around a tag is treated is no part of it.
    let without_sign = |text: &str| text.len() - text.strip_prefix(['-', '+']).unwrap_or(text).len();
    let begin = begin + without_sign(&source[begin..]);
    let (mut at, mut braces, mut tokens) = (begin, 0_usize, Vec::new());
    while let Some(c) = source[at..].chars().next() {
        let end = at + without_sign(&source[at..]);
        if braces == 0 && source[end..].starts_with(close) {
            return (Tag { is_statement, inner: begin..at, tokens }, end + close.len());
        }
        let length = match c {
            '"' | '\'' => {
                tokens.push(Token::Text);
                string(&source[at..], c)
            }
            c if c.is_alphanumeric() || c == '_' => {
                let rest = &source[at..];
                let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                tokens.push(Word(&rest[..end]));
                end
            }
            c if c.is_whitespace() => c.len_utf8(),
            c => {
                braces = if c == '{' { braces + 1 } else { braces.saturating_sub(usize::from(c == '}')) };
                tokens.push(Sign(c));
                c.len_utf8()
            }
        };
        at += length;
    }
    (Tag { is_statement, inner: begin..source.len(), tokens }, source.len())
}

/// The bytes of the string that a text begins with.
fn string(text: &str, quote: char) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == quote && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// Refuses what can make a value that holds itself: to print, compare or drop it would never end. Only a namespace can be changed, so it
/// is held to what templates do with it: to be made by `set`, and to have its attributes read and set. Macros hold all that is around
/// them; they are called and nothing else.
pub(super) fn check(source: &str) -> Result<(), String> {
    let tags = tags(source);
    let (mut namespaces, mut macros) = (BTreeSet::new(), BTreeSet::from(["caller"]));
    for tag in tags.iter().filter(|tag| tag.is_statement) {
        match tag.tokens.as_slice() {
            [Word("set"), Word(name), Sign('='), Word("namespace"), ..] => drop(namespaces.insert(*name)),
            [Word("macro"), Word(name), ..] => drop(macros.insert(*name)),
            [Word(word @ ("include" | "import" | "from" | "extends")), ..] => {
                return Err(format!("`{word}` needs other templates, and there are none"));
            }
            _ => {}
        }
    }
    for Tag { is_statement, tokens, .. } in &tags {
        let sets = *is_statement && tokens.first() == Some(&Word("set"));
        for (i, token) in tokens.iter().enumerate() {
            let Word(word) = *token else { continue };
            let (before, after) = (i.checked_sub(1).map(|before| tokens[before]), tokens.get(i + 1).copied());
            // An attribute, or the name of an argument.
            if before == Some(Sign('.')) || after == Some(Sign('=')) && tokens.get(i + 2) != Some(&Sign('=')) && !(sets && i == 1) {
                continue;
            }
            let asked = after == Some(Word("is"));
            if word == "namespace" && !(sets && i == 3 && tokens[2] == Sign('=') && after == Some(Sign('('))) {
                return Err("`namespace` can only be used as in `{% set name = namespace(…) %}`".to_owned());
            }
            let made = sets && i == 1 && tokens.get(3) == Some(&Word("namespace"));
            if namespaces.contains(word) && !(made || asked || matches!(after, Some(Sign('.' | '[')))) {
                return Err(format!("the namespace `{word}` can only be used by its attributes, as in `{word}.name`"));
            }
            let declared = *is_statement && i == 1 && matches!(tokens[0], Word("macro" | "endmacro"));
            // A condition keeps nothing of it.
            let weighed = matches!(before, Some(Word("if" | "elif" | "not"))) && matches!(after, None | Some(Word("else" | "and" | "or")));
            if macros.contains(word) && !(declared || asked || weighed || after == Some(Sign('('))) {
                return Err(format!("the macro `{word}` can only be called, as in `{word}()`"));
            }
        }
    }
    Ok(())
}

/// The same template without transformers' marks of what is trained (`{% generation %}`), which write nothing: in their place is another
/// block that only has a scope of its own.
pub(super) fn without_generation(source: &str) -> Cow<'_, str> {
    let (mut text, mut copied) = (String::new(), 0);
    for Tag { inner, tokens, .. } in tags(source).into_iter().filter(|tag| tag.is_statement) {
        let block = match tokens.as_slice() {
            [Word("generation")] => " with ",
            [Word("endgeneration")] => " endwith ",
            _ => continue,
        };
        text.push_str(&source[copied..inner.start]);
        text.push_str(block);
        copied = inner.end;
    }
    if copied == 0 {
        return Cow::Borrowed(source);
    }
    text.push_str(&source[copied..]);
    Cow::Owned(text)
}
