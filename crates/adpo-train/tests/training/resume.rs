//! A run that is killed, anywhere, and resumed ends as if nothing had happened.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use adpo_objective::{Adpo, Dpo, Objective};
use adpo_train::{Reference, TrainOptions, Trained, train_preference, train_sft};
use burn::tensor::Device;

use crate::common::{checkpoints, examples, lora, model, newest_checkpoint, options, triples};

const FOLDER: &str = "ADPO_TEST_RUN_FOLDER";
/// Set where the child trains adapters.
const LORA: &str = "ADPO_TEST_RUN_LORA";
const STEPS: usize = 48;

/// 8 epochs of 6 steps, the order drawn anew in each, a checkpoint every 4 steps.
fn train(folder: &Path, adapters: bool) -> Trained {
    let options = TrainOptions { num_train_epochs: 8, batch_size: 2, gradient_accumulation_steps: 2, save_steps: Some(4), ..options() };
    let reference = Reference::live(model(3), &Device::flex());
    let policy = if adapters { model(3).with_lora(&lora(), 1).expect("it fits") } else { model(3) };
    train_preference(policy, Some(&reference), &triples(24), &Objective::Adpo(Adpo::default()), &options, folder).expect("the run finishes")
}

#[test]
#[ignore = "the process that the next tests kill"]
fn child() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        train(folder.as_ref(), std::env::var_os(LORA).is_some());
    }
}

use KillWhen::{Lines, Writing};

#[derive(Clone, Copy)]
enum KillWhen {
    /// `metrics.jsonl` holds this many lines.
    Lines(usize),
    /// A checkpoint is being written.
    Writing,
}

fn unfinished(run: &Path) -> Vec<PathBuf> {
    checkpoints(run).into_iter().filter(|path| path.extension().is_some_and(|e| e == "tmp")).collect()
}

/// Trains in a process of its own and kills it. Returns whether it was still alive, and whether it left an unfinished
/// checkpoint that was not there before.
fn train_and_kill(run: &Path, adapters: bool, when: KillWhen) -> (bool, bool) {
    let before = unfinished(run);
    let started_writing = || unfinished(run).iter().any(|path| !before.contains(path));
    let mut process = Command::new(std::env::current_exe().expect("the path of this test"))
        .args(["--exact", "resume::child", "--ignored"])
        .env(FOLDER, run)
        .envs(adapters.then_some((LORA, "1")))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the test starts itself");
    loop {
        let now = match when {
            Lines(lines) => std::fs::read_to_string(run.join("metrics.jsonl")).is_ok_and(|text| text.lines().count() >= lines),
            Writing => started_writing(),
        };
        if now {
            break;
        }
        if let Some(status) = process.try_wait().expect("a child can be waited for") {
            assert!(status.success(), "the child failed by itself");
            break;
        }
    }
    // On Unix this is SIGKILL: no destructor, no flush.
    let _ = process.kill();
    let killed = !process.wait().expect("a child can be waited for").success();
    (killed, killed && started_writing())
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("readable"));
    entries.map(|e| (e.file_name().to_string_lossy().into_owned(), std::fs::read(e.path()).expect("a readable file"))).collect()
}

pub(crate) fn assert_equal_runs(found: &Path, expected: &Path) {
    let names = |run: &Path| checkpoints(run).iter().map(|p| p.file_name().map(ToOwned::to_owned)).collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "the same checkpoints are kept, and nothing unfinished");
    for (found, expected) in checkpoints(found).iter().zip(checkpoints(expected)) {
        let (found, expected) = (files(found), files(&expected));
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        let weights = if found.contains_key("adapter_config.json") { "adapter_model.safetensors" } else { "model.safetensors" };
        for needed in [weights, "optimizer.safetensors", "trainer.json"] {
            assert!(found.contains_key(needed), "{needed} is missing");
        }
        for (name, bytes) in &expected {
            assert!(found[name] == *bytes, "{name} differs");
        }
    }
    let metrics = |run: &Path| std::fs::read_to_string(run.join("metrics.jsonl")).expect("metrics are there");
    assert_eq!(metrics(found), metrics(expected));
}

#[test]
fn a_run_killed_again_and_again_ends_bit_equal_to_one_that_never_was() {
    kill_again_and_again(false);
}

#[test]
fn a_run_of_adapters_killed_again_and_again_ends_bit_equal_to_one_that_never_was() {
    kill_again_and_again(true);
}

fn kill_again_and_again(adapters: bool) {
    let (whole, killed) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let expected = train(whole.path(), adapters);
    assert_eq!(expected.history.iter().map(|r| r.step).collect::<Vec<_>>(), (1..=STEPS).collect::<Vec<_>>());

    let moments = [Lines(1), Lines(3), Writing, Lines(10), Writing, Writing, Lines(21), Lines(26), Writing, Lines(41), Lines(STEPS)];
    let outcomes: Vec<(bool, bool)> = moments.iter().map(|when| train_and_kill(killed.path(), adapters, *when)).collect();
    let kills = outcomes.iter().filter(|(killed, _)| *killed).count();
    let torn = outcomes.iter().filter(|(_, torn)| *torn).count();
    println!("{kills} kills of {}, {torn} while a checkpoint was being written", moments.len());
    assert!(kills >= 8, "only {kills} kills came in time");

    let resumed = train(killed.path(), adapters);
    assert_equal_runs(killed.path(), whole.path());
    assert_eq!(crate::common::weights(&resumed.model), crate::common::weights(&expected.model));
}

/// `ulimit -f` is what a full disk is at any size: no file can grow beyond it, and a write that tries fails.
#[cfg(unix)]
#[test]
fn a_checkpoint_that_finds_no_room_is_an_error_that_names_its_file_and_costs_nothing_that_was_there() {
    let (whole, full) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    train(whole.path(), false);
    train_and_kill(full.path(), false, Lines(5));
    let saved = |run: &Path| checkpoints(run).into_iter().filter(|path| !unfinished(run).contains(path)).collect::<Vec<_>>();
    let before = saved(full.path());
    assert!(!before.is_empty(), "the first checkpoint was written");
    // 120 KiB: room for the weights, not for twice as many moments.
    let limited = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 240; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("the path of this test"))
        .args(["--exact", "resume::child", "--ignored"])
        .env(FOLDER, full.path())
        .output()
        .expect("sh starts");
    let said = String::from_utf8_lossy(&limited.stdout).into_owned() + &String::from_utf8_lossy(&limited.stderr);
    assert!(!limited.status.success() && said.contains("optimizer.safetensors"), "{said}");
    assert_eq!(checkpoints(full.path()), before, "the whole ones are still there, and nothing unfinished");

    let resumed = train(full.path(), false);
    assert_equal_runs(full.path(), whole.path());
    assert_eq!(resumed.history.len(), STEPS);
}

#[cfg(unix)]
#[test]
fn every_file_of_a_checkpoint_has_the_rights_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let options = TrainOptions { batch_size: 4, ..options() };
    train_sft(model(3), &examples(8), &options, folder.path()).expect("the run finishes");
    let rights = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let new = folder.path().join("new");
    std::fs::write(&new, "").expect("written");
    for file in std::fs::read_dir(newest_checkpoint(folder.path())).expect("readable").map(|file| file.expect("readable").path()) {
        assert_eq!(rights(&file), rights(&new), "{}", file.display());
    }
}

#[test]
fn a_torn_checkpoint_and_a_torn_line_of_metrics_are_no_obstacle() {
    let (whole, torn) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let options = TrainOptions { num_train_epochs: 2, batch_size: 4, save_steps: Some(3), ..options() };
    let train = |run: &Path| train_sft(model(3), &examples(24), &options, run).expect("the run finishes");
    train(whole.path());
    train(torn.path());
    // Back to step 9, with what a kill at step 12 may leave behind.
    let last = newest_checkpoint(torn.path());
    let unfinished = last.with_file_name(".step-00000012.tmp");
    std::fs::rename(&last, &unfinished).expect("renamed");
    std::fs::write(unfinished.join("optimizer.safetensors"), b"half a").expect("written");
    std::fs::create_dir(last.with_file_name(".step-00000001.tmp")).expect("a folder half removed");
    let path = torn.path().join("metrics.jsonl");
    let text = std::fs::read_to_string(&path).expect("metrics");
    std::fs::write(&path, &text[..text.len() - 30]).expect("written");
    train(torn.path());

    assert_equal_runs(torn.path(), whole.path());
}

#[test]
fn a_finished_run_is_not_run_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = TrainOptions { batch_size: 4, ..options() };
    let first = train_sft(model(3), &examples(8), &options, folder.path()).expect("the run finishes");
    let written = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("it is there");
    let (metrics, timings) = (written("metrics.jsonl"), written("timings.jsonl"));
    let second = train_sft(model(3), &examples(8), &options, folder.path()).expect("the run finishes");
    assert_eq!((written("metrics.jsonl"), written("timings.jsonl")), (metrics, timings));
    assert_eq!(crate::common::weights(&second.model), crate::common::weights(&first.model));
}

#[test]
fn a_run_that_goes_on_with_another_reference_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let objective = Objective::Dpo(Dpo::default());
    let train = |reference: u64, max_steps: usize| {
        let options = TrainOptions { batch_size: 4, max_steps: Some(max_steps), save_steps: Some(1), ..options() };
        let reference = Reference::live(model(reference), &Device::flex());
        train_preference(model(3), Some(&reference), &triples(8), &objective, &options, folder.path())
    };
    train(3, 2).expect("the run finishes");
    let error = train(4, 2).expect_err("another reference").to_string();
    assert!(error.contains("another run"), "{error}");
}

#[test]
fn what_a_clock_said_of_steps_that_are_done_again_is_cut_off_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = TrainOptions { num_train_epochs: 2, batch_size: 4, save_steps: Some(3), ..options() };
    train_sft(model(3), &examples(24), &options, folder.path()).expect("the run finishes");
    // Back to step 9; the last line of timings is torn.
    std::fs::remove_dir_all(newest_checkpoint(folder.path())).expect("removed");
    let path = folder.path().join("timings.jsonl");
    let text = std::fs::read_to_string(&path).expect("timings");
    std::fs::write(&path, &text[..text.len() - 10]).expect("written");
    train_sft(model(3), &examples(24), &options, folder.path()).expect("the run finishes");
    let timings = std::fs::read_to_string(&path).expect("timings");
    let steps: Vec<u64> = timings
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("whole lines")["step"].as_u64().expect("a step"))
        .collect();
    assert_eq!(steps, (1..=12).collect::<Vec<_>>());
}
