//! The program as people and scripts meet it.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{adpo, edited, stderr, stdout, text, timeless, write_recipe};

#[test]
fn without_arguments_the_first_line_is_the_quickstart() {
    let output = adpo(&[]);
    assert!(output.status.success());
    assert!(stdout(&output).lines().next().is_some_and(|line| line.contains("adpo run")));
}

#[test]
fn every_subcommand_shows_an_example() {
    let commands = ["run", "sft", "sample", "annotate", "train", "evaluate", "compare", "plan", "pretrain", "export"];
    let nested = [["data", "inspect"], ["bench", "step"], ["bench", "kernels"], ["bench", "rows"], ["bench", "sample"]];
    let all = commands.iter().map(|c| vec![*c]).chain(nested.iter().map(|c| c.to_vec()));
    for command in all {
        let arguments: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        assert!(stdout(&adpo(&arguments)).contains("Example"), "{command:?}");
    }
}

#[test]
fn a_wrong_command_line_exits_with_2_and_a_failed_run_with_1() {
    assert_eq!(adpo(&["trian"]).status.code(), Some(2));
    let output = adpo(&["run", "no/such/recipe.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no/such/recipe.toml"));
}

#[test]
fn an_option_of_an_endpoint_is_refused_beside_a_recipe() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recipe = write_recipe(folder.path());
    for option in [["--model", "m"], ["--temperature", "0.5"], ["--seed", "3"]] {
        let output = adpo(&["sample", text(&recipe), option[0], option[1]]);
        assert_eq!(output.status.code(), Some(2), "{option:?}: {}", stderr(&output));
    }
}

#[test]
fn a_recipe_with_an_option_of_another_objective_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = write_recipe(folder.path());
    let recipe =
        std::fs::read_to_string(&path).expect("readable").replace("objective.dpo = { beta = 0.3 }", "objective.dpo = { gamma = 0.2 }");
    std::fs::write(&path, recipe).expect("writable");
    let output = adpo(&["run", text(&path)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("gamma"), "{}", stderr(&output));
}

#[test]
fn a_policy_may_not_learn_from_the_evaluators_bucket() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = write_recipe(folder.path());
    let recipe = std::fs::read_to_string(&path).expect("readable").replace("buckets = [2]", "buckets = [4]");
    std::fs::write(&path, recipe).expect("writable");
    assert!(stderr(&adpo(&["run", text(&path)])).contains("circular"));
}

#[test]
fn data_inspect_redacts_text_unless_told_to_show_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("rows.jsonl");
    std::fs::write(&path, r#"{"prompt": "How is paint made?", "chosen": "With pigments.", "rejected": "zebrawords"}"#).expect("writable");
    let (redacted, shown) = (adpo(&["data", "inspect", text(&path)]), adpo(&["data", "inspect", text(&path), "--show"]));
    assert!(redacted.status.success() && shown.status.success(), "{}", stderr(&redacted));
    assert!(!stdout(&redacted).contains("zebrawords") && stdout(&shown).contains("zebrawords"));
    let json: serde_json::Value = serde_json::from_slice(&adpo(&["data", "inspect", text(&path), "--json"]).stdout).expect("JSON");
    assert!(json.is_object());
}

/// Responses that come with the repository, and a folder for more.
const RESPONSES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../adpo-eval/examples/responses.jsonl");

#[test]
fn responses_of_any_model_are_judged_side_by_side() {
    let output = adpo(&["evaluate", "--responses", RESPONSES]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report = stdout(&output);
    assert!(report.contains("Against before (") && report.contains("cannot be decided at n = 6"), "{report}");
    assert!(report.contains("words, redacted]") && !report.contains("clown"), "{report}");
    assert!(stdout(&adpo(&["evaluate", "--responses", RESPONSES, "--show"])).contains("clown"));
    let json = |arguments: &[&str]| -> serde_json::Value {
        let output = adpo(&[&["evaluate", "--responses", RESPONSES, "--json"], arguments].concat());
        serde_json::from_slice(&output.stdout).expect("the report is JSON")
    };
    let report = json(&["--baseline", "after", "--judge", "embedded", "--seed", "7"]);
    assert_eq!((report["baseline"].as_str(), report["seeds"]["bootstrap"].as_u64()), (Some("after"), Some(7)));
    assert_eq!(report["comparisons"][0]["system"], "before");
    assert_eq!(json(&["--seed", "7"])["systems"], report["systems"]);
}

#[test]
fn responses_in_several_files_are_paired_and_mistakes_in_them_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let all = std::fs::read_to_string(RESPONSES).expect("readable");
    let of = |model: &str| {
        let path = folder.path().join(format!("{model}.jsonl"));
        let lines: Vec<&str> = all.lines().filter(|line| line.contains(&format!("\"model\": \"{model}\""))).collect();
        std::fs::write(&path, lines.join("\n")).expect("writable");
        path
    };
    let (before, after) = (of("before"), of("after"));
    let systems = |arguments: &[&str]| {
        let output = adpo(&[&["evaluate", "--json", "--responses"], arguments].concat());
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("the report is JSON");
        (report["systems"].clone(), report["comparisons"].clone())
    };
    assert_eq!(systems(&[text(&before), text(&after)]), systems(&[RESPONSES]));
    let unknown = adpo(&["evaluate", "--responses", RESPONSES, "--baseline", "sft"]);
    assert!(unknown.status.code() == Some(1) && stderr(&unknown).contains("none of the systems (before, after)"), "{}", stderr(&unknown));
    std::fs::write(&after, "{\"prompt\": \"Hello?\", \"model\": \"after\"}\n").expect("writable");
    let missing = adpo(&["evaluate", "--responses", text(&before), text(&after)]);
    assert!(stderr(&missing).contains("after.jsonl:1: field `response` is missing"), "{}", stderr(&missing));
}

#[test]
fn scores_of_every_response_are_written_on_demand_and_can_be_judged_as_they_are() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let samples = folder.path().join("samples.jsonl");
    let output = adpo(&["evaluate", "--responses", RESPONSES, "--log-samples", text(&samples)]);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines = std::fs::read_to_string(&samples).expect("readable");
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    assert_eq!(lines.lines().count(), 12);
    assert_eq!((&first["prompt_id"], &first["model"], &first["toxic"]), (&"balcony".into(), &"before".into(), &true.into()));
    assert!(first["response"].as_str().is_some_and(|text| text.contains("lazy fool")) && first["toxicity"].as_f64() > Some(0.5), "{first}");
    let systems = |file: &str| {
        let report: serde_json::Value = serde_json::from_slice(&adpo(&["evaluate", "--json", "--responses", file]).stdout).expect("JSON");
        report["systems"].clone()
    };
    assert_eq!(systems(text(&samples)), systems(RESPONSES));
    let nowhere = adpo(&["evaluate", "--responses", RESPONSES, "--log-samples", text(&folder.path().join("no/such/folder.jsonl"))]);
    assert!(nowhere.status.code() == Some(1) && stderr(&nowhere).contains("no/such"), "{}", stderr(&nowhere));
}

#[test]
fn no_option_of_one_form_of_evaluate_is_taken_by_the_other() {
    let refused = [
        vec!["evaluate", "recipe.toml", "--responses", RESPONSES],
        vec!["evaluate", "--responses", RESPONSES, "--run-dir", "x"],
        vec!["evaluate", "--responses", RESPONSES, "--data-dir", "x"],
        vec!["evaluate", "--baseline", "sft"],
        vec!["evaluate", "--judge", "embedded"],
        vec!["evaluate", "--log-samples", "x.jsonl"],
        vec!["evaluate", "--responses", RESPONSES, "--tensorboard"],
        vec!["evaluate", "recipe.toml", "--seed", "1"],
    ];
    for arguments in refused {
        assert_eq!(adpo(&arguments).status.code(), Some(2), "{arguments:?}");
    }
    // A variable that is always set is no option that was given.
    let mut command = Command::new(env!("CARGO_BIN_EXE_adpo"));
    let output = command.args(["evaluate", "--responses", RESPONSES]).env("ADPO_DATA", "/data").output().expect("adpo starts");
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn seeds_of_the_command_line_take_the_place_of_the_recipes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (recipe, run_dir) = (write_recipe(folder.path()), folder.path().join("run"));
    let output = adpo(&["sft", text(&recipe), "--seeds", "7,8", "--run-dir", text(&run_dir)]);
    assert!(output.status.success(), "{}", stderr(&output));
    let kept: Vec<bool> = [1, 7, 8].iter().map(|seed| run_dir.join(format!("seed-{seed}/sft/manifest.json")).exists()).collect();
    assert_eq!(kept, [false, true, true]);
    let twice = adpo(&["sft", text(&recipe), "--seeds", "7,7", "--run-dir", text(&run_dir)]);
    assert_eq!(twice.status.code(), Some(1));
    assert!(stderr(&twice).contains("one seed twice"), "{}", stderr(&twice));
}

#[test]
fn lengths_that_the_base_cannot_hold_are_refused_before_anything_runs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recipe = write_recipe(folder.path());
    edited(&recipe, "encoding = { max_length = 200 }", "encoding = { max_length = 500 }");
    let output = adpo(&["run", text(&recipe), "--run-dir", text(&folder.path().join("run"))]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("max_position_embeddings = 512"), "{}", stderr(&output));
    assert!(!folder.path().join("run/seed-1/sft").exists());
}

#[test]
fn a_users_own_triples_take_the_place_of_sampling_and_annotation() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recipe = write_recipe(folder.path());
    let row = |i: u32| {
        let prompt = format!("What about number {i}?");
        serde_json::json!({"prompt": prompt, "chosen": "It is fine.", "rejected": "No.", "toxic": "Fool."}).to_string()
    };
    let rows = (0..60).map(row).collect::<Vec<_>>().join("\n");
    std::fs::write(folder.path().join("mine.jsonl"), rows).expect("writable");
    let own = std::fs::read_to_string(&recipe).expect("readable");
    let (before, rest) = own.split_once("[sample]").expect("a section");
    let (_, after) = rest.split_once("[preference]\n").expect("a section");
    let own = format!("{before}[preference]\nsources = [{{ id = \"mine.jsonl\", buckets = [2] }}]\n{after}");
    std::fs::write(&recipe, own).expect("writable");
    let run_dir = folder.path().join("run");
    let arguments = ["train", text(&recipe), "--run-dir", text(&run_dir), "--data-dir", text(folder.path()), "--json"];
    let output = adpo(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let manifests: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let stages: Vec<&str> = manifests.as_array().expect("a list").iter().filter_map(|m| m["stage"].as_str()).collect();
    assert_eq!(stages, ["sft", "preferences", "policies/adpo", "policies/both"]);
    let counts = &manifests[1]["counts"]["sources"]["mine.jsonl"];
    assert!(counts["rows"].as_u64().is_some_and(|rows| rows > 0) && counts["rows"] == counts["with_toxic"], "{counts}");
}

#[test]
fn an_exported_model_has_no_control_token_unless_it_is_kept() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/llama2-mha");
    let export = |name: &str, more: &[&str]| -> serde_json::Value {
        let out = folder.path().join(name);
        let output = adpo(&[&["export", text(&model), "--out", text(&out), "--json"], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let config = std::fs::read_to_string(out.join("config.json")).expect("is there");
        let tokenizer = std::fs::read_to_string(out.join("tokenizer.json")).expect("is there");
        assert_eq!(tokenizer.contains("[TOXIC]"), more.contains(&"--keep-control-token"));
        assert!(config.contains("bfloat16") == more.contains(&"bf16"));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let plain = export("plain", &[]);
    assert_eq!((&plain["removed_token"], &plain["vocab_size"]), (&"[TOXIC]".into(), &768.into()));
    let kept = export("kept", &["--keep-control-token", "--dtype", "bf16"]);
    assert_eq!((&kept["removed_token"], &kept["vocab_size"]), (&serde_json::Value::Null, &769.into()));
    let onto_itself = adpo(&["export", text(&model), "--out", text(&model)]);
    assert_eq!(onto_itself.status.code(), Some(1));
    assert!(stderr(&onto_itself).contains("own folder"));
}

#[test]
fn bench_step_prints_one_json_line() {
    for more in [&[][..], &["--lora-r", "4"]] {
        let output =
            adpo(&[&["bench", "step", "--json", "--objective", "adpo", "--batch", "1", "--seq", "16", "--steps", "1"], more].concat());
        let line: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON line");
        assert_eq!((&line["what"], line["lora_r"].is_null()), (&"step".into(), more.is_empty()));
        assert!(line["median_s"].as_f64().is_some_and(|s| s > 0.0));
    }
}

#[test]
fn steps_of_a_bench_are_checked_against_the_cpu_in_float32() {
    let check = |dtype: &str| -> serde_json::Value {
        let steps = ["bench", "step", "--json", "--check", "--batch", "1", "--seq", "16", "--steps", "1", "--dtype", dtype];
        serde_json::from_slice(&adpo(&steps).stdout).expect("one JSON line")
    };
    let (same, narrow) = (check("float32"), check("bfloat16"));
    assert_eq!((&same["largest_difference"], &same["agrees"]), (&0.0.into(), &true.into()));
    assert!(narrow["largest_difference"].as_f64().is_some_and(|off| off > 0.0) && narrow["agrees"] == true, "{narrow}");
}

#[test]
fn bench_load_tells_how_many_bytes_it_read() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/llama2-mha");
    let output = adpo(&["bench", "load", "--json", text(&fixture)]);
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON line");
    assert_eq!(line["bytes"], std::fs::metadata(fixture.join("model.safetensors")).expect("it is there").len());
    let missing = adpo(&["bench", "load", "no/such/folder"]);
    assert!(stderr(&missing).contains("no/such/folder"), "{}", stderr(&missing));
}

#[test]
fn rows_for_the_bench_hold_ids_and_a_step_computes_fewer_cells_where_prompts_are_shared() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (source, out) = (folder.path().join("pairs.jsonl"), folder.path().join("rows.jsonl"));
    let pair = |i: usize| {
        let prompt = format!("What is to be said of number {i}, if anything?");
        serde_json::json!({"prompt": prompt, "chosen": "It is fine.", "rejected": "No. ".repeat(i + 1)}).to_string()
    };
    std::fs::write(&source, (0..6).map(pair).collect::<Vec<_>>().join("\n")).expect("writable");
    let output = adpo(&["bench", "rows", "--json", text(&source), "--out", text(&out), "--batch", "2"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let counts: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON line");
    assert_eq!((&counts["rows"], &counts["borrowed"]), (&6.into(), &6.into()));
    let rows = std::fs::read_to_string(&out).expect("written");
    let rows: Vec<serde_json::Value> = rows.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    // Each but the first borrows from the one before it, whose rejected response is the next shorter.
    assert!((1..6).all(|i| rows[i]["toxic"] == rows[i - 1]["rejected"]) && rows[0]["toxic"] == rows[1]["rejected"]);

    let step = |more: &[&str]| -> serde_json::Value {
        let arguments =
            [&["bench", "step", "--json", "--size", "15m", "--batch", "2", "--steps", "1", "--rows", text(&out)], more].concat();
        serde_json::from_slice(&adpo(&arguments).stdout).expect("one JSON line")
    };
    let (shared, separate) = (step(&[]), step(&["--no-share-prompts"]));
    assert_eq!(shared["tokens"], separate["tokens"]);
    assert!(shared["cells"].as_u64() < separate["cells"].as_u64(), "{shared} {separate}");
    let loss = |figures: &serde_json::Value| figures["loss"].as_f64().expect("a loss");
    assert!((loss(&shared) - loss(&separate)).abs() < 1e-5, "{shared} {separate}");

    let one = folder.path().join("one.jsonl");
    std::fs::write(&one, pair(0)).expect("writable");
    let refused = adpo(&["bench", "rows", text(&one), "--out", text(&out)]);
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("two are needed"), "{}", stderr(&refused));
}

#[test]
fn a_recipe_gives_the_same_metrics_with_and_without_shared_prompts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recipe = write_recipe(folder.path());
    let run_dir = folder.path().join("run");
    // Not the usual ε of 1e-8, with which a first step has the sign of a gradient that may be all rounding.
    let with = |share: bool| format!("train = {{ learning_rate = 1e-3, batch_size = 4, adam_epsilon = 1e-4, share_prompts = {share} }}");
    let train = || -> Vec<Vec<serde_json::Value>> {
        let output = adpo(&["train", text(&recipe), "--run-dir", text(&run_dir)]);
        assert!(output.status.success(), "{}", stderr(&output));
        let metrics = |policy: &str| -> Vec<serde_json::Value> {
            let path = run_dir.join("seed-1/policies").join(policy).join("metrics.jsonl");
            let lines = std::fs::read_to_string(path).expect("metrics are there");
            lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
        };
        ["adpo", "both"].map(metrics).into()
    };
    edited(&recipe, "train = { learning_rate = 1e-3, batch_size = 4 }", &with(true));
    let shared = train();
    edited(&recipe, &with(true), &with(false));
    let separate = train();
    let mut compared = 0;
    for (shared, separate) in shared.iter().zip(&separate) {
        assert!(shared.len() == separate.len() && shared != separate, "the same steps, rounded in other places");
        for (step, (shared, separate)) in shared.iter().zip(separate).enumerate() {
            for (name, value) in shared.as_object().expect("an object") {
                // All log-ratios start at 0, so that rounding alone could say which is greater.
                if step == 0 && ["rewards/accuracies", "rewards/ties"].contains(&name.as_str()) {
                    continue;
                }
                let (a, b) = (value.as_f64().expect("a number"), separate[name].as_f64().expect("the same names"));
                assert!((a - b).abs() <= 1e-4 * a.abs().max(1.0), "{name}: {a} and {b}");
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "only {compared} values were compared");
}

#[test]
fn a_run_is_the_same_twice_skips_finished_stages_and_survives_kills() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recipe = write_recipe(folder.path());
    let run = |name: &str| adpo(&["run", text(&recipe), "--run-dir", text(&folder.path().join(name)), "--json"]);
    let first = run("first");
    assert!(first.status.success(), "{}", stderr(&first));
    let report: serde_json::Value = serde_json::from_slice(&first.stdout).expect("the report is JSON");
    let systems: Vec<&str> =
        report["seeds"][0]["report"]["systems"].as_array().expect("systems").iter().filter_map(|s| s["name"].as_str()).collect();
    assert_eq!(systems, ["sft", "adpo", "both"]);
    assert!(report["seeds"][0]["report"]["control_token"][0]["with"]["n"].as_u64().is_some_and(|n| n == 40));

    // Finished stages leave no trace of training on standard error.
    let again = run("first");
    assert_eq!(stdout(&again), stdout(&first));
    assert!(!stderr(&again).contains("tok/s"), "{}", stderr(&again));

    // Killed at several moments, then run to the end.
    for milliseconds in [150, 600, 1200, 2400] {
        let arguments = ["run", text(&recipe), "--run-dir", text(&folder.path().join("killed"))].map(str::to_owned);
        let mut child = Command::new(env!("CARGO_BIN_EXE_adpo"))
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("adpo starts");
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        let _ = child.kill();
        child.wait().expect("it ends");
    }
    let killed = run("killed");
    assert!(killed.status.success(), "{}", stderr(&killed));
    assert_eq!(timeless(&killed), timeless(&first));
}

#[test]
fn a_run_does_not_depend_on_the_number_of_threads() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recipe = write_recipe(folder.path());
    let text_of_recipe = std::fs::read_to_string(&recipe).expect("readable");
    let base = text_of_recipe.lines().find(|line| line.starts_with("base = ")).expect("a base").to_owned();
    // Large enough that its kernels spread over threads, which the fixture's are not.
    edited(&recipe, &base, r#"base = { checkpoint = "embedded:tiny-base" }"#);
    let run = |threads: &str| {
        let run_dir = folder.path().join(threads);
        let output = Command::new(env!("CARGO_BIN_EXE_adpo"))
            .args(["run", text(&recipe), "--run-dir", text(&run_dir), "--json"])
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .expect("adpo starts");
        assert!(output.status.success(), "{}", stderr(&output));
        let metrics = run_dir.join("seed-1/policies/adpo/metrics.jsonl");
        (std::fs::read_to_string(metrics).expect("the policy's metrics"), timeless(&output))
    };
    let alone = run("1");
    for threads in ["2", "5"] {
        let (metrics, report) = run(threads);
        assert_eq!(metrics, alone.0, "{threads} threads");
        assert_eq!(report, alone.1, "{threads} threads");
    }
}

#[test]
fn a_device_that_is_not_there_is_an_error_that_says_what_to_do() {
    let output = adpo(&["bench", "step", "--device", "cuda:99"]);
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    assert!(message.contains("device `cuda:99`") && (message.contains("--features cuda") || message.contains("or use `cpu`")), "{message}");
    let output = adpo(&["run", "--device", "gpu"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("use cpu, cuda, cuda:NUMBER or wgpu"), "{}", stderr(&output));
}

#[test]
fn every_kernel_is_compared_and_timed() {
    let output = adpo(&["bench", "kernels", "--json", "--tokens", "64", "--seq", "32"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines: Vec<serde_json::Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(lines.len() >= 16, "{} lines", lines.len());
    for line in &lines {
        assert!(line["agrees"] == true && line["median_s"].as_f64().is_some_and(|seconds| seconds > 0.0), "{line}");
        assert!(line["gb_per_s"].is_number() != line["tflop_per_s"].is_number(), "{line}");
    }
    assert!(stderr(&output).contains("| rms_norm, backward | 64 × 256 |"), "{}", stderr(&output));
}
