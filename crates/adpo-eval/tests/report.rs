//! Reports from a judge whose verdicts can be read off the text, so that every number can be checked by hand.

use adpo_data::{Dialogue, Prompt, Row};
use adpo_eval::statistics::EquivalenceOutcome;
use adpo_eval::{
    Agreement, Comparison, Doubt, Exchange, Interval, Judge, Judgement, KlByRole, Measure, Method, OverSeeds, PairedTest, Report,
    ReportBuilder, Response, SCHEMA, Scores, TokenForm, ToxicityHeads, Verdict,
};

/// "rude" is toxic, "evade" is evasive, "mute" cannot be parsed, everything else is fine.
struct Words {
    rows: Vec<u64>,
    agreement: Vec<Agreement>,
}

impl Judge for Words {
    fn name(&self) -> String {
        "words".to_owned()
    }

    fn fingerprint(&self) -> String {
        format!("words-{}", self.rows.len())
    }

    fn judge(&self, exchanges: &[Exchange<'_>]) -> Vec<Judgement> {
        let has = |exchange: &Exchange<'_>, word: &str| f64::from(u8::from(exchange.response.contains(word)));
        let one = |exchange: &Exchange<'_>| {
            if exchange.response.contains("mute") {
                return Judgement::Unparsed { raw: String::new() };
            }
            let toxicity = 0.05 + 0.9 * has(exchange, "rude") + 2.0 * has(exchange, "mad");
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

    fn agreement(&self) -> Vec<Agreement> {
        self.agreement.clone()
    }
}

fn judge() -> Words {
    trained_on(vec![1, 2, 3])
}

fn trained_on(rows: Vec<u64>) -> Words {
    Words { rows, agreement: Vec::new() }
}

/// A judge that was measured: sensitivity and specificity on labelled sets.
fn measured(sets: &[(&str, &str, f64, f64)]) -> Words {
    let at = |estimate: f64| Interval { estimate, low: estimate - 0.02, high: estimate + 0.02 };
    let figure = |&(measure, data, sensitivity, specificity): &(&str, &str, f64, f64)| Agreement {
        judge: "words".to_owned(),
        measure: measure.to_owned(),
        data: data.to_owned(),
        rows: 400,
        prompts: 400,
        auc: at(f64::midpoint(sensitivity, specificity)),
        accuracy: at(0.8),
        kappa: at(0.6),
        macro_f1: at(0.8),
        sensitivity: at(sensitivity),
        specificity: at(specificity),
        threshold: 0.5,
    };
    Words { rows: vec![1, 2, 3], agreement: sets.iter().map(figure).collect() }
}

fn find<'a>(report: &'a Report, system: &str, measure: Measure) -> &'a Comparison {
    report.comparisons.iter().find(|c| c.system == system && c.measure == measure).expect("a comparison")
}

/// One response per text; prompts are numbered, every fourth is harmful.
fn responses(texts: &[&str]) -> Vec<Response> {
    let one = |(index, text): (usize, &&str)| {
        let value = Prompt {
            dialogue: Dialogue::from_user(format!("request number {index}")),
            harmful: Some(index % 4 == 3),
            category: Some(if index % 2 == 0 { "even" } else { "odd" }.to_owned()),
            reference: None,
        };
        let prompt = Row { id: format!("p{index:02}"), source: String::new(), licence: None, value };
        Response { prompt: prompt.into(), text: (*text).to_owned() }
    };
    texts.iter().enumerate().map(one).collect()
}

fn before() -> Vec<Response> {
    responses(&["rude one", "rude two", "rude three", "rude four", "rude five", "rude six", "rude seven", "fine eight"])
}

fn after() -> Vec<Response> {
    responses(&["fine a", "fine b", "evade c", "evade d", "fine e", "fine f", "rude g", "mute h"])
}

fn full() -> Report {
    let token = responses(&["rude a", "rude b", "rude c", "rude d", "rude e", "rude f", "rude g", "rude h"]);
    ReportBuilder::new("Before | after")
        .system("before", before())
        .system("after", after())
        .with_token("after", TokenForm::Control, token)
        .kl("after", KlByRole { chosen: -1.25, rejected: -7.5, toxic: Some(-20.0) })
        .kl_policy("after", 0.031)
        .baseline("before")
        .seed("training", 42)
        .dropped("annotate: no_margin", 17)
        .environment("seconds", "12.7")
        .environment("path", "/somewhere/else")
        .build(&measured(&[
            ("toxicity", "Set A", 0.9, 0.95),
            ("toxicity", "Set B", 0.6, 0.85),
            ("evasiveness", "Set A", 0.9, 0.9),
            ("evasiveness", "Set A, model one", 0.95, 0.9),
            ("evasiveness", "Set A, model two", 0.85, 0.9),
        ]))
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
    // Safe prompts: fine, fine, evade, fine, fine, rude.
    let helpful = after.helpful.expect("safe prompts");
    assert_eq!((helpful.hits, helpful.n), (4, 6));
}

#[test]
fn paired_tests_count_discordant_prompts_and_stay_silent_when_in_doubt() {
    let report = full();
    let toxic = find(&report, "after", Measure::Toxic);
    assert_eq!((toxic.pairs, toxic.test), (7, PairedTest::Mcnemar { only_system: 0, only_baseline: 6 }));
    // binom.test(0, 6) in R; it shares the smallest p of seven comparisons, so Holm makes it seven times as large.
    assert!((toxic.p - 0.031_25).abs() < 1e-12 && (toxic.p_holm - 7.0 * 0.031_25).abs() < 1e-12, "{toxic:?}");
    assert_eq!((toxic.verdict, toxic.doubt), (Verdict::NotDistinguishable, Some(Doubt::Test)));
    assert_eq!(toxic.equivalence.outcome, EquivalenceOutcome::CannotDecide);
    assert_eq!(find(&report, "after", Measure::Coherence).test, PairedTest::SignFlip { exact: true });
    let token = &report.control_token[0];
    assert_eq!((token.only_with, token.only_without), (6, 0));
}

/// 40 rude responses against 40 fine ones.
fn clear(judge: &Words) -> Report {
    let many = |text: &'static str| responses(&[text; 40]);
    ReportBuilder::new("clear").system("a", many("rude")).system("b", many("fine")).baseline("a").build(judge).expect("a report")
}

#[test]
fn a_clear_difference_is_named_with_the_bias_that_it_can_bear() {
    let report = clear(&judge());
    let toxic = find(&report, "b", Measure::Toxic);
    assert_eq!((toxic.verdict, toxic.doubt), (Verdict::Lower, None));
    assert!(toxic.bias_allowed.is_some_and(|allowed| allowed > 0.8 && allowed < 1.0), "{toxic:?}");
    let text = report.markdown().replace('\n', " ");
    assert!(text.contains(
        "Against a (100.0 % toxic responses): **toxic responses lower** in b (0.0 %); **helpful responses to safe prompts higher** in b"
    ));
    assert!(text.contains("distinguishable only if the judge's bias between the two systems is below"), "{text}");
}

#[test]
fn no_winner_is_named_where_the_judge_is_no_better_than_a_coin_or_is_as_biased_as_the_difference() {
    let blind = clear(&measured(&[("toxicity", "Set A", 0.5, 0.51)]));
    assert_eq!(find(&blind, "b", Measure::Toxic).doubt, Some(Doubt::Instrument));
    assert!(blind.markdown().contains("the judge is not shown to be better than a coin"));
    let biased = clear(&measured(&[("toxicity", "Set A, one", 0.95, 0.98), ("toxicity", "Set A, two", 0.95, 0.05)]));
    let toxic = find(&biased, "b", Measure::Toxic);
    // At a rate of one half: .475 + .01 against .475 + .475.
    assert!(toxic.bias_measured.as_ref().is_some_and(|bias| (bias.bias - 0.465).abs() < 1e-12), "{toxic:?}");
    assert_eq!(toxic.verdict, Verdict::Lower);
    let small = |report: &Report| find(report, "b", Measure::Toxic).doubt;
    let some_rude: Vec<&str> = (0..60).map(|i| if i % 3 == 0 { "rude" } else { "fine" }).collect();
    let build = |judge: &Words| {
        let builder = ReportBuilder::new("x").system("a", responses(&some_rude)).system("b", responses(&["fine"; 60])).baseline("a");
        builder.build(judge).expect("a report")
    };
    assert_eq!(small(&build(&judge())), None);
    assert_eq!(
        small(&build(&measured(&[("toxicity", "Set A, one", 0.95, 0.98), ("toxicity", "Set A, two", 0.95, 0.6)]))),
        Some(Doubt::Instrument)
    );
}

#[test]
fn equality_is_claimed_only_with_enough_prompts() {
    let outcome = |n: usize| {
        let same = responses(&vec!["fine"; n]);
        let report = ReportBuilder::new("x").system("a", same.clone()).system("b", same).baseline("a").build(&judge()).expect("a report");
        find(&report, "b", Measure::Toxic).equivalence.outcome
    };
    assert_eq!(outcome(100), EquivalenceOutcome::CannotDecide);
    assert_eq!(outcome(400), EquivalenceOutcome::Equivalent);
}

#[test]
fn rates_are_corrected_for_each_labelled_set_as_by_hand() {
    let report = full();
    let corrected: Vec<_> = report.systems[1].corrected.iter().filter(|c| c.measure == Measure::Toxic).collect();
    // (1/7 + .95 − 1) / (.9 + .95 − 1); on the other set the rate is below the false positives alone.
    let of = |i: usize| corrected[i].rate.map(|rate| rate.estimate).expect("a rate");
    assert!((of(0) - (1.0 / 7.0 - 0.05) / 0.85).abs() < 1e-12 && of(1) == 0.0, "{corrected:?}");
}

#[test]
fn prompts_that_the_judge_was_trained_on_are_counted_and_said() {
    use sha2::{Digest, Sha256};
    // As the embedded judges hash their rows: lower case, single spaces, the first eight bytes of a SHA-256.
    let hash = |text: &str| Sha256::digest(text.as_bytes())[..8].iter().fold(0_u64, |hash, &byte| hash << 8 | u64::from(byte));
    let mut rows = vec![hash("request number 2"), hash("request number 5"), hash("never asked")];
    rows.sort_unstable();
    let report = ReportBuilder::new("x").system("a", before()).build(&trained_on(rows)).expect("a report");
    assert_eq!(report.prompts_seen_by_judge, 2);
    assert!(report.markdown().contains("trained on 2 of these prompts"));
    assert_eq!(full().prompts_seen_by_judge, 0);
}

#[test]
fn what_makes_responses_hard_to_compare_is_noted() {
    let notes = full().notes.join("\n");
    assert!(notes.contains("1 of 8 responses of after count nowhere: 1 unparsed"), "{notes}");
    let mut twice = responses(&["fine"; 3]);
    twice.extend(responses(&["fine"; 3]));
    let report =
        ReportBuilder::new("x").system("a", responses(&["fine"; 2])).system("b", twice).baseline("a").build(&judge()).expect("a report");
    let notes = report.notes.join("\n");
    assert!(notes.contains("different numbers of responses") && notes.contains("b answered 3 prompts and a 2"), "{notes}");
    assert!(notes.contains("no prompt is marked harmful"), "{notes}");
}

/// One run of a recipe: of 40 prompts the baseline is rude to 30, the system to `rude`.
fn run(rude: usize) -> (Report, adpo_eval::Outcomes) {
    let responses = |rude: usize| responses(&(0..40).map(|i| if i < rude { "rude" } else { "fine" }).collect::<Vec<_>>());
    let builder = ReportBuilder::new("run").system("base", responses(30)).system("new", responses(rude)).baseline("base");
    let evaluation = builder.evaluate(&judge()).expect("a report");
    (evaluation.report, evaluation.outcomes)
}

#[test]
fn every_seed_is_shown_and_five_have_an_interval_that_is_wider_than_that_of_one() {
    let runs: Vec<_> = [4, 6, 8, 5, 7].map(run).into_iter().collect();
    let over = |n: usize| {
        let runs: Vec<_> = (1..).zip(&runs[..n]).map(|(seed, (report, outcomes))| (seed, report, outcomes)).collect();
        OverSeeds::new(&runs)
    };
    let few = over(4);
    let toxic = |over: &OverSeeds| over.differences.iter().find(|d| d.values.measure == Measure::Toxic).expect("toxic").clone();
    assert_eq!(toxic(&few).values.each, [-0.65, -0.6, -0.55, -0.625]);
    assert_eq!((toxic(&few).values.interval, toxic(&few).doubt), (None, Some(Doubt::Seeds)));
    assert!(few.markdown().replace('\n', " ").contains("no interval is computed over them and no winner named"));
    let five = over(5);
    let interval = toxic(&five).values.interval.expect("five seeds");
    assert!((interval.estimate + 0.6).abs() < 1e-12 && interval.low < -0.7 && interval.high > -0.5, "{interval:?}");
    assert_eq!(toxic(&five).verdict, Verdict::Lower);
    assert_eq!(five.values.iter().filter(|v| v.measure == Measure::Toxic).map(|v| v.each.len()).collect::<Vec<_>>(), [5, 5]);
    insta::assert_snapshot!(five.markdown());
}

#[test]
fn several_samples_are_bootstrapped_over_prompts_and_any_of_k_is_per_prompt() {
    let mut samples = before();
    samples.extend(after());
    let report = ReportBuilder::new("samples").system("both", samples).build(&judge()).expect("a report");
    let system = &report.systems[0];
    assert_eq!(system.toxicity.rate.method, Method::BootstrapOverPrompts);
    assert_eq!((system.prompts, system.responses, system.samples), (8, 16, 2));
    assert_eq!((system.any_toxic.hits, system.any_toxic.n), (7, 8));
    // Never degenerate in eight prompts is as little known with two samples each as with one; one response has no score.
    assert_eq!((system.degenerate.hits, system.degenerate.n, system.degenerate.method), (0, 15, Method::Wilson));
    assert!((system.degenerate.share.high - 0.324_4).abs() < 1e-4, "{system:?}");
}

/// A second judge: as [`Words`], and offended by responses that end in `f`.
struct Touchy(Words);

impl Judge for Touchy {
    fn name(&self) -> String {
        "touchy".to_owned()
    }

    fn fingerprint(&self) -> String {
        "touchy".to_owned()
    }

    fn judge(&self, exchanges: &[Exchange<'_>]) -> Vec<Judgement> {
        let offended = |(exchange, judgement): (&Exchange<'_>, Judgement)| match judgement {
            Judgement::Scored(scores) if exchange.response.ends_with('f') => Judgement::Scored(Scores { toxicity: 0.9, ..scores }),
            other => other,
        };
        exchanges.iter().zip(self.0.judge(exchanges)).map(offended).collect()
    }

    fn training_rows(&self) -> &[u64] {
        self.0.training_rows()
    }
}

#[test]
fn a_second_judge_stands_beside_the_first_and_its_differing_verdicts_bound_the_claims() {
    let touchy = Touchy(trained_on(vec![3, 4]));
    let builder = ReportBuilder::new("two").system("before", before()).system("after", after()).second_judge(&touchy);
    let report = builder.build(&judge()).expect("a report");
    let second = report.second_judge.as_ref().expect("a second judge");
    assert_eq!((second.judge.name.as_str(), second.shared_rows), ("touchy", 1));
    let toxic: Vec<[usize; 2]> = report.systems.iter().zip(&second.systems).map(|(a, b)| [a.toxicity.rate.hits, b.toxic.hits]).collect();
    assert_eq!(toxic, [[7, 7], [1, 2]]);
    let [toxic, evasive, coherent] = &second.agreement[..] else { panic!("three verdicts: {second:?}") };
    // One response has no score, one of fifteen is judged otherwise: agreement 14/15, by chance (8·9 + 7·6)/15².
    assert_eq!((toxic.differ.hits, toxic.differ.n, toxic.only_first), (1, 15, 0));
    let (agree, chance) = (14.0 / 15.0, (8.0 * 9.0 + 7.0 * 6.0) / 225.0);
    assert!(toxic.kappa.is_some_and(|kappa| (kappa - (agree - chance) / (1.0 - chance)).abs() < 1e-12), "{toxic:?}");
    assert_eq!((evasive.differ.hits, evasive.kappa), (0, Some(1.0)));
    assert_eq!((coherent.differ.hits, coherent.kappa), (0, None));
    let markdown = report.markdown().replace('\n', " ");
    assert!(markdown.contains("## Two judges") && markdown.contains("Training rows that both learnt from: 1;"), "{markdown}");
    assert!(markdown.contains("a difference below 6.7 points for toxic, or one that only one"), "{markdown}");
    assert!(!full().markdown().contains("Two judges"));
    let error = ReportBuilder::new("two").system("a", before()).second_judge(&judge()).build(&judge()).expect_err("one judge twice");
    assert!(error.to_string().contains("the second judge is words as well"), "{error}");
}

#[test]
fn a_judge_that_shares_rows_with_the_annotator_is_called_circular() {
    let build = |annotator: &Words| {
        let builder = ReportBuilder::new("c").system("a", before()).annotator(annotator);
        builder.build(&judge()).expect("a report")
    };
    let shared = build(&trained_on(vec![3, 4]));
    assert!(shared.markdown().lines().nth(2).is_some_and(|line| line.contains("CIRCULAR")));
    assert!(build(&judge()).circular.is_some());
    let apart = build(&trained_on(vec![7, 8]));
    assert!(apart.circular.is_none() && !apart.markdown().contains("CIRCULAR"));
}

#[test]
fn every_response_comes_back_with_its_scores_and_verdicts_and_as_json_with_the_keys_of_responses() {
    let builder = ReportBuilder::new("x").system("a", responses(&["rude", "mute", "fine", "evade"]));
    let samples = builder.with_token("a", TokenForm::Typed, responses(&["fine"])).evaluate(&judge()).expect("a report").samples;
    let verdicts: Vec<_> = samples.iter().map(|sample| sample.verdicts.map(|v| (v.toxic, v.evasive, v.coherent))).collect();
    let fine = Some((false, false, true));
    assert_eq!(verdicts, [Some((true, false, true)), None, fine, Some((false, true, true)), fine]);
    let lines: Vec<serde_json::Value> = samples.iter().map(|sample| serde_json::to_value(sample).expect("JSON")).collect();
    assert_eq!(
        lines[3],
        serde_json::json!({
            "prompt_id": "p03", "prompt": [{"role": "user", "content": "request number 3"}], "harmful": true, "category": "odd",
            "model": "a", "response": "evade", "toxic": false, "evasive": true, "coherent": true, "state": "scored", "toxicity": 0.05,
            "heads": {"abuse": 0.05, "context": 0.0, "harm": 0.0}, "evasiveness": 0.9, "coherence": 0.8, "degenerate": false
        })
    );
    assert_eq!((&lines[1]["state"], &lines[4]["control_token"]), (&"unparsed".into(), &"typed".into()));
    let read: Vec<adpo_eval::ScoredResponse> = lines.into_iter().map(|line| serde_json::from_value(line).expect("a sample")).collect();
    assert_eq!(read, samples);
}

#[test]
fn texts_are_redacted_unless_asked_for() {
    let hidden = full();
    assert!(hidden.worst.iter().all(|case| case.response.ends_with("words, redacted]")));
    let build = ReportBuilder::new("shown").system("before", before()).worst(1, true);
    let shown = build.build(&judge()).expect("a report");
    assert_eq!(shown.worst.len(), 1);
    assert_eq!(shown.worst[0].response, "rude one");
}

#[test]
fn a_report_survives_json_and_is_the_same_twice() {
    let report = full();
    let json = report.json().expect("json");
    let read: Report = serde_json::from_str(&json).expect("own json");
    assert_eq!(read.schema, SCHEMA);
    assert_eq!(read.snapshot(), report.snapshot());
    assert_eq!(full(), report);
}

#[test]
fn the_snapshot_has_a_line_a_measure_and_a_line_a_prompt() {
    let snapshot = full().snapshot();
    assert!(snapshot.lines().count() <= 40, "{snapshot}");
    insta::assert_snapshot!(snapshot);
}

#[test]
fn a_response_that_turns_toxic_changes_its_measure_and_its_prompt_in_the_snapshot_and_nothing_else() {
    let snapshot = |text| {
        let changed = responses(&["fine a", "fine b", text, "rude d"]);
        let builder = ReportBuilder::new("x").system("a", responses(&["fine"; 4])).system("b", changed).baseline("a");
        builder.build(&judge()).expect("a report").snapshot()
    };
    let (before, after) = (snapshot("fine c"), snapshot("rude, and in other words"));
    let changed: Vec<(&str, &str)> = before.lines().zip(after.lines()).filter(|(before, after)| before != after).collect();
    assert_eq!(changed, [("toxic: a 0; b 1", "toxic: a 0; b 2"), ("p02: a fine; b fine", "p02: a fine; b toxic")]);
    assert_eq!(before.lines().count(), after.lines().count());
}

#[test]
fn a_snapshot_counts_the_samples_of_a_prompt_and_shows_who_was_not_asked() {
    let twice: Vec<Response> = [responses(&["rude", "fine"]), responses(&["rude", "evade"])].concat();
    let report = ReportBuilder::new("x").system("a", twice).system("b\n|", responses(&["fine"])).build(&judge()).expect("a report");
    let prompts: Vec<String> = report.snapshot().lines().rev().take(2).map(str::to_owned).collect();
    assert_eq!(prompts, ["p01: a 1 evasive", "p00: a 2 toxic; b \\| fine"]);
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
    assert!(message(ReportBuilder::new("x").system("a", Vec::new())).contains("has no responses"));
    let unknown = ReportBuilder::new("x").system("a", before()).baseline("dpo");
    assert!(message(unknown).contains("\"dpo\""));
    assert!(message(ReportBuilder::new("x").system("a", before()).kl_policy("a", f64::NAN)).contains("NaN"));
    let mad = ReportBuilder::new("x").system("a", responses(&["mad"]));
    assert!(message(mad).contains("left [0, 1]"));
    let mute = ReportBuilder::new("x").system("a", before()).system("b", responses(&["mute", "mute"]));
    assert!(message(mute).contains("scored none of the 2 responses of \"b\" (unparsed)"));
}
