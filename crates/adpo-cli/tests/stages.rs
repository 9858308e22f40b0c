//! Recipes that leave stages out, and recipes that their data do not fit.

mod common;

use std::path::{Path, PathBuf};

use common::{adpo, base, edited, stderr, stdout, text, vocabulary, write_recipe};

/// Sixty triples; those whose number `bare` picks have no toxic response.
fn write_triples(folder: &Path, bare: fn(u32) -> bool) {
    let row = |i: u32| {
        let mut row = serde_json::json!({"prompt": format!("What about number {i}?"), "chosen": "It is fine.", "rejected": "No."});
        if !bare(i) {
            row["toxic"] = "Fool.".into();
        }
        row.to_string()
    };
    std::fs::write(folder.join("mine.jsonl"), (0..60).map(row).collect::<Vec<_>>().join("\n")).expect("writable");
}

/// A recipe that trains two policies on these triples, from a base without a control token.
fn write_own(folder: &Path, evaluate: &str) -> PathBuf {
    let base = base(folder);
    let recipe = format!(
        r#"
name = "own"
seeds = [1]
base = {{ checkpoint = '{}' }}
encoding = {{ max_length = 200 }}
[preference]
sources = [{{ id = "mine.jsonl", buckets = [0, 1, 2] }}]
train = {{ learning_rate = 1e-3, batch_size = 4 }}
[[policies]]
name = "adpo"
objective.adpo = {{}}
[[policies]]
name = "dpo"
objective.dpo = {{ beta = 0.3 }}
{evaluate}"#,
        base.display()
    );
    let path = folder.join("own.toml");
    std::fs::write(&path, recipe).expect("writable");
    path
}

const EVALUATE: &str = r#"
[evaluate]
sources = [{ id = "mine.jsonl", buckets = [5] }]
judge = "embedded"
draw = { max_new_tokens = 8 }
"#;

#[test]
fn without_sft_policies_start_from_the_base_and_no_token_is_added_or_audited() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_triples(folder.path(), |_| false);
    let (recipe, run_dir) = (write_own(folder.path(), EVALUATE), folder.path().join("run"));
    let output = adpo(&["run", text(&recipe), "--run-dir", text(&run_dir), "--data-dir", text(folder.path()), "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let report = &report["seeds"][0]["report"];
    let systems: Vec<&str> = report["systems"].as_array().expect("systems").iter().filter_map(|s| s["name"].as_str()).collect();
    assert_eq!((systems, &report["baseline"]), (vec!["base", "adpo", "dpo"], &"base".into()));
    assert_eq!(report["control_token"].as_array().map(Vec::len), Some(0));
    assert!(report["annotator"].is_null(), "no annotator made these triples: {}", report["annotator"]);
    let trained = run_dir.join("seed-1/policies/adpo/model");
    assert_eq!(vocabulary(&trained), vocabulary(&folder.path().join("base")));
    let manifest = std::fs::read_to_string(run_dir.join("seed-1/policies/adpo/manifest.json")).expect("readable");
    assert!(manifest.contains("\"base\"") && !run_dir.join("seed-1/sft").exists());
    assert!(stderr(&output).contains("are in buckets that no section uses (3)"), "{}", stderr(&output));
    // What was said is what `evaluate --responses` reads.
    let said = run_dir.join("seed-1/responses/adpo/responses.jsonl");
    let other = run_dir.join("seed-1/responses/dpo/responses.jsonl");
    let judged = adpo(&["evaluate", "--responses", text(&said), text(&other)]);
    assert!(judged.status.success() && stdout(&judged).contains("adpo"), "{}", stderr(&judged));
    let samples = std::fs::read_to_string(run_dir.join("seed-1/report/samples.jsonl")).expect("samples");
    assert_eq!(samples.lines().count(), 3 * std::fs::read_to_string(&said).expect("responses").lines().count());
}

#[test]
fn without_an_evaluation_training_ends_the_run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_triples(folder.path(), |_| false);
    let (recipe, run_dir) = (write_own(folder.path(), ""), folder.path().join("run"));
    let arguments = ["run", text(&recipe), "--run-dir", text(&run_dir), "--data-dir", text(folder.path()), "--json"];
    let output = adpo(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let manifests: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let stages: Vec<&str> = manifests.as_array().expect("a list").iter().filter_map(|m| m["stage"].as_str()).collect();
    assert_eq!(stages, ["preferences", "policies/adpo", "policies/dpo"]);
    let missing = adpo(&["run", text(&recipe), "--run-dir", text(&run_dir), "--data-dir", text(folder.path()), "--until", "evaluate"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("no stage `evaluate`; its stages are annotate, train"), "{}", stderr(&missing));
}

#[test]
fn rows_without_a_toxic_response_are_refused_before_anything_runs_and_by_the_plan() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_triples(folder.path(), |i| i % 7 == 0);
    let (recipe, run_dir) = (write_own(folder.path(), EVALUATE), folder.path().join("run"));
    let arguments = |command| [command, text(&recipe), "--run-dir", text(&run_dir), "--data-dir", text(folder.path())];
    for command in ["run", "plan"] {
        let output = adpo(&arguments(command));
        assert_eq!(output.status.code(), Some(1), "{command}");
        let message = stderr(&output);
        assert!(message.contains("mine.jsonl") && message.contains("has no toxic response") && message.contains("`adpo`"), "{message}");
    }
    assert!(!run_dir.join("seed-1/preferences").exists());
}

#[test]
fn a_source_without_rows_is_refused_before_anything_runs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recipe = write_recipe(folder.path());
    std::fs::write(folder.path().join("few.jsonl"), "{\"prompt\": \"Only one?\"}\n").expect("writable");
    let own = std::fs::read_to_string(&recipe).expect("readable");
    let own = own.replace("[{ id = \"embedded:dialogues\", buckets = [3], limit = 40 }]", "[{ id = \"few.jsonl\", buckets = [5] }]");
    std::fs::write(&recipe, own).expect("writable");
    let output = adpo(&["run", text(&recipe), "--run-dir", text(&folder.path().join("run")), "--data-dir", text(folder.path())]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("gives `evaluate.sources` no rows in buckets [5]"), "{}", stderr(&output));
    assert!(!folder.path().join("run/seed-1/sft").exists());
}

#[test]
fn rows_that_are_all_left_out_are_told_with_reason_first_row_and_fix_and_columns_not_read_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (recipe, run_dir) = (write_own(folder.path(), ""), folder.path().join("run"));
    let train = || adpo(&["train", text(&recipe), "--run-dir", text(&run_dir), "--data-dir", text(folder.path())]);
    let row =
        |i: usize, rejected: &str| format!(r#"{{"prompt": "Number {i}?", "chosen": "Yes.", "rejected": "{rejected}", "score": {i}}}"#);
    let write = |rejected: &str| {
        let rows: Vec<String> = (0..60).map(|i| row(i, rejected)).collect();
        std::fs::write(folder.path().join("mine.jsonl"), rows.join("\n")).expect("writable");
    };
    edited(&recipe, "[[policies]]\nname = \"adpo\"\nobjective.adpo = {}\n", "");
    write("Yes.");
    let message = stderr(&train());
    assert!(message.contains("all 60 were left out, 60 × chosen and rejected are the same; the first is row `mine.jsonl:1`"), "{message}");

    write("No, and for more reasons than there is room for here.");
    edited(&recipe, "encoding = { max_length = 200 }", "encoding = { max_length = 20 }");
    let message = stderr(&train());
    assert!(message.contains("note: `mine.jsonl`: columns that are not read: `score`"), "{message}");
    assert!(message.contains(" × longer than max_length; the first is row `mine.jsonl:"), "{message}");
    assert!(message.contains("`encoding.max_length` is 20; raise it"), "{message}");
}

#[test]
fn a_run_stops_after_the_stage_that_it_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (recipe, run_dir) = (write_recipe(folder.path()), folder.path().join("run"));
    let output = adpo(&["run", text(&recipe), "--run-dir", text(&run_dir), "--until", "sample"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let seed = run_dir.join("seed-1");
    assert!(seed.join("sample/candidates.jsonl").exists() && !seed.join("annotate").exists() && !seed.join("sample/parts").exists());
    // Candidates are responses: what was drawn with the token belongs to the token audit.
    let judged = adpo(&["evaluate", "--responses", text(&seed.join("sample/candidates.jsonl")), "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&judged.stdout).expect("JSON");
    assert_eq!(report["control_token"][0]["form"], "control");
}
