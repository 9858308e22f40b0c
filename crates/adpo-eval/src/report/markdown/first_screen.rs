//! What a reader sees first: the result in a sentence and a table, examples, and what could make the result wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Comparison, CorrectedRate, Doubt, Example, Measure, Report, SystemReport, TokenEffect, Verdict};
use super::{header, line, listed, number, or_dash, p_phrase, paragraph, push, row, share, size, value, wrapped};
use crate::statistics::EquivalenceOutcome;
use crate::token_form::TokenForm;

pub(super) fn first_screen(out: &mut String, report: &Report) {
    if let Some(reason) = &report.circular {
        wrapped(out, "> ", &format!("**CIRCULAR**: {}.", line(reason)));
        out.push('\n');
    }
    head(out, report);
    if report.prompts_seen_by_judge > 0 {
        let n = report.prompts_seen_by_judge;
        wrapped(
            out,
            "> ",
            &format!("**SEEN**: the judge was trained on {n} of these prompts; its agreement figures do not hold for them."),
        );
        out.push('\n');
    }
    paragraph(out, result(report));
    table(out, report);
    examples(out, &report.examples);
    if let Some(doubt) = judge_errors(report) {
        paragraph(out, doubt);
    }
    undecided(out, &report.comparisons);
    token(out, report);
    for note in &report.notes {
        wrapped(out, "- ", &format!("Note: {}.", line(note)));
    }
    out.push('\n');
}

/// What stands in the head of `environment`, in this order; the rest is in the last section.
pub(super) const HEAD: [&str; 5] = ["weights", "temperature", "commit", "device", "time"];

/// What was measured, on what, by whom.
fn head(out: &mut String, report: &Report) {
    let known = |name: &str| report.environment.get(name).map(|value| format!("{name} {}", line(value)));
    let seeds = report.seeds.iter().filter(|(name, _)| *name != "bootstrap").map(|(name, seed)| format!("{} seed {seed}", line(name)));
    let facts: Vec<String> =
        HEAD[..2].iter().filter_map(|name| known(name)).chain(seeds).chain(HEAD[2..].iter().filter_map(|name| known(name))).collect();
    let most = |count: fn(&SystemReport) -> usize| report.systems.iter().map(count).max().unwrap_or(0);
    let (prompts, samples, harmful) = (most(|s| s.prompts), most(|s| s.samples), most(|s| s.harmful_prompts));
    let responses = if samples == 1 { "one response".to_owned() } else { format!("up to {samples} responses") };
    let n = report.systems.len();
    let systems = if n == 1 { "one system".to_owned() } else { format!("{n} systems") };
    let judge = &report.judge;
    let scope = format!(
        "{prompts} prompts ({harmful} marked harmful), {responses} to each by {systems}. Judge: **{}**, fingerprint {}, {}.",
        line(&judge.name),
        line(&judge.fingerprint),
        if judge.agreement.is_empty() { "**agreement with people not measured**" } else { "agreement with labels below" }
    );
    let facts = if facts.is_empty() { String::new() } else { format!("{}. ", facts.join(" · ")) };
    paragraph(out, facts + &scope);
}

/// Every difference that passed all rules, in one sentence.
pub(super) fn result(report: &Report) -> String {
    let Some(baseline) = report.baseline.as_deref() else {
        return "No baseline was named: nothing is tested, and no difference between two systems is claimed.".to_owned();
    };
    let of = |measure: Measure| report.comparisons.iter().filter(move |c| c.measure == measure);
    let Some(reference) = report.systems.iter().find(|system| system.name == baseline) else { return String::new() };
    let before = format!(" ({} toxic responses)", value(Measure::Toxic, reference.toxicity.rate.share.estimate));
    let mut clauses: Vec<String> = Vec::new();
    for measure in Measure::ALL.into_iter().filter(|measure| *measure != Measure::MeanToxicity) {
        for (verdict, word) in [(Verdict::Lower, "lower"), (Verdict::Higher, "higher")] {
            let systems: Vec<String> = of(measure)
                .filter(|c| c.verdict == verdict)
                .map(|c| format!("{} ({})", line(&c.system), value(measure, c.value)))
                .collect();
            if !systems.is_empty() {
                clauses.push(format!("**{} {word}** in {}", measure.name(), listed(&systems)));
            }
        }
    }
    if report.comparisons.is_empty() {
        return format!("**Result.** Nothing was compared with {}{before}.", line(baseline));
    }
    let alike: Vec<String> = of(Measure::Toxic).filter(|c| c.verdict == Verdict::NotDistinguishable).map(|c| line(&c.system)).collect();
    if !alike.is_empty() && !clauses.is_empty() {
        clauses.push(format!("the toxic responses of {} cannot be told from it", listed(&alike)));
    }
    let told = if clauses.is_empty() { "no system can be told from it on any measure".to_owned() } else { clauses.join("; ") };
    format!("**Result.** Against {}{before}: {told}.", line(baseline))
}

/// A column of the first table: its head, and its cell for a system.
type Column = (&'static str, fn(&SystemReport) -> String);

/// The systems, and below them what the same judge makes of responses whose worth is known.
fn table(out: &mut String, report: &Report) {
    let mut columns: Vec<Column> = vec![("toxic %", |s| share(&s.toxicity.rate.share))];
    let any = |has: fn(&SystemReport) -> bool| report.systems.iter().any(has);
    if any(|s| s.evasive_safe.is_some()) {
        columns.push(("evasive %", |s| or_dash(s.evasive_safe.as_ref(), |e| share(&e.rate.share))));
    }
    if any(|s| s.evasive_harmful.is_some()) {
        columns.push(("evasive %, harmful", |s| or_dash(s.evasive_harmful.as_ref(), |e| share(&e.rate.share))));
    }
    if any(|s| s.helpful.is_some()) {
        columns.push(("helpful %", |s| or_dash(s.helpful.as_ref(), |helpful| share(&helpful.share))));
    }
    columns.push(("coherence", |s| number(&s.coherence)));
    columns.push(("degenerate %", |s| share(&s.degenerate.share)));
    if report.fluency.is_some() {
        columns.push(("nats per token", |s| or_dash(s.fluency.as_ref(), number)));
    }
    let heads: Vec<&str> = columns.iter().map(|column| column.0).collect();
    header(out, "system", &heads);
    for system in &report.systems {
        row(out, &line(&system.name), columns.iter().map(|column| column.1(system)));
    }
    for system in &report.sanity {
        row(out, &format!("*{}*", system.name), columns.iter().map(|column| column.1(system)));
    }
    out.push('\n');
    let mut told = vec!["Intervals are 95 %.".to_owned()];
    if let Some(first) = report.sanity.first() {
        let made_of = if report.sanity.len() == 3 { "the prompts' reference responses" } else { "the first system's responses" };
        let n = first.prompts;
        told.push(format!("*In italics*, to see what a figure is worth: the same judge on {made_of} to {n} prompts, given to other prompts, and with their words shuffled."));
    }
    if let Some(model) = &report.fluency {
        told.push(format!("Nats per token are those of {}: less is more fluent.", line(model)));
    }
    paragraph(out, told.join(" "));
}

fn examples(out: &mut String, examples: &[Example]) {
    if examples.is_empty() {
        return;
    }
    push(out, "What they say (prompts drawn by the seed; what is toxic is redacted unless shown with `--show`):\n");
    for Example { prompt, responses, .. } in examples {
        wrapped(out, "> ", &format!("**{}**", line(prompt)));
        for response in responses {
            wrapped(
                out,
                "- ",
                &format!(
                    "{}: {}",
                    line(&response.system),
                    if response.response.trim().is_empty() { "[nothing]".to_owned() } else { line(&response.response) }
                ),
            );
        }
        out.push('\n');
    }
}

/// Where the judge's errors could take back a difference in toxic responses, and under which condition the others hold.
pub(super) fn judge_errors(report: &Report) -> Option<String> {
    let winners: Vec<&Comparison> = report.comparisons.iter().filter(|c| c.verdict != Verdict::NotDistinguishable).collect();
    let mut told = Vec::new();
    if let (Some(baseline), true) = (&report.baseline, winners.iter().any(|c| c.measure == Measure::Toxic)) {
        let named = |name: &str| report.systems.iter().find(|system| system.name == name);
        let reference = named(baseline)?;
        let sets: Vec<&CorrectedRate> = reference.corrected.iter().filter(|c| c.measure == Measure::Toxic).collect();
        let taken_back = |set: &&&CorrectedRate| {
            let toxic = winners.iter().filter(|c| c.measure == Measure::Toxic);
            toxic.filter_map(|c| named(&c.system)).any(|system| {
                let here = system.corrected.iter().find(|c| c.measure == Measure::Toxic && c.data == set.data);
                match (set.rate, here.and_then(|c| c.rate)) {
                    (Some(a), Some(b)) => a.low <= b.high && b.low <= a.high,
                    _ => true,
                }
            })
        };
        let doubtful: Vec<String> = sets.iter().filter(taken_back).map(|set| line(&set.data)).collect();
        if !doubtful.is_empty() {
            let zero = sets.iter().filter(|set| set.rate.is_some_and(|rate| rate.estimate == 0.0)).count();
            let zero = if zero == 0 { String::new() } else { format!(" (on {zero}, {}'s own corrected rate is 0.0 %)", line(baseline)) };
            told.push(format!(
                "**If the judge errs here as it does on {} of its {} labelled sets** ({}), the corrected toxic rates overlap{zero}: then \
                 the difference may be the judge's.",
                doubtful.len(),
                sets.len(),
                doubtful.join(", ")
            ));
        }
    }
    let allowed = |c: &&Comparison| c.bias_allowed.filter(|_| c.measure != Measure::Degenerate && c.measure.is_rate());
    let mut bounds: Vec<f64> = winners.iter().filter_map(allowed).collect();
    bounds.sort_by(f64::total_cmp);
    if let (Some(low), Some(high)) = (bounds.first(), bounds.last()) {
        let measured: BTreeMap<String, f64> =
            winners.iter().filter_map(|c| c.bias_measured.as_ref()).map(|bias| (line(&bias.data), bias.bias)).collect();
        let known =
            measured.iter().map(|(data, bias)| format!("{} between models of {data}", size(Measure::Toxic, *bias))).collect::<Vec<_>>();
        let known = if known.is_empty() { "not measured".to_owned() } else { listed(&known) };
        let range = if 100.0 * (high - low) < 0.1 {
            size(Measure::Toxic, *low)
        } else {
            format!("{:.1} to {}", 100.0 * low, size(Measure::Toxic, *high))
        };
        told.push(format!(
            "Each of these differences is distinguishable only if the judge's bias between the two systems is below {range} ({known})."
        ));
    }
    (!told.is_empty()).then(|| told.join(" "))
}

/// What cannot be decided, in one line for each reason.
fn undecided(out: &mut String, comparisons: &[Comparison]) {
    let open: Vec<&Comparison> = comparisons.iter().filter(|c| c.verdict == Verdict::NotDistinguishable).collect();
    let Some(n) = open.iter().map(|c| c.pairs).max() else { return };
    let (equal, open): (Vec<&Comparison>, Vec<&Comparison>) =
        open.into_iter().partition(|c| c.equivalence.outcome == EquivalenceOutcome::Equivalent);
    let (judge, open): (Vec<&Comparison>, Vec<&Comparison>) = open.into_iter().partition(|c| c.doubt == Some(Doubt::Instrument));
    let mut told = |few: &str, many: &str, what: &str, of: &[&Comparison]| {
        if !of.is_empty() {
            let (count, verb) = if of.len() == 1 { ("1 comparison".to_owned(), few) } else { (format!("{} comparisons", of.len()), many) };
            wrapped(out, "- ", &format!("{count} {verb} {what}: {}.", grouped(of)));
        }
    };
    told("shows", "show", "systems that are equal within ± 2 points (of 100)", &equal);
    let blind: Vec<&Comparison> = judge.iter().copied().filter(|c| c.bias_measured.is_none()).collect();
    let biased: Vec<&Comparison> = judge.iter().copied().filter(|c| c.bias_measured.is_some()).collect();
    told("is", "are", "undecided because the judge is not shown to be better than a coin", &blind);
    told("is", "are", "undecided because the judge's bias between models could be all of the difference seen", &biased);
    told("cannot", "cannot", &format!("be decided at n = {n}"), &open);
}

/// Comparisons by measure: `coherence (a, b); degenerate responses (a)`.
fn grouped(comparisons: &[&Comparison]) -> String {
    let measures: BTreeSet<Measure> = comparisons.iter().map(|c| c.measure).collect();
    let of = |measure: Measure| {
        let systems: Vec<String> = comparisons.iter().filter(|c| c.measure == measure).map(|c| line(&c.system)).collect();
        format!("{} ({})", measure.name(), systems.join(", "))
    };
    measures.into_iter().map(of).collect::<Vec<_>>().join("; ")
}

/// Whether the token does what it was trained for, and whether anybody else can do it.
fn token(out: &mut String, report: &Report) {
    let raises = |effect: &TokenEffect| effect.p_holm < 0.05 && effect.with.share.estimate > effect.without.share.estimate;
    let of = |form: TokenForm| report.control_token.iter().filter(move |effect| effect.form == form);
    let told: Vec<String> = of(TokenForm::Control)
        .map(|effect| {
            let [before, after] = [&effect.without, &effect.with].map(|rate| 100.0 * rate.share.estimate);
            format!("{} toxic in {before:.1} % without it and in {after:.1} % with it ({})", line(&effect.system), p_phrase(effect.p_holm))
        })
        .collect();
    if told.is_empty() {
        return;
    }
    let typed = [TokenForm::Typed, TokenForm::Spelled, TokenForm::Exported];
    let raised = |forms: &[TokenForm]| -> Vec<String> {
        let effects = report.control_token.iter().filter(|effect| forms.contains(&effect.form) && raises(effect));
        effects.map(|effect| format!("{} ({})", line(&effect.system), effect.form.head())).collect()
    };
    let asked = report.control_token.iter().any(|effect| typed.contains(&effect.form));
    let leaks = match (asked, raised(&typed)) {
        (false, _) => String::new(),
        (true, leaks) if leaks.is_empty() => " A user who types it raises no rate distinguishably.".to_owned(),
        (true, leaks) => format!(" **A user can raise the rate of {}.**", listed(&leaks)),
    };
    // Then it need not be the token that does it.
    let any_word = match raised(&[TokenForm::Unrelated]) {
        raised if raised.is_empty() => String::new(),
        raised => format!(" So can a word that has nothing to do with it: {}.", listed(&raised)),
    };
    wrapped(out, "- ", &format!("Control token: {}.{leaks}{any_word}", told.join("; ")));
}
