//! Names of models that are no folders: GGUF files, and models of the hub that are in its cache.

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{stderr, stdout, text};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

fn tiny_gguf() -> String {
    fixture("tiny-gguf/tiny.gguf").display().to_string()
}

/// `adpo` in this folder, with the hub's cache below it and no way to the hub.
fn adpo(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_adpo"))
        .args(arguments)
        .current_dir(folder)
        .env("HF_HOME", folder.join("hf"))
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE")
        .env_remove("ADPO_DATA")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("adpo starts");
    // It may be gone before it has read everything.
    let _ = child.stdin.take().expect("is a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("adpo ends")
}

/// A response to the same turn by greedy decoding.
fn response(folder: &Path, model: &str) -> String {
    let output = adpo(folder, &["chat", model, "--temperature", "0", "--max-new-tokens", "12"], "Hello there.\n");
    assert!(output.status.success(), "{model}: {}", stderr(&output));
    stdout(&output)
}

fn problem(folder: &Path, arguments: &[&str]) -> String {
    let output = adpo(folder, arguments, "Hello.\n");
    assert!(!output.status.success(), "{arguments:?}: {}", stdout(&output));
    stderr(&output)
}

/// Pairs of one's own, trained on as they are.
fn recipe(folder: &Path, checkpoint: &str, lora: &str) -> PathBuf {
    let rows = ["blue", "red", "green", "grey"].map(|colour| {
        serde_json::json!({"prompt": "Which colour?", "chosen": format!("{colour}."), "rejected": format!("No {colour}.")}).to_string()
            + "\n"
    });
    std::fs::write(folder.join("pairs.jsonl"), rows.concat()).expect("written");
    let text = format!(
        r#"
name = "own"
seeds = [1]
base = {{ checkpoint = '{checkpoint}' }}
encoding = {{ max_length = 60 }}
[preference]
sources = [{{ id = "pairs.jsonl", buckets = [0, 1, 2, 3, 5] }}]
train = {{ learning_rate = 1e-3, batch_size = 2 }}
{lora}
[[policies]]
name = "dpo"
objective.dpo = {{}}
"#
    );
    let path = folder.join("own.toml");
    std::fs::write(&path, text).expect("written");
    path
}

#[test]
fn a_gguf_file_is_a_model_for_every_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let (folder, model) = (folder.path(), tiny_gguf());
    let original = response(folder, &model);
    // As a folder, it says the same.
    let exported = adpo(folder, &["export", &model, "--out", "exported"], "");
    assert!(stdout(&exported).starts_with("written to exported: 288 tokens, there was no control token"), "{}", stderr(&exported));
    assert_eq!(response(folder, "exported"), original);
    // Trained, it is a folder, too.
    let path = recipe(folder, &model, "");
    for command in [["plan", text(&path)].as_slice(), &["run", text(&path)]] {
        let output = adpo(folder, &[command, &["--data-dir", "."]].concat(), "");
        assert!(output.status.success(), "{command:?}: {}", stderr(&output));
    }
    response(folder, "runs/own/seed-1/policies/dpo/model");
}

#[test]
fn adapters_on_a_gguf_file_find_it_from_anywhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    std::fs::copy(tiny_gguf(), folder.join("tiny.gguf")).expect("copied");
    let path = recipe(folder, "tiny.gguf", "lora = { r = 2 }");
    let output = adpo(folder, &["run", text(&path), "--data-dir", "."], "");
    assert!(output.status.success(), "{}", stderr(&output));
    let elsewhere = tempfile::tempdir().expect("a folder");
    let adapters = folder.join("runs/own/seed-1/policies/dpo/model");
    assert!(adapters.join("adapter_config.json").exists());
    response(elsewhere.path(), text(&adapters));
}

#[test]
fn a_file_that_is_cut_off_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = std::fs::read(tiny_gguf()).expect("is there");
    std::fs::write(folder.path().join("cut.gguf"), &whole[..whole.len() - 1]).expect("written");
    let told = problem(folder.path(), &["chat", "cut.gguf"]);
    assert!(told.starts_with("error: cut.gguf: is no GGUF file that can be read: ") && told.contains("cut off"), "{told}");
}

/// Puts a fixture into the hub's cache as its Python package does: blobs, links to them by commit, and a branch.
#[cfg(unix)]
fn cached(folder: &Path, repo: &str, from: &str) {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let repo = folder.join("hf/hub").join(format!("models--{}", repo.replace('/', "--")));
    let (blobs, snapshot, refs) = (repo.join("blobs"), repo.join("snapshots").join(commit), repo.join("refs"));
    for folder in [&blobs, &snapshot, &refs] {
        std::fs::create_dir_all(folder).expect("made");
    }
    for (number, file) in std::fs::read_dir(fixture(from)).expect("is there").enumerate() {
        let file = file.expect("is there");
        let blob = format!("{number:040x}");
        std::fs::copy(file.path(), blobs.join(&blob)).expect("copied");
        std::os::unix::fs::symlink(Path::new("../../blobs").join(&blob), snapshot.join(file.file_name())).expect("linked");
    }
    std::fs::write(refs.join("main"), commit).expect("written");
}

#[cfg(unix)]
#[test]
fn a_model_that_was_fetched_before_is_found_by_its_name_with_no_way_to_the_hub() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    cached(folder, "org/whole", "llama2-mha");
    cached(folder, "org/sharded", "llama3-gqa-tied-sharded-bf16");
    for (name, from) in [("org/whole", "llama2-mha"), ("org/sharded", "llama3-gqa-tied-sharded-bf16")] {
        let expected = response(folder, text(&fixture(from)));
        assert_eq!(response(folder, name), expected);
        // A folder of that name goes before it.
        std::fs::create_dir_all(folder.join(name)).expect("made");
        assert!(problem(folder, &["chat", name]).contains("is a folder without a config.json"));
        std::fs::remove_dir(folder.join(name)).expect("removed");
    }
}

#[test]
fn a_name_that_leads_nowhere_says_what_it_may_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    std::fs::create_dir_all(folder.join("my-model/final")).expect("made");
    let path = recipe(folder, "my-modle/final", "");
    for arguments in [
        ["chat", "my-modle/final"].as_slice(),
        &["export", "my-modle/final", "--out", "exported"],
        &["plan", text(&path), "--data-dir", "."],
        &["run", text(&path), "--data-dir", "."],
    ] {
        let told = problem(folder, &[arguments, &["--offline"]].concat());
        for part in [
            "checkpoint `my-modle/final`: there is no such folder or file in ",
            "(did you mean `my-model/final`?)",
            "and as a model of the hub it is not in the hub's cache (",
            "A checkpoint is a Hugging Face or PEFT folder, a `.gguf` file, `org/name` of a model on the hub, or `embedded:tiny-base`",
        ] {
            assert!(told.contains(part), "{arguments:?}: `{part}` is not in: {told}");
        }
        assert!(!told.contains("os error"), "{told}");
    }
    assert!(!folder.join("exported").exists(), "nothing is made for a model that is not there");
}

#[cfg(not(feature = "hub"))]
#[test]
fn a_program_without_the_hub_says_how_to_build_one_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = problem(folder.path(), &["chat", "org/name"]);
    assert!(
        told.contains("built without the feature `hub`") && told.contains("`--features hub`") && told.contains("`hf download org/name`")
    );
}
