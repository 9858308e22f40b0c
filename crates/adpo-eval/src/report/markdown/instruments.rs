//! The judge's agreement with people, what its errors could do to the rates, and where everything came from.

use std::collections::BTreeMap;

use super::super::{CorrectedRate, JudgeInfo, Report, SystemReport};
use super::first_screen::HEAD;
use super::{header, line, or_dash, paragraph, push, row, share, wrapped};
use crate::agreement::Agreement;

/// Rates with the judge's errors taken out, a row for each rate and labelled set.
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
    header(out, "rate, labelled set", &heads);
    for CorrectedRate { measure, data, sensitivity, specificity, .. } in &first.corrected {
        let of = |system: &SystemReport| {
            let found = system.corrected.iter().find(|c| c.measure == *measure && c.data == *data);
            or_dash(found.and_then(|c| c.rate.as_ref()), share)
        };
        let errors = format!("{sensitivity:.2}, {specificity:.2}");
        row(out, &format!("{}, {}", measure.short(), line(data)), std::iter::once(errors).chain(systems.iter().map(of)));
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
    let responses: Vec<String> = report.systems.iter().map(|system| format!("{} {}", line(&system.name), system.fingerprint)).collect();
    wrapped(out, "- ", &format!("Responses: {}.", responses.join(", ")));
    let counted = |all: Vec<String>, name: &str| if all.is_empty() { String::new() } else { format!("{name}: {}. ", all.join(", ")) };
    let seeds = report.seeds.iter().map(|(name, seed)| format!("{} {seed}", line(name))).collect();
    let dropped = report.dropped.iter().map(|(why, n)| format!("{} {n}", line(why))).collect();
    let rest = report.environment.iter().filter(|(name, _)| !HEAD.contains(&name.as_str()));
    let run = rest.map(|(name, value)| format!("{} {}", line(name), line(value))).collect();
    let told = [counted(seeds, "Seeds"), counted(dropped, "Dropped"), counted(run, "Run")].concat();
    wrapped(out, "- ", &format!("{told}Report format {}; all figures are in its JSON.", report.schema));
}

fn describe(out: &mut String, role: &str, judge: &JudgeInfo) {
    let taus = judge.thresholds;
    let [name, fingerprint] = [&judge.name, &judge.fingerprint].map(|text| line(text));
    let (toxic, evasive, coherent) = (taus.toxicity, taus.evasiveness, taus.coherence);
    let told = format!(
        "{role}: {name}, fingerprint {fingerprint}; toxic from {toxic:.3}, evasive from {evasive:.3}, coherent from {coherent:.3} on."
    );
    wrapped(out, "- ", &told);
}

/// The best and the worst labelled set of each verdict; all of them are in the JSON. Single heads, `toxicity (abuse)`, are in the JSON.
fn agreement(out: &mut String, figures: &[Agreement]) {
    let mut verdicts: BTreeMap<&str, Vec<&Agreement>> = BTreeMap::new();
    for figure in figures.iter().filter(|figure| !figure.measure.contains('(')) {
        verdicts.entry(&figure.measure).or_default().push(figure);
    }
    let told = verdicts.into_iter().filter_map(|(verdict, mut sets)| {
        sets.sort_by(|a, b| a.auc.estimate.total_cmp(&b.auc.estimate));
        let (worst, best) = (sets.first()?, sets.last()?);
        let on = |figure: &Agreement| format!("{:.2} on {}", figure.auc.estimate, line(&figure.data));
        Some(match sets.len() {
            1 => format!("{} {}", line(verdict), on(worst)),
            n => format!("{} {} to {} ({n} sets)", line(verdict), on(worst), on(best)),
        })
    });
    let told: Vec<String> = told.collect();
    if !told.is_empty() {
        wrapped(out, "- ", &format!("AUC of the evaluator on labelled rows that it never saw: {}.", told.join("; ")));
    }
}
