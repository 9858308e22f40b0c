//! Judges and sampling over HTTP, as people and scripts meet them.
#![cfg(feature = "http")]

#[path = "../../adpo-eval/tests/endpoints/server.rs"]
#[expect(dead_code, reason = "written for the tests of adpo-eval, which misbehave in more ways")]
mod server;

mod common;

use std::path::{Path, PathBuf};

use common::{adpo, stderr, text};
use serde_json::{Value, json};
use server::{Request, Server, says, status};

/// Questions in a folder of data.
fn write_prompts(folder: &Path) -> PathBuf {
    let path = folder.join("prompts.jsonl");
    std::fs::write(&path, "{\"prompt\": \"Any idea for dinner?\"}\n{\"prompt\": \"And for lunch?\"}\n").expect("writable");
    path
}

#[test]
fn sample_draws_from_an_endpoint_and_asks_only_for_what_is_missing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (prompts, out) = (write_prompts(folder.path()), folder.path().join("responses.jsonl"));
    let server = Server::start(|request| if request.prompt().contains("lunch") { status(400, "") } else { says("Soup.") });
    let url = server.url("/v1");
    let arguments = ["sample", "--endpoint", &url, "--model", "m", "--prompts", text(&prompts), "--out", text(&out), "--json"];
    let output = adpo(&arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("1 prompts lack a response") && stderr(&output).contains("HTTP 400"), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&report["answered"], &report["unanswered"]), (&json!(1), &json!(1)));

    let server = Server::start(|_| says("Bread."));
    let url = server.url("/v1");
    let arguments = [
        "sample",
        "--endpoint",
        &url,
        "--model",
        "m",
        "--prompts",
        "prompts.jsonl",
        "--data-dir",
        text(folder.path()),
        "--out",
        text(&out),
    ];
    let output = adpo(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(server.count(), 1);
    let lines = std::fs::read_to_string(&out).expect("there");
    let responses: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(responses.iter().map(|line| line["response"].clone()).collect::<Vec<_>>(), ["Soup.", "Bread."]);
    assert!(adpo(&arguments).status.success());
    assert_eq!(server.count(), 1);
}

#[test]
fn options_of_the_other_form_of_sample_are_refused() {
    let endpoint = ["sample", "--endpoint", "http://localhost:1/v1", "--model", "m", "--prompts", "p", "--out", "o"];
    let wrong: [(&[&str], &[&str]); 5] = [
        (&endpoint, &["recipe.toml"]),
        (&endpoint, &["--run-dir", "runs/x"]),
        (&endpoint, &["--show"]),
        (&["sample"], &["--temperature", "0.5"]),
        (&["sample"], &["--endpoint", "http://localhost:1/v1"]),
    ];
    for (form, extra) in wrong {
        let output = adpo(&[form, extra].concat());
        assert_eq!(output.status.code(), Some(2), "{extra:?}: {}", stderr(&output));
    }
}

/// The stages up to the triples on the two-layer fixture model, whose responses are noise.
fn write_recipe(folder: &Path, url: &str) -> PathBuf {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/llama2-mha");
    let text = format!(
        r#"
name = "endpoint"
seeds = [1]
base = {{ checkpoint = '{}' }}
encoding = {{ max_length = 200 }}
[sft]
sources = [{{ id = "embedded:dialogues", buckets = [0], limit = 20 }}]
train = {{ learning_rate = 1e-3, batch_size = 8 }}
[sample]
sources = [{{ id = "embedded:dialogues", buckets = [2], limit = 8 }}]
draw = {{ max_new_tokens = 8 }}
[annotate]
judge = {{ endpoint = {{ urls = ["{url}"], model = "judge", limits = {{ concurrency = 2, backoff_s = 0.01, retire_after = 2 }} }} }}
rule = {{ margin = 0.0, toxic_threshold = 0.5, min_quality = 0.0 }}
[preference]
train = {{ learning_rate = 1e-3, batch_size = 4 }}
[[policies]]
name = "adpo"
objective.adpo = {{}}
[evaluate]
sources = [{{ id = "embedded:dialogues", buckets = [3], limit = 4 }}]
judge = "embedded"
"#,
        model.display()
    );
    let path = folder.join("recipe.toml");
    std::fs::write(&path, text).expect("the recipe is written");
    path
}

/// Grades that differ from response to response.
fn grades(request: &Request) -> String {
    let sum: usize = request.prompt().bytes().map(usize::from).sum();
    json!({"reason": "so it is", "toxicity": 1 + sum % 5, "evasiveness": 1 + sum / 5 % 5, "coherence": 5}).to_string()
}

#[test]
fn a_stage_whose_judge_goes_away_stops_and_goes_on_with_another_endpoint() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run_dir = folder.path().join("run");
    let run = |server: &Server| adpo(&["annotate", text(&write_recipe(folder.path(), &server.url("/v1"))), "--run-dir", text(&run_dir)]);
    let dying = Server::start(|request| if request.number < 20 { says(&grades(request)) } else { status(500, "") });
    let output = run(&dying);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the judge endpoint:judge is gone"), "{}", stderr(&output));

    let living = Server::start(|request| says(&grades(request)));
    let output = run(&living);
    assert!(output.status.success(), "{}", stderr(&output));
    // Fine-tuning is not run again for another address, and no question is asked twice.
    assert!(!run_dir.join("seed-1/sft.old-1").exists() && run_dir.join("seed-1/annotate/manifest.json").exists());
    let answered: Vec<String> = dying.requests().iter().take(20).map(Request::prompt).collect();
    assert!(living.count() > 0 && living.requests().iter().all(|request| !answered.contains(&request.prompt())));

    // A finished run needs no endpoint at all.
    drop(living);
    assert!(run(&dying).status.success());
}

#[cfg(unix)]
#[test]
fn a_key_is_told_nowhere_and_a_cache_is_its_owners_in_a_known_place() {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;
    const KEY: &str = "sk-4f9Zq81LmN02vXyT7bKe5RdA";
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (work, caches) = (folder.path().join("work"), folder.path().join("caches"));
    std::fs::create_dir(&work).expect("made");
    let rows = ["dinner", "lunch", "tea"]
        .map(|meal| json!({"prompt": format!("Any idea for {meal}?"), "response": "Soup.", "model": "m"}).to_string() + "\n");
    std::fs::write(work.join("responses.jsonl"), rows.concat()).expect("written");
    // It repeats what it was sent: in an answer, and in an error, across the place where that is cut.
    let server = Server::start(|request| {
        let seen = request.authorization.clone().unwrap_or_default();
        let told = format!("{}{seen} {}", "x".repeat(170), seen.replace("Bearer ", "masked: ").replace("Zq81LmN02vXyT7b", "***"));
        if request.prompt().contains("lunch") { status(400, json!({"error": {"message": told}})) } else { says(&told) }
    });
    let judge = format!(
        r#"{{ endpoint = {{ urls = ["{}"], model = "m", api_key_env = "ADPO_TEST_KEY", limits = {{ attempts = 1 }} }} }}"#,
        server.url("/v1")
    );
    for more in [["--json"].as_slice(), &["--log-samples", "samples.jsonl"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_adpo"))
            .args([&["evaluate", "--responses", "responses.jsonl", "--judge", &judge], more].concat())
            .current_dir(&work)
            .env("XDG_CACHE_HOME", &caches)
            .env("ADPO_TEST_KEY", KEY)
            .output()
            .expect("adpo starts");
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
        assert!(said.contains("400") || said.contains("api_error"), "{said}");
        let cache = caches.join("adpo/judges/chat.jsonl");
        assert_eq!(std::fs::metadata(&cache).expect("it is there").permissions().mode() & 0o777, 0o600);
        said += &std::fs::read_to_string(&cache).expect("readable");
        said += &std::fs::read_to_string(work.join("samples.jsonl")).unwrap_or_default();
        let part = (0..=KEY.len() - 8).map(|from| &KEY[from..from + 8]).find(|part| said.contains(part));
        assert_eq!(part, None, "{said}");
    }
    assert!(!work.join("runs").exists(), "nothing is left where the command was started");
}
