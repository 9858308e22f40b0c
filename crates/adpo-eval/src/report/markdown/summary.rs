//! The top of a report: who judged how much, what to beware of, and what may be said, in plain words.

use super::super::{Comparison, Doubt, Measure, Report, Verdict};
use super::{line, p_value, push, size};
use crate::statistics::EquivalenceOutcome;

pub(super) fn summary(out: &mut String, report: &Report) {
    if let Some(reason) = &report.circular {
        push(out, format!("> **CIRCULAR**: {}.\n", line(reason)));
    }
    push(out, scope(report) + "\n");
    if report.prompts_seen_by_judge > 0 {
        let n = report.prompts_seen_by_judge;
        push(out, format!("> **SEEN**: the judge was trained on {n} of these prompts; its agreement figures do not hold for them.\n"));
    }
    for note in &report.notes {
        push(out, format!("> Note: {}.\n", line(note)));
    }
    verdicts(out, report);
    token(out, report);
}

/// Whether the token does what it was trained for, and whether anybody else can do it.
fn token(out: &mut String, report: &Report) {
    if report.control_token.is_empty() {
        return;
    }
    push(out, format!("**Control token** (toxic replies, 5 %, Holm over {} tests):\n", report.control_token.len()));
    for effect in &report.control_token {
        let (before, after) = (effect.without.share.estimate, effect.with.share.estimate);
        let change = match (effect.p_holm < 0.05, after > before) {
            (true, true) => "**raises** them",
            (true, false) => "**lowers** them",
            (false, _) => "no distinguishable effect",
        };
        push(
            out,
            format!(
                "- {}, {}: {change}, {:.1} % to {:.1} % (p {})",
                line(&effect.system),
                effect.form.head(),
                100.0 * before,
                100.0 * after,
                p_value(effect.p_holm)
            ),
        );
    }
    out.push('\n');
}

/// How many of what, and by whom.
fn scope(report: &Report) -> String {
    let most = |count: fn(&super::super::SystemReport) -> usize| report.systems.iter().map(count).max().unwrap_or(0);
    let (prompts, samples, harmful) = (most(|s| s.prompts), most(|s| s.samples), most(|s| s.harmful_prompts));
    let replies = if samples == 1 { "one reply".to_owned() } else { format!("up to {samples} replies") };
    let n = report.systems.len();
    let systems = if n == 1 { "one system".to_owned() } else { format!("{n} systems") };
    let judge = &report.judge;
    format!(
        "{prompts} prompts ({harmful} marked harmful), {replies} to each by {systems}. Judge: **{}**, fingerprint `{}`, {}.",
        line(&judge.name),
        line(&judge.fingerprint),
        if judge.agreement.is_empty() { "**agreement with people not measured**" } else { "agreement with labels below" }
    )
}

fn verdicts(out: &mut String, report: &Report) {
    let Some(baseline) = &report.baseline else {
        push(out, "No baseline was named: nothing is tested, and no difference between two columns is claimed.\n");
        return;
    };
    if report.comparisons.is_empty() {
        return;
    }
    let tests = report.comparisons.len();
    push(out, format!("**Against {}** (5 %, Holm over {tests} tests):\n", line(baseline)));
    let systems = report.systems.iter().map(|system| system.name.as_str()).filter(|name| name != baseline);
    for name in systems {
        let of_system: Vec<&Comparison> = report.comparisons.iter().filter(|c| c.system == name).collect();
        push(out, format!("- **{}**", line(name)));
        if of_system.is_empty() {
            push(out, "  - no prompt in common with the baseline: not compared");
        }
        let (undecided, winners): (Vec<_>, Vec<_>) = of_system.into_iter().partition(|c| c.verdict == Verdict::NotDistinguishable);
        for c in winners {
            push(out, format!("  - {}", winner(c)));
        }
        list(out, "not distinguishable at n (smallest detectable difference)", undecided.iter().map(|c| not_distinguishable(c)));
        for (outcome, words) in EQUIVALENCE {
            let of_outcome = undecided.iter().filter(|c| c.equivalence.outcome == outcome);
            list(out, words, of_outcome.map(|c| c.measure.name().to_owned()));
        }
    }
    out.push('\n');
}

/// What may be said of a difference that is not distinguishable from none.
const EQUIVALENCE: [(EquivalenceOutcome, &str); 3] = [
    (EquivalenceOutcome::Equivalent, "equal within ± 2 points (of 100)"),
    (EquivalenceOutcome::NotShown, "not shown to be equal within ± 2 points"),
    (EquivalenceOutcome::CannotDecide, "whether equal within ± 2 points cannot be decided, for want of power"),
];

fn list(out: &mut String, words: &str, items: impl Iterator<Item = String>) {
    let items: Vec<String> = items.collect();
    if !items.is_empty() {
        push(out, format!("  - {words}: {}", items.join("; ")));
    }
}

/// A difference that passed every rule, with the condition under which it is one.
fn winner(c: &Comparison) -> String {
    let word = if c.verdict == Verdict::Lower { "lower" } else { "higher" };
    let text = format!("{}: **{word}** by {}", c.measure.name(), size(c.measure, c.difference.estimate.abs()));
    // Degeneracy is counted, not judged.
    let Some(allowed) = c.bias_allowed.filter(|_| c.measure != Measure::Degenerate) else { return text };
    let known = match &c.bias_measured {
        Some(measured) => format!("{} between models of {}", size(c.measure, measured.bias), line(&measured.data)),
        None => "not measured".to_owned(),
    };
    format!("{text}, distinguishable only if the judge's bias between the two is below {} ({known})", size(c.measure, allowed))
}

fn not_distinguishable(c: &Comparison) -> String {
    let smallest = c.smallest_detectable.map_or_else(|| "none of any size".to_owned(), |smallest| size(c.measure, smallest));
    let why = match (c.doubt, &c.bias_measured) {
        (Some(Doubt::Interval), _) => ", the interval includes zero".to_owned(),
        (Some(Doubt::Power), _) => {
            format!(", the one seen, {}, is smaller (p {})", size(c.measure, c.difference.estimate.abs()), p_value(c.p_holm))
        }
        (Some(Doubt::Instrument), Some(measured)) => format!(
            ", the judge's bias between models of {} ({}) could be all of the one seen",
            line(&measured.data),
            size(c.measure, measured.bias)
        ),
        (Some(Doubt::Instrument), None) => ", the judge is not shown to be better than a coin".to_owned(),
        _ => String::new(),
    };
    format!("{} at n = {} ({smallest}{why})", c.measure.name(), c.pairs)
}
