//! What the judge is worth, what its errors could do to the rates, and where everything came from.

use std::collections::BTreeMap;

use super::super::{CorrectedRate, JudgeInfo, Measure, Report, SystemReport};
use super::first_screen::HEAD;
use super::{header, line, number, or_dash, paragraph, push, row, share, wrapped};
use crate::train::Agreement;

/// Rates with the judge's errors taken out, a table for each rate with a row for each labelled set.
pub(super) fn errors(out: &mut String, systems: &[SystemReport]) {
    let Some(first) = systems.iter().find(|system| !system.corrected.is_empty()) else {
        return;
    };
    push(out, "## What the judge's errors could hide\n");
    paragraph(
        out,
        "Rates in per cent after Rogan and Gladen, as if the judge erred here as it did on that labelled set; the rows differ as far as that \
         assumption matters. A dash: its errors there leave nothing to correct.",
    );
    let heads: Vec<String> = std::iter::once("sensitivity, specificity".to_owned()).chain(systems.iter().map(|s| line(&s.name))).collect();
    for measure in Measure::ALL {
        let sets: Vec<&CorrectedRate> = first.corrected.iter().filter(|c| c.measure == measure).collect();
        if sets.is_empty() {
            continue;
        }
        header(out, measure.short(), &heads);
        for CorrectedRate { data, sensitivity, specificity, .. } in sets {
            let of = |system: &SystemReport| {
                let found = system.corrected.iter().find(|c| c.measure == measure && c.data == *data);
                or_dash(found.and_then(|c| c.rate.as_ref()), share)
            };
            row(out, &line(data), std::iter::once(format!("{sensitivity:.2}, {specificity:.2}")).chain(systems.iter().map(of)));
        }
        out.push('\n');
    }
}

pub(super) fn provenance(out: &mut String, report: &Report) {
    push(out, "## Instruments and provenance\n");
    describe(out, "Evaluator", &report.judge);
    if let Some(annotator) = &report.annotator {
        describe(out, "Annotator", annotator);
    }
    agreement(out, &report.judge.agreement);
    let mut list = |name: &str, text: String| {
        if !text.is_empty() {
            wrapped(out, "- ", &format!("{name}: {text}."));
        }
    };
    let replies: Vec<String> = report.systems.iter().map(|system| format!("{} {}", line(&system.name), system.fingerprint)).collect();
    let seeds: Vec<String> = report.seeds.iter().map(|(name, seed)| format!("{} {seed}", line(name))).collect();
    let dropped: Vec<String> = report.dropped.iter().map(|(why, n)| format!("{} {n}", line(why))).collect();
    let rest = report.environment.iter().filter(|(name, _)| !HEAD.contains(&name.as_str()));
    let run: Vec<String> = rest.map(|(k, v)| format!("{} {}", line(k), line(v))).collect();
    list("Replies", replies.join(", "));
    list("Seeds", seeds.join(", "));
    list("Dropped", dropped.join(", "));
    list("Run", run.join(", "));
    list("Report format", format!("{}; all figures are in its JSON", report.schema));
}

fn describe(out: &mut String, role: &str, judge: &JudgeInfo) {
    let taus = judge.thresholds;
    let [name, fingerprint] = [&judge.name, &judge.fingerprint].map(|text| line(text));
    let (toxic, evasive, answers) = (taus.toxicity, taus.evasiveness, taus.coherence);
    let told = format!(
        "{role}: {name}, fingerprint {fingerprint}; toxic from {toxic:.3}, evasive from {evasive:.3}, an answer from coherence {answers:.3} on."
    );
    wrapped(out, "- ", &told);
}

/// The best and the worst labelled set of each verdict: nobody would read forty rows.
fn agreement(out: &mut String, figures: &[Agreement]) {
    if figures.is_empty() {
        out.push('\n');
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
    out.push('\n');
}
