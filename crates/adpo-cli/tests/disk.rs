//! A disk that fills up. `ulimit -f` stands in for it at any size: no file can grow beyond it, and a write that tries fails.
#![cfg(unix)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{adpo, stderr, text, timeless, write_recipe};

/// [`adpo`] where no file can have more than this many KiB.
fn limited(kib: usize, arguments: &[&str]) -> Output {
    // dash and bash count in other units, so the unit is found out.
    let script = format!(
        "trap '' XFSZ; unit=$(ulimit -f 1; head -c 1024 /dev/zero > \"$0.unit\" 2>/dev/null; wc -c < \"$0.unit\"); rm -f \"$0.unit\"
         ulimit -f $(({kib} * 1024 / unit)); exec \"$@\""
    );
    let scratch = std::env::temp_dir().join(format!("adpo-limit-{}", std::process::id()));
    Command::new("sh")
        .args(["-c", &script, text(&scratch), env!("CARGO_BIN_EXE_adpo")])
        .args(arguments)
        .env_remove("ADPO_DATA")
        .output()
        .expect("sh starts")
}

/// Files below a folder with their contents, without what a clock said.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn below(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path());
        entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
    }
    let clocked = ["report.json", "report.md", "report.html"].map(|name| folder.join(name));
    let files = below(folder).into_iter().filter(|path| !path.ends_with("timings.jsonl") && !clocked.contains(path));
    files.map(|path| (path.strip_prefix(folder).expect("below").to_owned(), std::fs::read(&path).expect("readable"))).collect()
}

#[test]
fn whatever_file_finds_no_room_is_named_and_the_run_goes_on_from_there() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (recipe, whole, full) = (write_recipe(folder.path()), folder.path().join("whole"), folder.path().join("full"));
    let expected = adpo(&["run", text(&recipe), "--run-dir", text(&whole), "--json"]);
    assert!(expected.status.success(), "{}", stderr(&expected));

    let run_dir = ["--run-dir", text(&full)];
    let fails = |kib: usize, at: &str| {
        let output = limited(kib, &[&["run", text(&recipe)], &run_dir[..]].concat());
        let said = stderr(&output);
        assert!(output.status.code() == Some(1) && said.contains(at), "{kib} KiB, `{at}`: {said}");
        let message = said.lines().last().unwrap_or_default();
        assert!(message.contains(": File too large (os error 27); make room and run the same again"), "{message}");
        let left = contents(&full).into_keys().find(|path| path.to_string_lossy().contains("tmp"));
        assert_eq!(left, None, "{kib} KiB: what was half written is gone");
    };
    let goes_on = |until: &str| {
        let output = adpo(&[&[until, text(&recipe)], &run_dir[..]].concat());
        assert!(output.status.success(), "{until}: {}", stderr(&output));
    };
    let lost = |path: &str| {
        let path = full.join("seed-1").join(path);
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.expect("it was there");
    };

    fails(0, "full/recipe.toml");
    fails(4, "seed-1/tokens/sft-");
    fails(20, "seed-1/sft/checkpoints/.step-00000002.tmp/model.safetensors");
    fails(800, "seed-1/sft/checkpoints/.step-00000002.tmp/optimizer.safetensors");
    goes_on("sft");
    // As if training had just ended.
    lost("sft/manifest.json");
    fails(500, "seed-1/sft/.model.tmp/model.safetensors");
    goes_on("sft");
    fails(4, "seed-1/sample/parts/00000.jsonl");
    fails(450, "seed-1/sample/candidates.jsonl");
    goes_on("sample");
    fails(4, "seed-1/annotate/");
    goes_on("annotate");
    fails(4, "seed-1/tokens/triples-");
    fails(60, "seed-1/policies/adpo/checkpoints/.step-00000013.tmp/model.safetensors");
    fails(4, "seed-1/policies/adpo/metrics.jsonl");
    lost("reference");
    fails(4, "seed-1/reference/reference-");
    goes_on("train");
    fails(4, "seed-1/responses/sft/responses.jsonl");
    goes_on("evaluate");
    fails(60, "seed-1/report/report.json");
    let output = adpo(&[&["run", text(&recipe), "--json"], &run_dir[..]].concat());
    assert_eq!(timeless(&output), timeless(&expected), "{}", stderr(&output));
    let (found, expected) = (contents(&full), contents(&whole));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, bytes) in &expected {
        assert!(found[path] == *bytes, "{} differs", path.display());
    }
}
