//! What the judge is worth, what its errors could do to the rates, and where everything came from.

use std::collections::BTreeMap;

use super::super::{CorrectedRate, JudgeInfo, Report, SystemReport};
use super::{header, line, number, or_dash, push, row, share};
use crate::train::Agreement;

/// Rates with the judge's errors taken out, a row for each labelled set.
pub(super) fn errors(out: &mut String, systems: &[SystemReport]) {
    let Some(first) = systems.iter().find(|system| !system.corrected.is_empty()) else {
        return;
    };
    push(
        out,
        "## What the judge's errors could hide\n\nRates after Rogan and Gladen, as if the judge erred here as it did on that \
         labelled set; the rows differ as far as that assumption matters. A dash: its errors there leave nothing to correct.\n",
    );
    let names: Vec<String> = systems.iter().map(|system| line(&system.name)).collect();
    let columns = ["labelled set", "sensitivity, specificity"].map(str::to_owned);
    header(out, "rate", &[columns.as_slice(), &names].concat());
    for CorrectedRate { measure, data, sensitivity, specificity, .. } in &first.corrected {
        let of = |system: &SystemReport| {
            let found = system.corrected.iter().find(|c| c.measure == *measure && c.data == *data);
            or_dash(found.and_then(|c| c.rate.as_ref()), share)
        };
        let cells = [line(data), format!("{sensitivity:.2}, {specificity:.2}")];
        row(out, measure.name(), cells.into_iter().chain(systems.iter().map(of)));
    }
    out.push('\n');
}

pub(super) fn provenance(out: &mut String, report: &Report) {
    push(out, "## Instruments and provenance\n");
    describe(out, "Evaluator", &report.judge);
    if let Some(annotator) = &report.annotator {
        describe(out, "Annotator", annotator);
    }
    agreement(out, &report.judge.agreement);
    let list = |name: &str, text: String| {
        if text.is_empty() { String::new() } else { format!("\n{name}: {text}.\n") }
    };
    let replies: Vec<String> = report.systems.iter().map(|system| format!("{} `{}`", line(&system.name), system.fingerprint)).collect();
    let seeds: Vec<String> = report.seeds.iter().map(|(name, seed)| format!("{} {seed}", line(name))).collect();
    let dropped: Vec<String> = report.dropped.iter().map(|(why, n)| format!("{} {n}", line(why))).collect();
    let run: Vec<String> = report.environment.iter().map(|(k, v)| format!("{} {}", line(k), line(v))).collect();
    out.push_str(&list("Replies", replies.join(", ")));
    out.push_str(&list("Seeds", seeds.join(", ")));
    out.push_str(&list("Dropped", dropped.join(", ")));
    out.push_str(&list("Run", run.join(", ")));
    push(out, format!("\nReport format {}; all figures are in its JSON.", report.schema));
}

fn describe(out: &mut String, role: &str, judge: &JudgeInfo) {
    push(
        out,
        format!(
            "- {role}: {}, fingerprint `{}`, toxic from {:.3}, evasive from {:.3} on.",
            line(&judge.name),
            line(&judge.fingerprint),
            judge.thresholds.toxicity,
            judge.thresholds.evasiveness
        ),
    );
}

/// The best and the worst labelled set of each verdict: forty rows would be read by nobody.
fn agreement(out: &mut String, figures: &[Agreement]) {
    if figures.is_empty() {
        return;
    }
    push(out, "\nAgreement of the evaluator with labels on rows that it never saw, on its worst and its best labelled set:\n");
    header(out, "verdict", &["sets", "worst AUC", "on", "its kappa", "best AUC", "on"]);
    let mut verdicts: BTreeMap<&str, Vec<&Agreement>> = BTreeMap::new();
    for figure in figures {
        verdicts.entry(&figure.measure).or_default().push(figure);
    }
    for (verdict, mut sets) in verdicts {
        sets.sort_by(|a, b| a.auc.estimate.total_cmp(&b.auc.estimate));
        let (Some(worst), Some(best)) = (sets.first(), sets.last()) else { continue };
        let on = |figure: &Agreement| format!("{}, n = {}", line(&figure.data), figure.rows);
        let cells = [sets.len().to_string(), number(&worst.auc), on(worst), number(&worst.kappa), number(&best.auc), on(best)];
        row(out, &line(verdict), cells);
    }
}
