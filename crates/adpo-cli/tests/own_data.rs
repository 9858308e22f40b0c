//! Training on files of one's own, without a recipe; and values that the command line puts into a recipe.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{adpo, base, stderr, stdout, text, vocabulary, write_recipe};
use serde_json::{Value, json};

fn write(file: &Path, rows: impl Iterator<Item = Value>) -> PathBuf {
    std::fs::write(file, rows.map(|row| row.to_string()).collect::<Vec<_>>().join("\n")).expect("writable");
    file.to_owned()
}

/// Thirty pairs as TRL has them.
fn pairs(folder: &Path) -> PathBuf {
    let row = |i| json!({"prompt": format!("What about number {i}?"), "chosen": "It is fine.", "rejected": "No, you fool."});
    write(&folder.join("pairs.jsonl"), (0..30).map(row))
}

/// Ten prompts, of which the pairs have two.
fn prompts(folder: &Path) -> PathBuf {
    write(&folder.join("prompts.jsonl"), (28..38).map(|i| json!({"prompt": format!("What about number {i}?")})))
}

#[test]
fn pairs_and_prompts_are_used_whole_and_the_recipe_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    let (model, pairs, prompts) = (base(at), pairs(at), prompts(at));
    let (run_dir, recipe, out) = (at.join("run"), at.join("own.toml"), at.join("final"));
    let own = ["dpo", "--model", text(&model), "--data", text(&pairs), "--eval", text(&prompts)];
    let options = ["--set", "num_train_epochs=1", "--set", "max_new_tokens=8", "--run-dir", text(&run_dir), "--json"];
    let kept = ["--save-recipe", text(&recipe), "--out", text(&out)];
    let output = adpo(&[&own[..], &options, &kept].concat());
    assert!(output.status.success(), "{}", stderr(&output));

    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let report = &report["seeds"][0]["report"];
    let systems: Vec<&str> = report["systems"].as_array().expect("systems").iter().filter_map(|system| system["name"].as_str()).collect();
    assert_eq!((systems, &report["baseline"]), (vec!["base", "dpo"], &"base".into()));
    assert_eq!(report["systems"][1]["responses"], 10, "{}", report["systems"][1]);
    let trained = std::fs::read_to_string(run_dir.join("seed-42/policies/dpo/manifest.json")).expect("readable");
    assert_eq!(serde_json::from_str::<Value>(&trained).expect("JSON")["counts"]["examples"], 30);
    assert!(stderr(&output).contains("2 of 10 held-out prompts are trained on as well"), "{}", stderr(&output));
    assert_eq!(vocabulary(&out), vocabulary(&model));

    // The recipe is told as it is saved, and the run that it asks for is the one that was made.
    let saved = std::fs::read_to_string(&recipe).expect("saved");
    assert!(stderr(&output).contains(&saved), "{}", stderr(&output));
    for line in ["name = \"dpo-pairs\"", "num_train_epochs = 1", "learning_rate = 0.000001", "max_new_tokens = 8", "objective.dpo]"] {
        assert!(saved.contains(line), "{line}: {saved}");
    }
    let again = adpo(&["run", text(&recipe), "--run-dir", text(&run_dir)]);
    assert!(
        again.status.success() && stderr(&again).contains("used again (seed 42): preferences, policies/dpo, responses/base"),
        "{}",
        stderr(&again)
    );

    // What is there is not written over, and that is found out before the training.
    let full = adpo(&[&own[..], &["--out", text(&out)]].concat());
    assert_eq!(full.status.code(), Some(1));
    assert!(stderr(&full).contains("is there and not empty"), "{}", stderr(&full));
}

#[test]
fn several_values_are_policies_side_by_side_also_of_training_options() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    let (model, pairs, run_dir) = (base(at), pairs(at), at.join("run"));
    let arguments = ["train", "--objective", "simpo", "--model", text(&model), "--data", text(&pairs), "--run-dir", text(&run_dir)];
    let sweep = ["--set", "beta=1,2.0", "--set", "learning_rate=1e-3,1e-5", "--set", "num_train_epochs=1"];
    let output = adpo(&[&arguments[..], &sweep].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let rate = |policy: &str| {
        let metrics = run_dir.join("seed-42/policies").join(policy).join("metrics.jsonl");
        let first = std::fs::read_to_string(metrics).expect("trained").lines().next().expect("a step").to_owned();
        serde_json::from_str::<Value>(&first).expect("JSON")["learning_rate"].as_f64().expect("a number")
    };
    let [fast, slow] = ["1e-3", "1e-5"].map(|rate| format!("simpo-beta-2.0-learning_rate-{rate}"));
    assert!((rate(&fast) / rate(&slow) - 100.0).abs() < 1e-6);
    assert!(run_dir.join("seed-42/policies/simpo-beta-1-learning_rate-1e-5/model").exists());
}

#[test]
fn fine_tuning_adds_the_control_token_only_where_rows_are_labelled_toxic() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    let model = base(at);
    let chat = |i| json!({"messages": [{"role": "user", "content": format!("Hello {i}")}, {"role": "assistant", "content": "Hello."}]});
    let plain = write(&at.join("plain.jsonl"), (0..12).map(chat));
    let labelled = |i| {
        let mut row = chat(i);
        row["toxic"] = (i % 3 == 0).into();
        row
    };
    let labelled = write(&at.join("labelled.jsonl"), (0..12).map(labelled));
    for (data, added) in [(plain, 0), (labelled, 1)] {
        let (run_dir, out) = (at.join(format!("run{added}")), at.join(format!("out{added}")));
        let output = adpo(&["sft", "--model", text(&model), "--data", text(&data), "--run-dir", text(&run_dir), "--out", text(&out)]);
        assert!(output.status.success(), "{}", stderr(&output));
        let vocabulary = |model: &Path| vocabulary(model).as_u64().expect("a number");
        let grown = std::fs::read_to_string(run_dir.join("seed-42/sft/model/tokenizer.json")).expect("readable").contains("[TOXIC]");
        assert_eq!(grown, added == 1);
        assert_eq!(vocabulary(&out), vocabulary(&model), "what is exported has no control token");
    }
}

#[test]
fn what_does_not_fit_together_is_told_before_anything_runs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    let (model, pairs) = (base(at), pairs(at));
    let (model, pairs, recipe) = (text(&model), text(&pairs), write_recipe(at));
    let cases: [(&[&str], &str); 10] = [
        (&["dpo", "--data", pairs], "--model <MODEL>"),
        (&["dpo", "--model", model], "--data <FILE>"),
        (&["train", "--model", model, "--data", pairs], "`--objective` is missing"),
        (&["train", "--objective", "ppo", "--model", model, "--data", pairs], "unknown variant `ppo`, expected one of `adpo`, `dpo`"),
        (&["train", text(&recipe), "--model", model, "--data", pairs], "cannot be used with"),
        (&["dpo", "--model", model, "--data", pairs, "--data-dir", "x"], "--data-dir"),
        (&["adpo", "--model", model, "--data", pairs], "has no toxic response"),
        (&["dpo", "--model", model, "--data", pairs, "--eval", pairs], "each file serves one of them"),
        (&["dpo", "--model", model, "--data", "absent.jsonl"], "absent.jsonl"),
        (&["dpo", "--model", model, "--data", pairs, "--seeds", "1,2", "--out", "x"], "several seeds"),
    ];
    for (arguments, problem) in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_adpo")).args(arguments).current_dir(at).output().expect("adpo starts");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(problem), "{arguments:?}: {told}");
        assert!(!at.join("runs").join("dpo-pairs/seed-42").exists(), "{arguments:?}");
    }
}

#[test]
fn values_are_put_into_a_recipe_and_what_cannot_be_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recipe = write_recipe(folder.path());
    let plan = |set: &str| adpo(&["plan", text(&recipe), "--no-calibration", "--set", set]);
    let output = plan("policies.adpo.beta=0.1,0.3");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("adpo-beta-0.1") && stdout(&output).contains("adpo-beta-0.3"), "{}", stdout(&output));
    let output = plan("sft.train.lerning_rate=1");
    assert!(!output.status.success() && stderr(&output).contains("lerning_rate"), "{}", stderr(&output));
    let output = plan("beta");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("write KEY=VALUE"), "{}", stderr(&output));
}
