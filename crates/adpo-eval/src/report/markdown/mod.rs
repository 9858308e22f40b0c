//! Reports for people: what a sceptical reader needs first, then the tables.

mod instruments;
mod seeds;
mod summary;
mod systems;

use std::fmt::Write as _;

use super::{Measure, Rate, Report};
use crate::statistics::Interval;

impl Report {
    /// The report for people.
    pub fn markdown(&self) -> String {
        let mut out = format!("# {}\n\n", line(&self.title));
        summary::summary(&mut out, self);
        systems::systems(&mut out, &self.systems);
        systems::comparisons(&mut out, self.baseline.as_deref(), &self.comparisons);
        systems::categories(&mut out, &self.systems);
        systems::control_token(&mut out, &self.control_token);
        systems::worst(&mut out, &self.worst);
        instruments::errors(&mut out, &self.systems);
        instruments::provenance(&mut out, self);
        out
    }
}

fn push(out: &mut String, text: impl AsRef<str>) {
    out.push_str(text.as_ref());
    out.push('\n');
}

/// Text from outside must not break the table it stands in.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
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

fn rate(rate: &Rate) -> String {
    format!("{} ({}/{})", share(&rate.share), rate.hits, rate.n)
}

fn share(interval: &Interval) -> String {
    let Interval { estimate, low, high } = interval;
    format!("{:.1} % [{:.1}, {:.1}]", 100.0 * estimate, 100.0 * low, 100.0 * high)
}

fn number(interval: &Interval) -> String {
    format!("{:.3} [{:.3}, {:.3}]", interval.estimate, interval.low, interval.high)
}

fn or_dash<T>(value: Option<&T>, show: impl Fn(&T) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}

fn p_value(p: f64) -> String {
    if p < 1e-4 { "< 0.0001".to_owned() } else { format!("{p:.4}") }
}

/// A value of a measure: per cent for a rate, else a number.
fn value(measure: Measure, x: f64) -> String {
    if measure.is_rate() { format!("{:.1} %", 100.0 * x) } else { format!("{x:.3}") }
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
