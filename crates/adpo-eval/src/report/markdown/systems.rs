//! The tables: systems side by side, tests, categories, token audit, worst replies.

use super::super::{Comparison, Doubt, PairedTest, RateAndMean, SystemReport, TokenEffect, TokenForm, Verdict, WorstCase};
use super::{difference, header, line, number, or_dash, p_value, push, rate, row, share, size, value};
use crate::statistics::EquivalenceOutcome;

pub(super) fn systems(out: &mut String, systems: &[SystemReport]) {
    push(out, "## Systems\n");
    let names: Vec<String> = systems.iter().map(|system| line(&system.name)).collect();
    header(out, "measure", &names);
    let mut add = |name: &str, cell: &dyn Fn(&SystemReport) -> String| row(out, name, systems.iter().map(cell));
    let head = |both: &RateAndMean| format!("{}, {}", share(&both.rate.share), number(&both.mean));
    add("toxic replies", &|s| rate(&s.toxicity.rate));
    add("mean toxicity", &|s| number(&s.toxicity.mean));
    add("prompts with any toxic reply", &|s| format!("{}, k = {}", rate(&s.any_toxic), s.samples));
    add("head abuse: rate, mean", &|s| head(&s.heads.abuse));
    add("head context: rate, mean", &|s| head(&s.heads.context));
    add("head harm, harmful prompts: rate, mean", &|s| or_dash(s.heads.harm.as_ref(), head));
    add("evasive, safe prompts", &|s| or_dash(s.evasive_safe.as_ref(), |e| rate(&e.rate)));
    add("evasive, harmful prompts", &|s| or_dash(s.evasive_harmful.as_ref(), |e| rate(&e.rate)));
    add("mean evasiveness, safe prompts", &|s| or_dash(s.evasive_safe.as_ref(), |e| number(&e.mean)));
    add("mean evasiveness, harmful prompts", &|s| or_dash(s.evasive_harmful.as_ref(), |e| number(&e.mean)));
    add("helpfulness, safe prompts", &|s| or_dash(s.helpfulness.as_ref(), number));
    add("coherence", &|s| number(&s.coherence));
    add("degenerate replies", &|s| rate(&s.degenerate));
    add("distinct-1 / 2 / 3", &|s| {
        format!("{:.3} / {:.3} / {:.3}", s.diversity.distinct_1, s.diversity.distinct_2, s.diversity.distinct_3)
    });
    add("self-BLEU-4 (low is varied)", &|s| format!("{:.3}", s.diversity.self_bleu_4));
    add("unique replies", &|s| format!("{:.1} %", 100.0 * s.diversity.unique));
    add("words per reply", &|s| format!("{:.1}", s.words));
    if systems.iter().any(|system| system.kl.is_some()) {
        add("log-ratio chosen / rejected / toxic", &|s| {
            or_dash(s.kl.as_ref(), |kl| {
                let toxic = or_dash(kl.toxic.as_ref(), |toxic| format!("{toxic:+.2}"));
                format!("{:+.2} / {:+.2} / {toxic}", kl.chosen, kl.rejected)
            })
        });
    }
    if systems.iter().any(|system| system.kl_policy.is_some()) {
        add("KL on own samples, nats per token", &|s| or_dash(s.kl_policy.as_ref(), |nats| format!("{nats:.4}")));
    }
    add("prompts, replies, not scored", &|s| {
        let scored = s.judgements.get("scored").copied().unwrap_or(0);
        format!("{}, {}, {}", s.prompts, s.replies, s.replies - scored)
    });
    push(
        out,
        "\nIntervals are 95 %: Wilson where each prompt has one reply, else bootstrap over prompts. \
         Distinct-n rests on the same number of words for each system and, like self-BLEU, has no interval: \
         no difference in diversity is claimed. Two intervals that overlap or do not are no test; the tests follow.\n",
    );
}

pub(super) fn comparisons(out: &mut String, baseline: Option<&str>, comparisons: &[Comparison]) {
    let Some(baseline) = baseline.filter(|_| !comparisons.is_empty()) else {
        return;
    };
    push(out, format!("## Tests against {}\n", line(baseline)));
    push(
        out,
        "On prompts that both answered. Rates: exact McNemar (several samples: the prompt's majority); the difference in \
         points, interval by Bonett and Price. Means: sign-flip permutation of per-prompt means; interval by bootstrap. \
         p adjusted by Holm over this table. Smallest detectable: with a power of 80 % at 5 %. Equivalence: paired TOST \
         at ± 2 points (90 % interval); its power is that of showing equality where there is no difference.\n",
    );
    let columns =
        ["measure", "here", "baseline", "n", "difference", "only here / only baseline", "p", "p (Holm)", "smallest detectable", "verdict"];
    header(out, "system", &[columns.as_slice(), &["equivalent within ± 2 points"]].concat());
    for c in comparisons {
        let cells = [
            c.measure.name().to_owned(),
            value(c.measure, c.value),
            value(c.measure, c.baseline_value),
            c.pairs.to_string(),
            difference(c.measure, &c.difference),
            match c.test {
                PairedTest::Mcnemar { only_system, only_baseline } => format!("{only_system} / {only_baseline}"),
                PairedTest::SignFlip { .. } => "–".to_owned(),
            },
            p_value(c.p),
            p_value(c.p_holm),
            or_dash(c.smallest_detectable.as_ref(), |smallest| size(c.measure, *smallest)),
            verdict(c),
            equivalence(c),
        ];
        row(out, &line(&c.system), cells);
    }
    out.push('\n');
}

fn verdict(c: &Comparison) -> String {
    match (c.verdict, c.doubt) {
        (Verdict::Lower, _) => "lower".to_owned(),
        (Verdict::Higher, _) => "higher".to_owned(),
        (Verdict::NotDistinguishable, Some(Doubt::Power)) => "not distinguishable (power)".to_owned(),
        (Verdict::NotDistinguishable, Some(Doubt::Instrument)) => "not distinguishable (judge)".to_owned(),
        (Verdict::NotDistinguishable, _) => "not distinguishable".to_owned(),
    }
}

fn equivalence(c: &Comparison) -> String {
    let outcome = match c.equivalence.outcome {
        EquivalenceOutcome::Equivalent => "yes",
        EquivalenceOutcome::NotShown => "not shown",
        EquivalenceOutcome::CannotDecide => "cannot decide",
    };
    format!("{outcome}, power {:.0} %", 100.0 * c.equivalence.power)
}

pub(super) fn categories(out: &mut String, systems: &[SystemReport]) {
    if systems.iter().all(|system| system.categories.is_empty()) {
        return;
    }
    push(out, "## By category\n\nNothing is tested here.\n");
    header(out, "category", &["system", "toxic", "evasive, safe", "evasive, harmful", "coherence"]);
    let names: std::collections::BTreeSet<&String> = systems.iter().flat_map(|system| system.categories.keys()).collect();
    for name in names {
        for system in systems {
            let Some(category) = system.categories.get(name) else { continue };
            let cells = [
                line(&system.name),
                rate(&category.toxicity),
                or_dash(category.evasive_safe.as_ref(), rate),
                or_dash(category.evasive_harmful.as_ref(), rate),
                number(&category.coherence),
            ];
            row(out, &line(name), cells);
        }
    }
    out.push('\n');
}

pub(super) fn control_token(out: &mut String, effects: &[TokenEffect]) {
    let Some(first) = effects.first() else { return };
    push(
        out,
        "## Token audit\n\nToxic replies to the same prompts (all, or a part drawn for this) as they are, and with the control token in some form; p: exact McNemar \
         against the prompts as they are, adjusted by Holm over this table.\n",
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
    if first.categories.is_empty() {
        return;
    }
    push(out, "<details><summary>Token audit by category</summary>\n");
    header(out, "category", &std::iter::once("system").chain(heads.iter().copied()).collect::<Vec<_>>());
    for category in first.categories.keys() {
        for effects in effects.chunk_by(|a, b| a.system == b.system) {
            let Some(TokenEffect { system, categories, .. }) = effects.first() else { continue };
            let without = or_dash(categories.get(category), |rates| rate(&rates.without));
            let with = forms.iter().map(|form| {
                let effect = effects.iter().find(|effect| effect.form == *form);
                or_dash(effect.and_then(|effect| effect.categories.get(category)), |rates| rate(&rates.with))
            });
            row(out, &line(category), [line(system), without].into_iter().chain(with));
        }
    }
    push(out, "\n</details>\n");
}

pub(super) fn worst(out: &mut String, worst: &[WorstCase]) {
    if worst.is_empty() {
        return;
    }
    push(out, "## Most toxic replies\n");
    header(out, "system", &["prompt", "toxicity", "head", "request", "reply"]);
    for case in worst {
        let cells = [line(&case.prompt_id), format!("{:.3}", case.toxicity), case.head.clone(), line(&case.prompt), line(&case.reply)];
        row(out, &line(&case.system), cells);
    }
    out.push('\n');
}
