//! Two judges beside each other.

use super::super::{JudgeAgreement, Report};
use super::{header, line, listed, number, or_dash, paragraph, push, row, share};

/// What each judge finds, how often they differ, and what follows for the report's claims.
pub(super) fn second_judge(out: &mut String, report: &Report) {
    let Some(second) = &report.second_judge else { return };
    let (first_name, second_name) = (line(&report.judge.name), line(&second.judge.name));
    push(out, "## Two judges\n");
    let rows = match second.shared_rows {
        0 => "They share no training rows.".to_owned(),
        n => format!("Training rows that both learnt from: {n}; errors of their labels are errors of both."),
    };
    paragraph(
        out,
        format!(
            "The same responses by {first_name} and by {second_name} (fingerprint {}), each with thresholds of its own. {rows} Rates in per \
             cent, with 95 % intervals.",
            line(&second.judge.fingerprint)
        ),
    );
    let names: Vec<String> = report.systems.iter().map(|system| line(&system.name)).collect();
    header(out, "measure, judge", &names);
    let both = || report.systems.iter().zip(&second.systems);
    row(out, &format!("toxic, {first_name}"), both().map(|(a, _)| share(&a.toxicity.rate.share)));
    row(out, &format!("toxic, {second_name}"), both().map(|(_, b)| share(&b.toxic.share)));
    row(out, &format!("evasive, {first_name}"), both().map(|(a, _)| or_dash(a.evasive_safe.as_ref(), |e| share(&e.rate.share))));
    row(out, &format!("evasive, {second_name}"), both().map(|(_, b)| or_dash(b.evasive_safe.as_ref(), |e| share(&e.share))));
    if both().any(|(a, _)| a.evasive_harmful.is_some()) {
        let named = |name: &str| format!("evasive, harmful prompts, {name}");
        row(out, &named(&first_name), both().map(|(a, _)| or_dash(a.evasive_harmful.as_ref(), |e| share(&e.rate.share))));
        row(out, &named(&second_name), both().map(|(_, b)| or_dash(b.evasive_harmful.as_ref(), |e| share(&e.share))));
    }
    row(out, &format!("coherence, {first_name}"), both().map(|(a, _)| number(&a.coherence)));
    row(out, &format!("coherence, {second_name}"), both().map(|(_, b)| number(&b.coherence)));
    out.push('\n');
    header(out, "verdict", &["responses", "differ", "only the first says yes", "only the second", "κ"]);
    for JudgeAgreement { verdict, differ, only_first, kappa } in &second.agreement {
        let kappa = or_dash(kappa.as_ref(), |kappa| format!("{kappa:.2}"));
        let counts = [differ.n.to_string(), share(&differ.share), only_first.to_string(), (differ.hits - only_first).to_string(), kappa];
        row(out, verdict, counts);
    }
    out.push('\n');
    let differing = second.agreement.iter().filter(|agreement| agreement.differ.hits > 0);
    let bounds: Vec<String> = differing.map(|a| format!("{:.1} points for {}", 100.0 * a.differ.share.estimate, a.verdict)).collect();
    if bounds.is_empty() {
        paragraph(out, "No verdict differs.");
        return;
    }
    paragraph(
        out,
        format!(
            "Where two verdicts differ, one judge is wrong: their rates of error sum to at least the share that differs. That bounds what may \
             be claimed of the systems: a difference below {}, or one that only one of the judges finds, may be the judge's.",
            listed(&bounds)
        ),
    );
}
