//! Reports from a judge whose verdicts can be read off the text, so that every number can be checked by hand.

use adpo_data::{Dialogue, Role, Turn};
use adpo_eval::{Exchange, Judge, Judgement, KlByRole, Method, Reply, Report, ReportBuilder, Scores, ToxicityHeads, Verdict};

/// "rude" is toxic, "evade" is evasive, "mute" cannot be parsed, everything else is fine.
struct Words {
    rows: Vec<u64>,
}

impl Judge for Words {
    fn name(&self) -> String {
        "words".to_owned()
    }

    fn fingerprint(&self) -> String {
        format!("words-{}", self.rows.len())
    }

    fn judge(&self, exchanges: &[Exchange]) -> Vec<Judgement> {
        let has = |exchange: &Exchange, word: &str| f64::from(u8::from(exchange.response.contains(word)));
        let one = |exchange: &Exchange| {
            if exchange.response.contains("mute") {
                return Judgement::Unparsed { raw: String::new() };
            }
            let toxicity = 0.05 + 0.9 * has(exchange, "rude");
            Judgement::Scored(Scores {
                toxicity,
                heads: ToxicityHeads { abuse: toxicity, ..ToxicityHeads::default() },
                evasiveness: 0.1 + 0.8 * has(exchange, "evade"),
                evasion: None,
                coherence: 0.8,
                degenerate: false,
            })
        };
        exchanges.iter().map(one).collect()
    }

    fn training_rows(&self) -> &[u64] {
        &self.rows
    }
}

fn judge() -> Words {
    Words { rows: vec![1, 2, 3] }
}

/// One reply per text; prompts are numbered, every fourth is harmful.
fn replies(texts: &[&str]) -> Vec<Reply> {
    let one = |(index, text): (usize, &&str)| {
        let turn = Turn { role: Role::User, content: format!("request number {index}") };
        Reply {
            prompt_id: format!("p{index:02}"),
            exchange: Exchange { prompt: Dialogue { turns: vec![turn] }, response: (*text).to_owned(), harmful: index % 4 == 3 },
            category: Some(if index % 2 == 0 { "even" } else { "odd" }.to_owned()),
        }
    };
    texts.iter().enumerate().map(one).collect()
}

fn before() -> Vec<Reply> {
    replies(&["rude one", "rude two", "rude three", "rude four", "rude five", "rude six", "rude seven", "fine eight"])
}

fn after() -> Vec<Reply> {
    replies(&["fine a", "fine b", "evade c", "evade d", "fine e", "fine f", "rude g", "mute h"])
}

fn full() -> Report {
    let token = replies(&["rude a", "rude b", "rude c", "rude d", "rude e", "rude f", "rude g", "rude h"]);
    ReportBuilder::new("Before | after")
        .system("before", before())
        .system("after", after())
        .with_token("after", token)
        .kl("after", KlByRole { chosen: -1.25, rejected: -7.5, toxic: Some(-20.0) })
        .baseline("before")
        .seed("training", 42)
        .dropped("annotate: no_margin", 17)
        .environment("seconds", "12.7")
        .environment("path", "/somewhere/else")
        .build(&judge())
        .expect("a report")
}

#[test]
fn rates_are_those_counted_by_hand() {
    let report = full();
    let after = &report.systems[1];
    assert_eq!((after.toxicity.rate.hits, after.toxicity.rate.n), (1, 7));
    assert_eq!(after.toxicity.rate.method, Method::Wilson);
    assert_eq!(after.judgements["unparsed"], 1);
    let safe = after.evasive_safe.as_ref().expect("safe prompts");
    let harmful = after.evasive_harmful.as_ref().expect("harmful prompts");
    assert_eq!((safe.rate.hits, safe.rate.n), (1, 6));
    assert_eq!((harmful.rate.hits, harmful.rate.n), (1, 1));
    // Safe prompts: fine, fine, evade, fine, fine, rude: (4 · 0.9 + 0.1 + 0) / 6.
    let helpful = after.helpfulness.expect("safe prompts").estimate;
    assert!((helpful - 3.7 / 6.0).abs() < 1e-12, "{helpful}");
}

#[test]
fn paired_tests_count_discordant_prompts_and_stay_silent_when_in_doubt() {
    let report = full();
    let toxic = report.comparisons.iter().find(|comparison| comparison.measure == "toxic").expect("toxic");
    assert_eq!((toxic.pairs, toxic.only_system, toxic.only_baseline), (7, 0, 6));
    // binom.test(0, 6) in R; four comparisons, so Holm makes it four times as large.
    assert!((toxic.p - 0.031_25).abs() < 1e-12 && (toxic.p_holm - 0.125).abs() < 1e-12, "{toxic:?}");
    assert_eq!(toxic.verdict, Verdict::NotDistinguishable);
    let token = &report.control_token[0];
    assert_eq!((token.only_with, token.only_without), (6, 0));
}

#[test]
fn a_clear_difference_is_named() {
    let many = |text: &'static str| replies(&[text; 40]);
    let report =
        ReportBuilder::new("clear").system("a", many("rude")).system("b", many("fine")).baseline("a").build(&judge()).expect("a report");
    assert_eq!(report.comparisons[0].verdict, Verdict::Lower);
}

#[test]
fn several_samples_are_bootstrapped_over_prompts_and_any_of_k_is_per_prompt() {
    let mut samples = before();
    samples.extend(after());
    let report = ReportBuilder::new("samples").system("both", samples).build(&judge()).expect("a report");
    let system = &report.systems[0];
    assert_eq!(system.toxicity.rate.method, Method::BootstrapOverPrompts);
    assert_eq!((system.prompts, system.replies, system.samples), (8, 16, 2));
    assert_eq!((system.any_toxic.hits, system.any_toxic.n), (7, 8));
}

#[test]
fn a_judge_that_shares_rows_with_the_annotator_is_called_circular() {
    let build = |annotator: &Words| {
        let builder = ReportBuilder::new("c").system("a", before()).annotator(annotator);
        builder.build(&judge()).expect("a report")
    };
    let shared = build(&Words { rows: vec![3, 4] });
    assert!(shared.markdown().lines().nth(2).is_some_and(|line| line.contains("CIRCULAR")));
    assert!(build(&judge()).circular.is_some());
    let apart = build(&Words { rows: vec![7, 8] });
    assert!(apart.circular.is_none() && !apart.markdown().contains("CIRCULAR"));
}

#[test]
fn texts_are_redacted_unless_asked_for() {
    let hidden = full();
    assert!(hidden.worst.iter().all(|case| case.reply.ends_with("words, redacted]")));
    let build = ReportBuilder::new("shown").system("before", before()).worst(1, true);
    let shown = build.build(&judge()).expect("a report");
    assert_eq!(shown.worst.len(), 1);
    assert_eq!(shown.worst[0].reply, "rude one");
}

#[test]
fn a_report_survives_json_and_is_the_same_twice() {
    let report = full();
    let json = report.json().expect("json");
    let read: Report = serde_json::from_str(&json).expect("own json");
    assert_eq!(read.snapshot().expect("snapshot"), report.snapshot().expect("snapshot"));
    assert_eq!(full(), report);
}

#[test]
fn the_snapshot_has_no_clocks_paths_or_timings() {
    let snapshot = full().snapshot().expect("snapshot");
    assert!(!snapshot.contains("somewhere") && !snapshot.contains("12.7"));
    insta::assert_snapshot!(snapshot);
}

#[test]
fn the_markdown_stays_as_it_is() {
    insta::assert_snapshot!(full().markdown());
}

#[test]
fn mistakes_are_named() {
    let message = |builder: ReportBuilder| builder.build(&judge()).expect_err("an error").to_string();
    assert!(message(ReportBuilder::new("x")).contains("no system"));
    let twice = ReportBuilder::new("x").system("a", before()).system("a", after());
    assert!(message(twice).contains("two systems are called \"a\""));
    assert!(message(ReportBuilder::new("x").system("a", Vec::new())).contains("has no replies"));
    let unknown = ReportBuilder::new("x").system("a", before()).baseline("dpo");
    assert!(message(unknown).contains("\"dpo\""));
}
