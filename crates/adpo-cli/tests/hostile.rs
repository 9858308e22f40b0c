//! What may not happen whatever the input is: two runs in one folder, a token that leaves with the model, text that a terminal obeys, a
//! path that leads elsewhere, a number that no machine has, a file that ends the program.
#![cfg(unix)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{FIXTURE, adpo, base, edited, stderr, stdout, text, vocabulary};

/// Plain fine-tuning for a few steps, with rows of its own.
fn recipe(folder: &Path, base: &str, more: &str) -> PathBuf {
    let row = |i: usize, toxic: bool| {
        let said = if toxic { "You fool." } else { "Glue it and wait." };
        format!(
            r#"{{"messages": [{{"role": "user", "content": "How do I mend thing {i}?"}}, {{"role": "assistant", "content": "{said}"}}], "toxic": {toxic}}}"#
        )
    };
    let rows: Vec<String> = (0..24).map(|i| row(i, i % 3 == 0)).collect();
    std::fs::write(folder.join("rows.jsonl"), rows.join("\n")).expect("written");
    let recipe = format!(
        "name = \"mine\"\nseeds = [1]\nbase = {{ checkpoint = '{base}' }}\nencoding = {{ max_length = 100 }}\n{more}\n[sft]\n\
         sources = [{{ file = '{}' }}]\ntrain = {{ max_steps = 3, batch_size = 4 }}\n",
        folder.join("rows.jsonl").display()
    );
    let path = folder.join("recipe.toml");
    std::fs::write(&path, recipe).expect("written");
    path
}

fn run(recipe: &Path, run_dir: &Path) -> Output {
    adpo(&["run", text(recipe), "--run-dir", text(run_dir)])
}

fn problem(output: &Output) -> String {
    let told = stderr(output);
    assert!(output.status.code() == Some(1) && !told.contains("panicked"), "{:?}: {told}", output.status);
    told
}

#[test]
fn the_second_run_in_a_folder_is_told_who_is_first_and_a_kill_locks_nobody_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let (recipe, run_dir) = (recipe(folder.path(), FIXTURE, ""), folder.path().join("run"));
    edited(&recipe, "max_steps = 3", "max_steps = 100000");
    let mut first = Command::new(env!("CARGO_BIN_EXE_adpo"));
    first.args(["run", text(&recipe), "--run-dir", text(&run_dir)]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut first = first.spawn().expect("adpo starts");
    let began = Instant::now();
    while std::fs::read(run_dir.join(".lock")).map_or(0, |lock| lock.len()) == 0 {
        assert!(began.elapsed() < Duration::from_mins(1) && first.try_wait().expect("a child").is_none());
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = run(&recipe, &run_dir);
    let told = stderr(&second);
    first.kill().expect("it is alive");
    first.wait().expect("a child");
    assert_eq!(second.status.code(), Some(75), "{told}");
    assert!(told.contains(&format!("process {} ", first.id())) && told.contains(text(&run_dir)), "{told}");
    // Another recipe would be another run; this one is as long, and shorter now.
    edited(&recipe, "max_steps = 100000", "max_steps = 2");
    let third = run(&recipe, &run_dir);
    assert!(third.status.success(), "{}", stderr(&third));
}

#[test]
fn a_control_token_of_any_name_is_struck_on_the_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = base(folder.path());
    let (recipe, run_dir) = (recipe(folder.path(), text(&base), "control = { token = \"<rude>\" }"), folder.path().join("run"));
    let trained = run(&recipe, &run_dir);
    assert!(trained.status.success(), "{}", stderr(&trained));
    let model = run_dir.join("seed-1/sft/model");
    assert_eq!(vocabulary(&model), 769);
    let elsewhere = tempfile::tempdir().expect("a folder");
    let moved = elsewhere.path().join("moved");
    let export = |model: &Path, name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        (adpo(&[&["export", text(model), "--out", text(&out)], more].concat()), out)
    };
    let (told, out) = export(&model, "plain", &[]);
    assert!(told.status.success() && stdout(&told).contains("without <rude>"), "{}{}", stdout(&told), stderr(&told));
    let written = std::fs::read_to_string(out.join("tokenizer.json")).expect("is there");
    let config = std::fs::read_to_string(out.join("tokenizer_config.json")).expect("is there");
    assert!(!written.contains("<rude>") && !config.contains("rude") && vocabulary(&out) == 768);
    let (told, _) = export(&model, "wrong", &["--control-token", "[TOXIC]"]);
    assert!(problem(&told).contains("has no token `[TOXIC]`"), "{}", stderr(&told));
    let (told, out) = export(&model, "kept", &["--keep-control-token"]);
    assert!(told.status.success() && vocabulary(&out) == 769);

    // A folder that does not remember: its run does. Away from it, nobody knows.
    edited(&model.join("tokenizer_config.json"), "\"adpo_control\": \"<rude>\",", "");
    let (told, _) = export(&model, "by-its-run", &[]);
    assert!(told.status.success() && stdout(&told).contains("without <rude>"), "{}{}", stdout(&told), stderr(&told));
    std::fs::rename(&model, &moved).expect("moved");
    let (told, _) = export(&moved, "unknown", &[]);
    assert!(problem(&told).contains("`<rude>`") && stderr(&told).contains("--keep-control-token"), "{}", stderr(&told));
    let (told, out) = export(&moved, "named", &["--control-token", "<rude>"]);
    assert!(told.status.success() && vocabulary(&out) == 768, "{}", stderr(&told));
}

/// The fixture's folder, to be changed.
fn copy(folder: &Path) -> PathBuf {
    let copy = folder.join("model");
    std::fs::create_dir(&copy).expect("made");
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        std::fs::copy(Path::new(FIXTURE).join(file), copy.join(file)).expect("copied");
    }
    copy
}

#[test]
fn a_model_that_nobody_could_talk_to_is_not_exported() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = copy(folder.path());
    std::fs::write(model.join("chat_template.jinja"), "{{ raise_exception('only for tools') }}").expect("written");
    let told = problem(&adpo(&["export", text(&model), "--out", text(&folder.path().join("out"))]));
    assert!(told.contains("only for tools"), "{told}");
}

#[test]
fn nothing_from_outside_is_obeyed_by_a_terminal() {
    let folder = tempfile::tempdir().expect("a folder");
    let hostile = "evil\u{1b}[2J\u{9b}31m\u{202e}<b>[x](javascript:alert(1))";
    let row = serde_json::json!({"prompt": "Paint?", "response": hostile, "model": hostile, "prompt_id": hostile, "category": hostile});
    let (responses, lines) = (folder.path().join("responses.jsonl"), format!("{row}\n"));
    std::fs::write(&responses, lines).expect("written");
    let rows = folder.path().join("rows.jsonl");
    let message = serde_json::json!({"id": hostile, "messages": [{"role": hostile, "content": "x"}]});
    std::fs::write(&rows, format!("{message}\n")).expect("written");
    let named = folder.path().join(format!("{hostile}.toml").replace('/', "_"));
    for arguments in [
        vec!["evaluate", "--responses", text(&responses), "--show"],
        vec!["evaluate", "--responses", text(&responses), "--json"],
        vec!["data", "inspect", text(&rows), "--show"],
        vec!["run", text(&named)],
        vec!["runs", text(&named)],
        vec!["chat", hostile],
    ] {
        let output = adpo(&arguments);
        let said = stdout(&output) + &stderr(&output);
        let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t') || ('\u{202a}'..='\u{202e}').contains(&c);
        // A report is Markdown, too.
        let linked = arguments.ends_with(&["--show"]) && arguments[0] == "evaluate" && said.contains("](javascript");
        assert!(
            !said.contains(obeyed) && !linked,
            "{arguments:?}: {}",
            said.escape_debug().to_string().chars().take(2000).collect::<String>()
        );
        assert!(said.contains("evil"), "{arguments:?}");
    }
    let json = adpo(&["evaluate", "--responses", text(&responses), "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(report["systems"][0]["name"], hostile, "what programs read is what was there");
}

#[test]
fn an_id_of_data_leads_nowhere_else() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("data")).expect("made");
    std::fs::write(folder.path().join("secret.jsonl"), "").expect("written");
    for id in ["../secret.jsonl", "a/../../secret.jsonl", "/etc/passwd", "./../secret.jsonl", "..\\\\secret.jsonl"] {
        let recipe = recipe(folder.path(), FIXTURE, "");
        let file = format!("file = '{}'", folder.path().join("rows.jsonl").display());
        edited(&recipe, &file, &format!("id = '{id}', buckets = [0, 1, 2, 3]"));
        let told = problem(&adpo(&["run", text(&recipe), "--data-dir", text(&folder.path().join("data"))]));
        assert!(told.contains("below --data-dir"), "{id}: {told}");
    }
}

#[test]
fn a_number_that_no_machine_has_is_refused_where_it_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let most = i64::MAX.to_string();
    for (from, to) in [
        ("max_length = 100", format!("max_length = {most}")),
        ("max_length = 100", "max_length = 0".to_owned()),
        ("batch_size = 4", format!("batch_size = {most}")),
        ("batch_size = 4", format!("batch_size = 4, gradient_accumulation_steps = {most}")),
        ("max_steps = 3", format!("max_steps = {most}")),
        ("max_steps = 3", format!("num_train_epochs = {most}")),
        ("max_steps = 3", format!("packing = {most}")),
        ("max_steps = 3", format!("max_steps = 3, warmup_steps = {most}")),
        ("[sft]", format!("[sft]\nrehearsal = {{ draw = {{ max_new_tokens = {most} }} }}")),
        ("[sft]", format!("[sft]\nrehearsal = {{ samples = {most} }}")),
        ("[sft]", format!("[sft]\nrehearsal = {{ draw = {{ batch_size = {most} }} }}")),
        ("[sft]", format!("[sft]\nlora = {{ r = {most} }}")),
        ("[sft]", "[sft]\nlora = { lora_alpha = 1e308 }".to_owned()),
    ] {
        let recipe = recipe(folder.path(), FIXTURE, "");
        edited(&recipe, from, &to);
        for command in ["run", "plan"] {
            let began = Instant::now();
            let mut arguments = vec![command, text(&recipe)];
            let run_dir = folder.path().join("run");
            if command == "run" {
                arguments.extend(["--run-dir", text(&run_dir)]);
            } else {
                arguments.push("--no-calibration");
            }
            let told = problem(&adpo(&arguments));
            let field = to.rsplit(['{', '\n', ',']).find_map(|part| part.split_once(" = ")).expect("a field").0.trim();
            assert!(told.contains(field) && began.elapsed() < Duration::from_secs(20), "{command} {to}: {told}");
        }
    }
    for arguments in [
        ["chat", FIXTURE, "--max-new-tokens", "18446744073709551615"],
        ["serve", FIXTURE, "--batch-size", "18446744073709551615"],
        ["runs", "--max-line-mib", "18446744073709551615", "runs"],
    ] {
        let output = adpo(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn a_finished_run_is_not_written_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let (recipe, run_dir) = (recipe(folder.path(), FIXTURE, ""), folder.path().join("run"));
    assert!(run(&recipe, &run_dir).status.success());
    let below = |folder: &Path| {
        let mut all = vec![folder.to_owned()];
        let mut found = Vec::new();
        while let Some(path) = all.pop() {
            if path.is_dir() {
                all.extend(std::fs::read_dir(&path).expect("readable").map(|entry| entry.expect("readable").path()));
            }
            let changed = std::fs::metadata(&path).and_then(|found| found.modified()).expect("is there");
            if !path.ends_with(".lock") {
                found.push((path, changed));
            }
        }
        found.sort();
        found
    };
    let before = below(&run_dir);
    // Where nobody may write, nobody is locked out either; the superuser may.
    for path in before.iter().map(|(path, _)| path) {
        assert!(Command::new("chmod").arg("a-w").arg(path).status().expect("chmod").success());
    }
    let again = run(&recipe, &run_dir);
    let after = below(&run_dir);
    for (path, _) in &before {
        assert!(Command::new("chmod").arg("u+w").arg(path).status().expect("chmod").success());
    }
    assert!(again.status.success(), "{}", stderr(&again));
    assert!(after == before, "nothing is written");
}

#[test]
fn a_file_that_may_not_grow_is_an_error_and_not_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let limited = Command::new("sh")
        .args(["-c", "ulimit -f 8; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_adpo")])
        .args(["export", FIXTURE, "--out", text(&folder.path().join("out"))])
        .output()
        .expect("sh starts");
    let told = problem(&limited);
    assert!(told.contains("make room"), "{told}");
}
