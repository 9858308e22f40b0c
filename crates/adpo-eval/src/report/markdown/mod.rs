//! Reports as Markdown: the first screen has the result and its limits, the sections below it the detail.

mod first_screen;
mod instruments;
mod second;
mod seeds;
mod systems;

use std::fmt::Write as _;

use super::{Measure, Report};
use crate::statistics::Interval;

/// Columns of a line of prose.
const WIDTH: usize = 156;

impl Report {
    /// The report for people.
    pub fn markdown(&self) -> String {
        let mut out = format!("# {}\n\n", line(&self.title));
        first_screen::first_screen(&mut out, self);
        systems::comparisons(&mut out, self.baseline.as_deref(), &self.comparisons);
        systems::control_token(&mut out, &self.control_token);
        systems::systems(&mut out, &self.systems);
        systems::categories(&mut out, &self.systems);
        systems::worst(&mut out, &self.worst);
        second::second_judge(&mut out, self);
        instruments::errors(&mut out, &self.systems);
        instruments::provenance(&mut out, self);
        out
    }

    /// The report's result: every difference that passed all rules, in a sentence of Markdown.
    pub fn result(&self) -> String {
        first_screen::result(self)
    }

    /// Where the judge's errors could take back the result, and below which bias it holds, in Markdown; nothing where they cannot.
    pub fn doubt(&self) -> Option<String> {
        first_screen::judge_errors(self)
    }
}

pub(super) fn push(out: &mut String, text: impl AsRef<str>) {
    out.push_str(text.as_ref());
    out.push('\n');
}

/// A paragraph of prose, and an empty line.
fn paragraph(out: &mut String, text: impl AsRef<str>) {
    wrapped(out, "", text.as_ref());
    out.push('\n');
}

/// Prose that begins with a mark (`- `, `> `): the lines after the first stand under its text.
fn wrapped(out: &mut String, mark: &str, text: &str) {
    let indent = if mark == "> " { mark.to_owned() } else { " ".repeat(mark.len()) };
    let options = textwrap::Options::new(WIDTH)
        .initial_indent(mark)
        .subsequent_indent(&indent)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .word_separator(textwrap::WordSeparator::AsciiSpace);
    push(out, textwrap::fill(text, options));
}

/// Text from outside on one line, without what Markdown or a terminal would take for an instruction.
pub(super) fn line(text: &str) -> String {
    let mut out = String::new();
    for c in text.split_whitespace().collect::<Vec<_>>().join(" ").chars() {
        match c {
            '|' | '<' | '\\' => out.extend(['\\', c]),
            '`' => out.push('\''),
            '(' if out.ends_with(']') => out.push_str("\\("),
            c if c.is_control() || is_bidi_control(c) => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

/// Turns the direction of the text after it.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn row(out: &mut String, first: &str, cells: impl IntoIterator<Item = String>) {
    let mut text = format!("| {first} |");
    for cell in cells {
        // Writing to a String does not fail.
        let _ = write!(text, " {cell} |");
    }
    push(out, text);
}

fn header<T: AsRef<str>>(out: &mut String, first: &str, names: &[T]) {
    row(out, first, names.iter().map(|name| name.as_ref().to_owned()));
    row(out, "---", names.iter().map(|_| "---".to_owned()));
}

/// In per cent, with its interval.
fn share(interval: &Interval) -> String {
    let [estimate, low, high] = [interval.estimate, interval.low, interval.high].map(|x| 100.0 * x);
    format!("{estimate:.1} [{low:.1}, {high:.1}]")
}

fn number(interval: &Interval) -> String {
    format!("{:.2} [{:.2}, {:.2}]", interval.estimate, interval.low, interval.high)
}

fn or_dash<T>(value: Option<&T>, show: impl Fn(&T) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}

fn p_value(p: f64) -> String {
    if p < 1e-4 { "< 0.0001".to_owned() } else { format!("{p:.4}") }
}

/// In a sentence: `p < 0.0001`, `p = 0.0312`.
fn p_phrase(p: f64) -> String {
    let value = p_value(p);
    if value.starts_with('<') { format!("p {value}") } else { format!("p = {value}") }
}

/// A value of a measure: per cent for a rate, else a number.
fn value(measure: Measure, x: f64) -> String {
    if measure.is_rate() { format!("{:.1} %", 100.0 * x) } else { format!("{x:.2}") }
}

/// The size of a difference: points for a rate, else a number.
fn size(measure: Measure, x: f64) -> String {
    if measure.is_rate() { format!("{:.1} points", 100.0 * x) } else { format!("{x:.3}") }
}

/// A difference with its sign and its interval, in points for a rate.
fn difference(measure: Measure, interval: &Interval) -> String {
    let (scale, digits) = if measure.is_rate() { (100.0, 1) } else { (1.0, 3) };
    let [estimate, low, high] = [interval.estimate, interval.low, interval.high].map(|x| scale * x);
    format!("{estimate:+.digits$} [{low:+.digits$}, {high:+.digits$}]")
}

/// `a`, `a and b`, `a, b and c`.
fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_stays_text() {
        assert_eq!(line("a | b\n<script>`x`\t[y](http://z)"), "a \\| b \\<script>'x' [y]\\(http://z)");
        assert_eq!(line("red \u{1b}[31m and \u{202e}turned"), "red \u{fffd}[31m and \u{fffd}turned");
        assert_eq!(line("an ordinary response, isn't it? (Yes.)"), "an ordinary response, isn't it? (Yes.)");
        assert_eq!(line("\\| \\"), "\\\\\\| \\\\");
    }

    #[test]
    fn prose_is_cut_at_words_and_a_quotation_stays_one() {
        let mut out = String::new();
        wrapped(&mut out, "> ", &"word ".repeat(60));
        assert!(out.lines().count() == 2 && out.lines().all(|line| line.starts_with("> word") && line.chars().count() <= WIDTH));
    }
}
