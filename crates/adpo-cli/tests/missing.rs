//! Whatever is missing, the error names it and says what to do. The snapshot has the command lines and what they end with.

mod common;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use common::text;

/// A recipe with a line in place of another one.
fn recipe(folder: &Path, name: &str, from: &str, to: &str) {
    let own = r#"name = "own"
seeds = [1]
base = { checkpoint = "embedded:tiny-base" }
encoding = { max_length = 100 }
[preference]
sources = [{ id = "pairs.jsonl", buckets = [0, 1, 2, 3] }]
train = { max_steps = 1 }
[[policies]]
name = "dpo"
objective.dpo = {}
"#;
    assert!(own.contains(from), "{from:?} is not in the recipe");
    std::fs::write(folder.join(name), own.replace(from, to)).expect("writable");
}

/// What the command lines end with, one after the other; a folder's name is none of it.
fn told(folder: &Path, lines: &[&str]) -> String {
    let mut seen = String::new();
    for line in lines {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adpo"));
        let output = command.args(line.split(' ')).current_dir(folder).env_remove("ADPO_DATA").output().expect("adpo starts");
        let said = String::from_utf8_lossy(&output.stderr).replace(text(folder), "FOLDER");
        assert!(!output.status.success() && !said.contains("panicked"), "{line}: {said}");
        let _ = write!(seen, "$ adpo {line}\n{}\n", said.trim_start());
    }
    seen
}

#[test]
fn what_is_missing_is_named_with_the_fix() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    std::fs::create_dir(folder.join("data")).expect("made");
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("writable");
    write("empty.jsonl", "");
    write("data/pairs.jsonl", r#"{"prompt": "Paint?", "chosen": "An hour."}"#);
    write("questions.jsonl", r#"{"question": "Paint?", "answer": "An hour."}"#);
    write("nobody.jsonl", r#"{"prompt": "Paint?", "response": "An hour."}"#);
    recipe(folder, "own.toml", "", "");
    recipe(folder, "nameless.toml", "name = \"own\"\n", "");
    recipe(folder, "seedless.toml", "seeds = [1]\n", "");
    recipe(folder, "baseless.toml", "base = { checkpoint = \"embedded:tiny-base\" }\n", "");
    recipe(folder, "unlimited.toml", "encoding = { max_length = 100 }\n", "");
    recipe(folder, "aimless.toml", "objective.dpo = {}\n", "");
    recipe(folder, "sourceless.toml", "sources = [{ id = \"pairs.jsonl\", buckets = [0, 1, 2, 3] }]\n", "");
    recipe(folder, "other-id.toml", "pairs.jsonl", "others.jsonl");
    recipe(folder, "other-base.toml", "embedded:tiny-base", "embedded:large-base");
    recipe(folder, "buckets.toml", ", buckets = [0, 1, 2, 3]", "");
    insta::assert_snapshot!(told(
        folder,
        &[
            "run no/such.toml",
            "run data",
            "run own.toml",
            "run own.toml --data-dir no/such",
            "run other-id.toml --data-dir data",
            "run own.toml --data-dir data",
            "plan other-base.toml --data-dir data",
            "plan nameless.toml --data-dir data",
            "plan seedless.toml --data-dir data",
            "plan baseless.toml --data-dir data",
            "plan unlimited.toml --data-dir data",
            "plan aimless.toml --data-dir data",
            "plan sourceless.toml --data-dir data",
            "plan buckets.toml --data-dir data",
            "data inspect no/such.jsonl",
            "data inspect data",
            "data inspect empty.jsonl",
            "data inspect questions.jsonl",
            "evaluate --responses no/such.jsonl",
            "evaluate --responses empty.jsonl",
            "evaluate --responses nobody.jsonl",
            "evaluators validate",
            "evaluators validate --data-dir data",
            "pretrain no/such.toml --data-dir data --out out",
            "bench step --size 8m",
            "bench step --rows no/such.jsonl",
            "bench rows no/such.jsonl --out rows.jsonl",
            "serve embedded:tiny-base --api-key-env NO_SUCH_KEY",
        ]
    ));
}

#[cfg(not(any(feature = "cuda", feature = "parquet", feature = "https", feature = "wgpu")))]
#[test]
fn a_feature_that_a_build_lacks_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("rows.parquet"), b"PAR1\x15\x04\x15\xff").expect("writable");
    std::fs::write(folder.path().join("rows.jsonl"), r#"{"prompt": "Paint?"}"#).expect("writable");
    insta::assert_snapshot!(told(
        folder.path(),
        &[
            "data inspect rows.parquet",
            "bench step --device cuda",
            "bench step --device wgpu",
            "sample --endpoint https://example.com/v1 --model m --prompts rows.jsonl --out responses.jsonl",
        ]
    ));
}
