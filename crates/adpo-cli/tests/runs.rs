//! `adpo runs` and `adpo diff`, on run folders as `adpo run` leaves them.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{adpo, stderr, stdout, text, write_recipe};
use serde_json::Value;

fn json(arguments: &[&str]) -> Value {
    let output = adpo(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn refusal(arguments: &[&str]) -> String {
    let output = adpo(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    stderr(&output)
}

/// Whether each prompt's response is toxic, by the file of samples.
fn toxic(seed: &Path, system: &str) -> BTreeMap<String, bool> {
    let lines = std::fs::read_to_string(seed.join("report/samples.jsonl")).expect("readable");
    let samples = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let own = samples.filter(|sample| sample["model"] == system && sample["control_token"].is_null());
    own.map(|sample| (sample["prompt_id"].as_str().expect("an id").to_owned(), sample["toxic"] == true)).collect()
}

#[test]
fn runs_are_listed_and_any_two_of_their_policies_are_tested_against_each_other() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (recipe, runs) = (write_recipe(folder.path()), folder.path().join("runs"));
    let (one, two) = (runs.join("one"), runs.join("two"));
    for arguments in [["run", "--seeds", "1,2", "--run-dir", text(&one)], ["sft", "--seeds", "1", "--run-dir", text(&two)]] {
        let output = adpo(&[&arguments[..], &[text(&recipe)]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
    }

    let listed = json(&["runs", text(&runs), "--json"]);
    assert_eq!(listed[1]["seeds"], serde_json::json!([1, 2]), "{listed}");
    assert_eq!((&listed[1]["recipe"], &listed[1]["state"]["name"]), (&"smoke".into(), &"finished".into()));
    assert_eq!((&listed[0]["state"]["name"], &listed[0]["state"]["stage"]), (&"after".into(), &"seed-1/sft".into()));
    let table = stdout(&adpo(&["runs", text(&runs)]));
    assert!(table.lines().count() == 3 && table.contains("finished") && table.contains("sft ") && table.contains("adpo "), "{table}");
    assert!(refusal(&["runs", text(&folder.path().join("nowhere"))]).contains("adpo runs FOLDER"));

    // Two seeds, and what flipped by their samples.
    let name = |seed: &str, system: &str| format!("{}/{seed}:{system}", one.display());
    let (a, b) = (name("seed-1", "sft"), name("seed-2", "adpo"));
    let diff = json(&["diff", &a, &b, "--json"]);
    assert_eq!((&diff["a"], &diff["prompts"], &diff["only_a"]), (&a.into(), &40.into(), &0.into()));
    let (before, after) = (toxic(&one.join("seed-1"), "sft"), toxic(&one.join("seed-2"), "adpo"));
    let mut expected: Vec<(&str, bool)> = before.iter().filter(|(id, is)| after[*id] != **is).map(|(id, is)| (id.as_str(), !is)).collect();
    let flips = diff["flips"].as_array().expect("a list").iter().filter(|flip| flip["finding"] == "toxic");
    let mut flips: Vec<(&str, bool)> = flips.map(|flip| (flip["prompt_id"].as_str().expect("an id"), flip["in_b"] == true)).collect();
    flips.sort_unstable();
    expected.sort_unstable();
    assert_eq!(flips, expected);
    let count = |system: &BTreeMap<String, bool>| system.values().filter(|is| **is).count() as f64 / 40.0;
    let tested = &diff["comparisons"][0];
    assert_eq!(
        (&tested["measure"], tested["baseline_value"].as_f64(), tested["value"].as_f64()),
        (&"toxic".into(), Some(count(&before)), Some(count(&after)))
    );

    // As people would name them.
    let plain = stdout(&adpo(&["diff", &format!("{}:sft", one.display()), text(&one.join("seed-1/policies/adpo"))]));
    assert!(plain.contains("there are also seed-2") && plain.contains("toxic responses") && !plain.contains("    A "), "{plain}");
    let shown = stdout(&adpo(&["diff", &name("seed-1", "sft"), &name("seed-2", "both"), "--show"]));
    assert!(shown.contains("    A ") && shown.contains("    > "), "{shown}");

    // What cannot be compared.
    assert!(refusal(&["diff", text(&one), &name("seed-1", "sft")]).contains("name one of sft, adpo, both"));
    assert!(refusal(&["diff", &name("seed-1", "nobody"), &name("seed-1", "sft")]).contains("no system `nobody`"));
    assert!(refusal(&["diff", &name("seed-1", "sft"), &name("seed-1", "sft")]).contains("named twice"));
    assert!(refusal(&["diff", &name("seed-9", "sft"), &name("seed-1", "sft")]).contains("is no folder"));
    assert!(refusal(&["diff", &format!("{}:sft", two.display()), &name("seed-1", "sft")]).contains("at the end of a run"));
    let other = runs.join("other/seed-1/report");
    let copied = |from: &str, to: &str, of: &str| {
        std::fs::create_dir_all(&other).expect("created");
        for file in ["report.json", "outcomes.json", "samples.jsonl"] {
            let text = std::fs::read_to_string(one.join("seed-1/report").join(file)).expect("readable");
            assert!(file != of || text.contains(from), "{from}");
            std::fs::write(other.join(file), if file == of { text.replace(from, to) } else { text }).expect("written");
        }
        refusal(&["diff", &format!("{}:sft", runs.join("other").display()), &name("seed-1", "adpo")])
    };
    assert!(copied("\"fingerprint\": \"", "\"fingerprint\": \"other-", "report.json").contains("their verdicts cannot be compared"));
    assert!(copied("\"content\":\"", "\"content\":\"Not so: ", "samples.jsonl").contains("share no prompt (they answered 40 and 40)"));
    assert!(copied("\"state\":", "\"state", "samples.jsonl").contains("samples.jsonl"));
}
