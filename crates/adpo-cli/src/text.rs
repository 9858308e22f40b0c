//! Counts and figures for people, where programs get JSON.

use std::fmt::Write;

use serde_json::Value;

/// Text without what a terminal would obey: control characters, and marks that turn the direction of writing.
pub(crate) fn inert(text: &str) -> String {
    text.chars().map(|c| if is_obeyed(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// JSON, where an escape means the same.
pub(crate) fn inert_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_obeyed(c) {
            // Writing to a String does not fail.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

fn is_obeyed(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A value of any shape as indented lines: what is single stands on one line, what has parts begins a block. What is empty is left out.
pub(crate) fn of(name: &str, value: &Value) -> String {
    let mut lines = Vec::new();
    block(name, value, 0, &mut lines);
    lines.join("\n")
}

fn block(name: &str, value: &Value, depth: usize, lines: &mut Vec<String>) {
    let (mut single, mut parts) = (Vec::new(), Vec::new());
    for (name, value) in fields(value) {
        match inline(value) {
            Some(text) if text.is_empty() => {}
            Some(text) => single.push(format!("{} {text}", words(name))),
            None => parts.push((name, value)),
        }
    }
    let single = if single.is_empty() { inline(value).unwrap_or_default() } else { single.join(", ") };
    let colon = if single.is_empty() { "" } else { ": " };
    lines.push(format!("{:1$}{name}{colon}{single}", "", 2 * depth));
    for (name, value) in parts {
        block(&words(name), value, depth + 1, lines);
    }
}

fn fields(value: &Value) -> Vec<(&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value)).collect()
}

/// What stands on a line: nothing for what is empty, `None` for what has parts of its own.
fn inline(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.as_f64().filter(|_| number.is_f64()).map_or_else(|| number.to_string(), rounded)),
        Value::Bool(yes) => Some(if *yes { "yes" } else { "no" }.to_owned()),
        Value::Array(values) => Some(values.iter().map(inline).collect::<Option<Vec<_>>>()?.join("; ")),
        Value::Object(fields) if fields.is_empty() => Some(String::new()),
        Value::Object(_) => None,
    }
}

/// Four digits that say something.
fn rounded(number: f64) -> String {
    let digits = if number == 0.0 { 0 } else { (3 - number.abs().log10().floor() as i64).clamp(0, 12) };
    let text = format!("{number:.*}", digits as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A key as words; a file's name stays as it is.
fn words(key: &str) -> String {
    if key.contains(['.', '/', ':']) { key.to_owned() } else { key.replace('_', " ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn nothing_that_a_terminal_obeys_is_printed() {
        let hostile = "a\u{1b}[2J\u{9b}31m\r\u{202e}b\u{2066}\u{7}";
        assert_eq!(super::inert(hostile), "a\u{fffd}[2J\u{fffd}31m\u{fffd}\u{fffd}b\u{fffd}\u{fffd}");
        let written = super::inert_json(&json!({ "name": hostile }).to_string());
        assert!(written.is_ascii(), "{written}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&written).expect("JSON")["name"], hostile);
        assert_eq!(super::inert("two\nlines\tand é"), "two\nlines\tand é");
    }

    #[test]
    fn what_has_parts_is_a_block_and_what_is_empty_is_left_out() {
        let counts = json!({
            "examples": 64,
            "sources": {"my_rows.jsonl": {"rows": 60, "file": {"read": 62, "dropped": {"an empty turn": 2}, "ignored_columns": {}}}},
            "median_s": 0.123_456,
            "warnings": [],
            "limit": null,
        });
        let expected = "sft: examples 64, median s 0.1235\n  sources\n    my_rows.jsonl: rows 60\n      file: read 62\n        dropped: an empty turn 2";
        assert_eq!(super::of("sft", &counts), expected);
        assert_eq!([1234.5678, 0.000_123_456, 2.0, 0.0].map(super::rounded), ["1235", "0.0001235", "2", "0"]);
    }
}
