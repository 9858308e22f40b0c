use std::fmt::Write as _;

use super::{Comparison, JudgeInfo, Rate, Report, SystemReport, Verdict};
use crate::statistics::Interval;

impl Report {
    /// The report for people.
    pub fn markdown(&self) -> String {
        let mut out = format!("# {}\n\n", line(&self.title));
        if let Some(reason) = &self.circular {
            push(&mut out, format!("> **CIRCULAR**: {reason}.\n"));
        }
        systems(&mut out, &self.systems);
        categories(&mut out, &self.systems);
        comparisons(&mut out, self.baseline.as_deref(), &self.comparisons);
        control_token(&mut out, self);
        worst(&mut out, self);
        provenance(&mut out, self);
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

fn header(out: &mut String, first: &str, names: &[String]) {
    row(out, first, names.iter().cloned());
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

fn systems(out: &mut String, systems: &[SystemReport]) {
    let names: Vec<String> = systems.iter().map(|system| line(&system.name)).collect();
    header(out, "measure", &names);
    let mut add = |name: &str, cell: &dyn Fn(&SystemReport) -> String| row(out, name, systems.iter().map(cell));
    add("toxic replies", &|s| rate(&s.toxicity.rate));
    add("mean toxicity", &|s| number(&s.toxicity.mean));
    add("prompts with any toxic reply", &|s| format!("{}, k = {}", rate(&s.any_toxic), s.samples));
    add("heads: abuse / context / harm", &|s| format!("{:.3} / {:.3} / {:.3}", s.heads.abuse, s.heads.context, s.heads.harm));
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
                let toxic = kl.toxic.map_or_else(|| "–".to_owned(), |toxic| format!("{toxic:+.2}"));
                format!("{:+.2} / {:+.2} / {toxic}", kl.chosen, kl.rejected)
            })
        });
    }
    add("prompts, replies, not scored", &|s| {
        let scored = s.judgements.get("scored").copied().unwrap_or(0);
        format!("{}, {}, {}", s.prompts, s.replies, s.replies - scored)
    });
    push(
        out,
        "\nIntervals are 95 %: Wilson where each prompt has one reply, else bootstrap over prompts. \
         Distinct-n rests on the same number of words for each system.\n",
    );
}

fn categories(out: &mut String, systems: &[SystemReport]) {
    if systems.iter().all(|system| system.categories.is_empty()) {
        return;
    }
    push(out, "## By category\n");
    let columns = ["system", "toxic", "evasive", "coherence"].map(str::to_owned);
    header(out, "category", &columns);
    for system in systems {
        for (name, category) in &system.categories {
            let cells = [line(&system.name), rate(&category.toxicity), rate(&category.evasiveness), format!("{:.3}", category.coherence)];
            row(out, &line(name), cells);
        }
    }
    out.push('\n');
}

fn comparisons(out: &mut String, baseline: Option<&str>, comparisons: &[Comparison]) {
    let Some(baseline) = baseline.filter(|_| !comparisons.is_empty()) else {
        return;
    };
    push(out, format!("## Against {}\n", line(baseline)));
    push(
        out,
        "Exact McNemar on prompts that both answered (several samples: the majority), p adjusted by Holm over this \
         table.\n",
    );
    let columns = ["measure", "here", "baseline", "only here / only baseline", "p", "p (Holm)", "verdict"];
    header(out, "system", &columns.map(str::to_owned));
    for c in comparisons {
        let verdict = match c.verdict {
            Verdict::Lower => "lower".to_owned(),
            Verdict::Higher => "higher".to_owned(),
            Verdict::NotDistinguishable => format!("not distinguishable at n = {}", c.pairs),
        };
        let cells = [
            c.measure.clone(),
            format!("{:.1} %", 100.0 * c.rate),
            format!("{:.1} %", 100.0 * c.baseline_rate),
            format!("{} / {}", c.only_system, c.only_baseline),
            p_value(c.p),
            p_value(c.p_holm),
            verdict,
        ];
        row(out, &line(&c.system), cells);
    }
    out.push('\n');
}

fn p_value(p: f64) -> String {
    if p < 1e-4 { "< 0.0001".to_owned() } else { format!("{p:.4}") }
}

fn control_token(out: &mut String, report: &Report) {
    if report.control_token.is_empty() {
        return;
    }
    push(out, "## Control token\n\nToxic replies to the same prompts without and with the token.\n");
    let columns = ["without", "with", "toxic only with / only without", "p"].map(str::to_owned);
    header(out, "system", &columns);
    for effect in &report.control_token {
        let cells =
            [rate(&effect.without), rate(&effect.with), format!("{} / {}", effect.only_with, effect.only_without), p_value(effect.p)];
        row(out, &line(&effect.system), cells);
    }
    out.push('\n');
}

fn worst(out: &mut String, report: &Report) {
    if report.worst.is_empty() {
        return;
    }
    push(out, "## Most toxic replies\n");
    header(out, "system", &["prompt", "toxicity", "head", "request", "reply"].map(str::to_owned));
    for case in &report.worst {
        let cells = [line(&case.prompt_id), format!("{:.3}", case.toxicity), case.head.clone(), line(&case.prompt), line(&case.reply)];
        row(out, &line(&case.system), cells);
    }
    out.push('\n');
}

fn provenance(out: &mut String, report: &Report) {
    push(out, "## Instruments\n");
    describe(out, "Evaluator", &report.judge);
    if let Some(annotator) = &report.annotator {
        describe(out, "Annotator", annotator);
    }
    if !report.judge.agreement.is_empty() {
        push(out, "\nAgreement of the evaluator with labels on rows that it never saw:\n");
        let columns = ["data", "rows", "prompts", "AUC", "accuracy", "kappa", "sensitivity", "specificity"];
        header(out, "measure", &columns.map(str::to_owned));
        for a in &report.judge.agreement {
            let intervals = [&a.auc, &a.accuracy, &a.kappa, &a.sensitivity, &a.specificity];
            let counts = [line(&a.data), a.rows.to_string(), a.prompts.to_string()];
            row(out, &line(&a.measure), counts.into_iter().chain(intervals.map(number)));
        }
    }
    let list = |name: &str, text: String| {
        if text.is_empty() { String::new() } else { format!("\n{name}: {text}.\n") }
    };
    let seeds: Vec<String> = report.seeds.iter().map(|(name, seed)| format!("{} {seed}", line(name))).collect();
    let dropped: Vec<String> = report.dropped.iter().map(|(why, n)| format!("{} {n}", line(why))).collect();
    let run: Vec<String> = report.environment.iter().map(|(k, v)| format!("{} {}", line(k), line(v))).collect();
    out.push_str(&list("Seeds", seeds.join(", ")));
    out.push_str(&list("Dropped rows", dropped.join(", ")));
    out.push_str(&list("Run", run.join(", ")));
}

fn describe(out: &mut String, role: &str, judge: &JudgeInfo) {
    push(
        out,
        format!(
            "- {role}: {}, fingerprint `{}`, toxic from {:.3}, evasive from {:.3} on.",
            line(&judge.name),
            judge.fingerprint,
            judge.thresholds.toxicity,
            judge.thresholds.evasiveness
        ),
    );
}
