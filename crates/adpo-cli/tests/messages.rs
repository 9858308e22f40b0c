//! What the program says beside its results: how much, in which colours, and what it leaves behind.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{FIXTURE, adpo, edited, stderr, stdout, text, write_recipe};

fn with_env(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adpo"));
    for name in ["ADPO_DATA", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS"] {
        command.env_remove(name);
    }
    command.args(arguments).envs(variables.iter().copied()).output().expect("adpo starts")
}

#[test]
fn the_version_names_the_commit_of_a_checkout() {
    let version = stdout(&adpo(&["--version"]));
    let (name, rest) = version.trim().split_once(' ').expect("a name and a version");
    assert_eq!((name, rest.split(' ').next()), ("adpo", Some(env!("CARGO_PKG_VERSION"))));
    let in_checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.git").exists();
    assert_eq!(rest.contains('('), in_checkout, "{version}");
}

#[test]
fn every_shell_gets_a_script_that_knows_the_subcommands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = stdout(&adpo(&["completions", shell]));
        assert!(["evaluate", "inspect", "quiet"].iter().all(|word| script.contains(word)), "{shell}: {} bytes", script.len());
    }
    assert_eq!(adpo(&["completions", "tcsh"]).status.code(), Some(2));
}

#[test]
fn the_environment_is_told_without_secrets() {
    let variables = [("HF_TOKEN", "hf_verysecret"), ("HF_HOME", "/models"), ("ADPO_KEY", "sk-verysecret"), ("RAYON_NUM_THREADS", "2")];
    let told = stdout(&with_env(&["env"], &variables));
    for line in [
        "variable    HF_TOKEN=(set, not shown)",
        "variable    HF_HOME=/models",
        "variable    RAYON_NUM_THREADS=2",
        "device      cpu: is there",
    ] {
        assert!(told.lines().any(|other| other == line), "{line}: {told}");
    }
    assert!(told.starts_with(&format!("adpo        {}", env!("CARGO_PKG_VERSION"))) && !told.contains("verysecret"), "{told}");
    let json: serde_json::Value = serde_json::from_slice(&with_env(&["env", "--json"], &variables).stdout).expect("JSON");
    assert!(json["features"].is_array() && !json.to_string().contains("verysecret"), "{json}");
}

#[test]
fn help_is_as_wide_as_the_terminal() {
    let widest = |columns: &str| {
        let help = stdout(&with_env(&["run", "--help"], &[("COLUMNS", columns)]));
        let options = help.split_once("Options:").expect("options").1.split_once("Examples").expect("examples").0.to_owned();
        options.lines().map(|line| line.chars().count()).max().expect("lines")
    };
    let (narrow, wide) = (widest("60"), widest("140"));
    assert!(narrow <= 60 && wide > 60, "{narrow} and {wide}");
}

#[test]
fn help_on_data_lists_the_formats_that_the_list_has() {
    let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let help = words(stdout(&adpo(&["help", "data"])));
    let list = stdout(&adpo(&["data", "formats"]));
    assert!(help.contains(&words(list)), "{help}");
}

#[test]
fn colours_are_a_choice_and_no_color_holds_where_there_is_none() {
    let wrong = |more: &[&str], variables: &[(&str, &str)]| stderr(&with_env(&[&["plan", "no/such.toml"], more].concat(), variables));
    assert!(!wrong(&[], &[]).contains('\u{1b}'), "no terminal, no colours");
    assert!(wrong(&["--color", "always"], &[("NO_COLOR", "1")]).contains('\u{1b}'), "who asks for them gets them");
    assert!(wrong(&[], &[("CLICOLOR_FORCE", "1")]).contains('\u{1b}'));
    assert!(!wrong(&["--color=never"], &[("CLICOLOR_FORCE", "1")]).contains('\u{1b}'));
    assert!(!wrong(&[], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).contains('\u{1b}'));
    let help = |choice: &str| stdout(&with_env(&["--color", choice, "help"], &[]));
    assert!(help("always").contains('\u{1b}') && !help("never").contains('\u{1b}'));
    assert_eq!(with_env(&["run", "--color", "purple"], &[]).status.code(), Some(2));
    assert_eq!(with_env(&["run", "-q", "-v"], &[]).status.code(), Some(2), "both cannot be meant");
}

#[test]
fn a_run_says_where_it_is_what_it_uses_again_and_what_comes_next_unless_it_shall_be_quiet() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (recipe, run_dir) = (write_recipe(folder.path()), folder.path().join("run"));
    let run = |command: &str, more: &[&str]| {
        let output = adpo(&[&[command, text(&recipe), "--run-dir", text(&run_dir)], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        output
    };
    let quiet = run("train", &["-q"]);
    assert_eq!(stderr(&quiet), "");
    let counts = stdout(&quiet);
    assert!(counts.contains("policies/adpo: examples ") && !counts.contains('{'), "{counts}");

    let first = stderr(&run("run", &[]));
    let done = first.lines().find(|line| line.starts_with("used again (seed 1): ")).expect("some were finished");
    assert_eq!(done, "used again (seed 1): sft, sample, annotate, policies/adpo, policies/both");
    assert!(first.contains("[6/24] responses/sft\n") && first.contains("[24/24] report\n"), "{first}");
    assert!(first.lines().any(|line| line.starts_with("responses/sft 40/40 ") && line.contains(" tok/s, run ")), "{first}");

    // The end leads on: each command that it names works.
    let report = first.lines().find_map(|line| line.strip_prefix("report: ")).expect("the report's path");
    assert!(Path::new(report).exists(), "{report}");
    let next: Vec<Vec<&str>> = first.lines().filter_map(|line| Some(line.strip_prefix("  adpo ")?.split(' ').collect())).collect();
    assert_eq!(next.iter().map(|command| command[0]).collect::<Vec<_>>(), ["chat", "serve", "export"]);
    let started = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adpo"));
        command.args(arguments).current_dir(folder.path()).stdin(std::process::Stdio::null()).output().expect("adpo starts")
    };
    for command in [&next[0], &next[2]] {
        let output = started(command);
        assert!(output.status.success(), "{command:?}: {}", stderr(&output));
    }
    let again = started(&next[2]);
    assert!(again.status.code() == Some(1) && stderr(&again).contains("holds files already"), "{}", stderr(&again));
    assert!(started(&[&next[2][..], &["--force"]].concat()).status.success());

    // What changed is named, and where the old result is.
    edited(&recipe, "objective.adpo = {}", "objective.adpo = { beta = 0.2 }");
    let second = stderr(&run("run", &["-v"]));
    assert!(second.contains("[1/24] sft: used again, since nothing changed that it was made from"), "{second}");
    let redone =
        second.lines().find(|line| line.starts_with("policies/adpo: run again, since `policy` changed")).expect("it was trained again");
    let aside = redone.split_once("what was there is in ").expect("where").1;
    assert!(Path::new(aside).join("model").exists(), "{redone}");
}

#[test]
fn a_finished_training_keeps_its_checkpoints_only_if_it_is_told_to() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (recipe, run_dir) = (write_recipe(folder.path()), folder.path().join("run"));
    let train = || {
        let output = adpo(&["train", text(&recipe), "--run-dir", text(&run_dir)]);
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    train();
    let kept = |stage: &str| run_dir.join("seed-1").join(stage).join("checkpoints").exists();
    assert!(kept("sft"), "`save_total_limit = 2`");
    assert!(!kept("policies/adpo") && run_dir.join("seed-1/policies/adpo/model/model.safetensors").exists());
    // How many are kept decides nothing, and what is no longer wanted goes.
    edited(&recipe, ", save_steps = 2, save_total_limit = 2", "");
    assert!(train().contains("used again (seed 1): sft, "));
    assert!(!kept("sft"));
}

#[test]
fn harmful_text_is_shown_on_request_and_never_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (recipe, run_dir) = (write_recipe(folder.path()), folder.path().join("run"));
    let run = |more: &[&str]| {
        let output = adpo(&[&["run", text(&recipe), "--run-dir", text(&run_dir), "--json"], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        output
    };
    let worst = |output: &Output| -> Vec<String> {
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let worst = report["seeds"][0]["report"]["worst"].as_array().expect("worst cases").clone();
        worst.iter().map(|case| case["response"].as_str().expect("a response").to_owned()).collect()
    };
    let (shown, hidden) = (run(&["--show"]), run(&[]));
    assert!(!stderr(&hidden).contains("] report"), "the same stage: {}", stderr(&hidden));
    let (shown, hidden) = (worst(&shown), worst(&hidden));
    assert!(!shown.is_empty() && shown.len() == hidden.len() && shown.iter().zip(&hidden).all(|(a, b)| a != b), "{shown:?} {hidden:?}");
    for file in ["report.json", "report.md", "seed-1/report/report.json", "seed-1/report/report.md"] {
        let written = std::fs::read_to_string(run_dir.join(file)).expect("readable");
        let telling = shown.iter().filter(|text| text.trim().len() > 3);
        telling.for_each(|text| assert!(!written.contains(&serde_json::to_string(text).expect("text")), "{file}: {text}"));
    }
}

#[test]
fn an_export_over_files_is_refused_and_replaces_them_when_forced() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out");
    std::fs::create_dir(&out).expect("made");
    let export = |more: &[&str]| adpo(&[&["export", FIXTURE, "--out", text(&out)], more].concat());
    assert!(export(&[]).status.success(), "an empty folder is as good as none");
    std::fs::write(out.join("mine.txt"), "mine").expect("writable");
    let refused = export(&["--keep-control-token"]);
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("--force"), "{}", stderr(&refused));
    assert!(export(&["--keep-control-token", "--force"]).status.success());
    let tokenizer = std::fs::read_to_string(out.join("tokenizer.json")).expect("readable");
    assert!(tokenizer.contains("[TOXIC]") && out.join("mine.txt").exists(), "a model is replaced, and nothing else");
}
