//! The sections below the first screen: tests, token audit, all measures, categories, the most toxic responses.

use super::super::example::is_redacted;
use super::super::{Comparison, Measure, PairedTest, SystemReport, TokenEffect, Verdict, WorstCase};
use super::{difference, header, line, number, or_dash, p_value, paragraph, push, row, share, size, value, wrapped};
use crate::token_form::TokenForm;

/// The differences that may be named; the first screen lists the others.
pub(super) fn comparisons(out: &mut String, baseline: Option<&str>, comparisons: &[Comparison]) {
    let Some(baseline) = baseline.filter(|_| !comparisons.is_empty()) else { return };
    push(out, format!("## Tests against {}\n", line(baseline)));
    let decided: Vec<&Comparison> = comparisons.iter().filter(|c| c.verdict != Verdict::NotDistinguishable).collect();
    let (named, all) = (decided.len(), comparisons.len());
    paragraph(out, format!("{named} of {all} comparisons name a direction (all are in the JSON; how they are tested, docs/report.md)."));
    // Mean toxicity says once more what the rate says.
    let told_by_rate = |c: &Comparison| {
        c.measure == Measure::MeanToxicity && decided.iter().any(|other| other.measure == Measure::Toxic && other.system == c.system)
    };
    let shown: Vec<&Comparison> = decided.iter().copied().filter(|c| !told_by_rate(c)).collect();
    if shown.is_empty() {
        return;
    }
    header(out, "system", &["measure", "here", "baseline", "n", "difference", "only here, there", "p (Holm)", "smallest", "verdict"]);
    for c in shown {
        let cells = [
            c.measure.short().to_owned(),
            value(c.measure, c.value),
            value(c.measure, c.baseline_value),
            c.pairs.to_string(),
            difference(c.measure, &c.difference),
            match c.test {
                PairedTest::Mcnemar { only_system, only_baseline } => format!("{only_system}, {only_baseline}"),
                PairedTest::SignFlip { .. } => "–".to_owned(),
            },
            p_value(c.p_holm),
            or_dash(c.smallest_detectable.as_ref(), |smallest| size(c.measure, *smallest)),
            if c.verdict == Verdict::Lower { "lower" } else { "higher" }.to_owned(),
        ];
        row(out, &line(&c.system), cells);
    }
    out.push('\n');
}

pub(super) fn control_token(out: &mut String, effects: &[TokenEffect]) {
    if effects.is_empty() {
        return;
    }
    push(out, "## Token audit\n");
    paragraph(
        out,
        "Toxic responses in per cent, as asked and with the control token in some form; p: exact McNemar, Holm over this table.",
    );
    let forms: Vec<TokenForm> = TokenForm::ALL.into_iter().filter(|form| effects.iter().any(|effect| effect.form == *form)).collect();
    let heads: Vec<&str> = std::iter::once("as they are").chain(forms.iter().map(|form| form.head())).collect();
    header(out, "system", &heads);
    for effects in effects.chunk_by(|a, b| a.system == b.system) {
        let Some(TokenEffect { system, without, .. }) = effects.first() else { continue };
        let with = forms.iter().map(|form| {
            let effect = effects.iter().find(|effect| effect.form == *form);
            or_dash(effect, |effect| format!("{}, p {}", share(&effect.with.share), p_value(effect.p_holm)))
        });
        row(out, &line(system), std::iter::once(share(&without.share)).chain(with));
    }
    out.push('\n');
}

/// What the first table leaves out.
pub(super) fn systems(out: &mut String, systems: &[SystemReport]) {
    push(out, "## All measures\n");
    let names: Vec<String> = systems.iter().map(|system| line(&system.name)).collect();
    header(out, "measure", &names);
    let mut add = |name: &str, cell: &dyn Fn(&SystemReport) -> String| row(out, name, systems.iter().map(cell));
    let any = |has: fn(&SystemReport) -> bool| systems.iter().any(has);
    add("mean toxicity", &|s| number(&s.toxicity.mean));
    if any(|s| s.samples > 1) {
        add("prompts with any toxic response, %", &|s| share(&s.any_toxic.share));
    }
    add("toxic by its words, in its context, %", &|s| {
        let [words, context] = [&s.heads.abuse, &s.heads.context].map(|head| 100.0 * head.rate.share.estimate);
        format!("{words:.1}, {context:.1}")
    });
    if any(|s| s.heads.harm.is_some()) {
        add("toxic by its advice (harm), %", &|s| or_dash(s.heads.harm.as_ref(), |harm| share(&harm.rate.share)));
    }
    if any(|s| s.evasive_safe.is_some()) {
        add("mean evasiveness", &|s| or_dash(s.evasive_safe.as_ref(), |e| number(&e.mean)));
    }
    if any(|s| s.evasive_harmful.is_some()) {
        add("mean evasiveness, harmful prompts", &|s| or_dash(s.evasive_harmful.as_ref(), |e| number(&e.mean)));
    }
    add("distinct-1 / 2 / 3", &|s| {
        format!("{:.2} / {:.2} / {:.2}", s.diversity.distinct_1, s.diversity.distinct_2, s.diversity.distinct_3)
    });
    add("self-BLEU-4 (low is varied), unique %", &|s| format!("{:.3}, {:.1}", s.diversity.self_bleu_4, 100.0 * s.diversity.unique));
    add("words per response", &|s| format!("{:.1}", s.words));
    if any(|s| s.kl.is_some()) {
        add("log-ratio chosen / rejected / toxic", &|s| {
            or_dash(s.kl.as_ref(), |kl| {
                let toxic = or_dash(kl.toxic.as_ref(), |toxic| format!("{toxic:+.2}"));
                format!("{:+.2} / {:+.2} / {toxic}", kl.chosen, kl.rejected)
            })
        });
    }
    if any(|s| s.kl_policy.is_some()) {
        add("KL on own samples, nats per token", &|s| or_dash(s.kl_policy.as_ref(), |nats| format!("{nats:.4}")));
    }
    add("prompts, responses, not scored", &|s| {
        let scored = s.judgements.get("scored").copied().unwrap_or(0);
        format!("{}, {}, {}", s.prompts, s.responses, s.responses - scored)
    });
    out.push('\n');
}

pub(super) fn categories(out: &mut String, systems: &[SystemReport]) {
    let names: std::collections::BTreeSet<&String> = systems.iter().flat_map(|system| system.categories.keys()).collect();
    if names.is_empty() {
        return;
    }
    push(out, "## By category: toxic %, evasive %, coherence; nothing is tested\n");
    let heads: Vec<String> = std::iter::once("responses".to_owned()).chain(systems.iter().map(|system| line(&system.name))).collect();
    header(out, "category", &heads);
    for name in names {
        let responses = systems.iter().filter_map(|system| system.categories.get(name)).map(|category| category.toxicity.n).max();
        let cells = systems.iter().map(|system| {
            or_dash(system.categories.get(name), |category| {
                let evasive = category.evasive_safe.or(category.evasive_harmful);
                let evasive = or_dash(evasive.as_ref(), |rate| format!("{:.1}", 100.0 * rate.share.estimate));
                format!("{:.1}, {evasive}, {:.2}", 100.0 * category.toxicity.share.estimate, category.coherence.estimate)
            })
        });
        row(out, &line(name), std::iter::once(responses.unwrap_or(0).to_string()).chain(cells));
    }
    out.push('\n');
}

/// The texts, where they may be shown; who may not see them finds the prompts' ids in the JSON.
pub(super) fn worst(out: &mut String, worst: &[WorstCase]) {
    if worst.iter().all(|case| is_redacted(&case.response)) {
        return;
    }
    push(out, "## Most toxic responses\n");
    for case in worst {
        let WorstCase { system, prompt_id, toxicity, head, prompt, response } = case;
        let [system, prompt_id, prompt, response] = [system, prompt_id, prompt, response].map(|text| line(text));
        wrapped(out, "- ", &format!("{system}, {toxicity:.2} ({head}), {prompt_id}: {prompt} → {response}"));
    }
    out.push('\n');
}
