//! Event files hold what `metrics.jsonl` holds. `tests/tensorboard/read.py` lets TensorBoard read them.

use std::path::{Path, PathBuf};

use adpo_train::{TrainOptions, train_sft};

use crate::common::{examples, model, newest_checkpoint, options};

fn event_files(run: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(run).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.filter(|path| path.to_string_lossy().contains(".tfevents.")).collect()
}

/// The messages of a file of TFRecords.
fn records(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).expect("readable");
    let (mut rest, mut found) = (bytes.as_slice(), Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<8>() {
        let length = usize::try_from(u64::from_le_bytes(*length)).expect("fits");
        // A checksum of four bytes on each side.
        found.push(after[4..4 + length].to_vec());
        rest = &after[8 + length..];
    }
    found
}

#[test]
fn a_training_that_goes_on_leaves_one_event_file_with_every_step_once() {
    let run = tempfile::tempdir().expect("a folder");
    let rows = examples(24);
    let options = TrainOptions { batch_size: 4, save_steps: Some(3), tensorboard: true, ..options() };
    let history = train_sft(model(3), &rows, &options, run.path()).expect("it runs").history;
    let numbers: usize = history.iter().map(|step| step.values.len()).sum();
    // As if killed after the third step, which is the last but one that was saved.
    std::fs::remove_dir_all(newest_checkpoint(run.path())).expect("removed");
    train_sft(model(3), &rows, &options, run.path()).expect("it goes on");
    let files = event_files(run.path());
    assert_eq!(files.len(), 1, "{files:?}");
    let records = records(&files[0]);
    assert!(records[0].ends_with(b"brain.Event:2"));
    assert_eq!(records.len(), 2 + numbers, "the version, the restart, and each number");
    let losses = records.iter().filter(|record| record.windows(6).any(|bytes| bytes == b"\x0a\x04loss"));
    assert_eq!(losses.count(), history.len());
}

#[test]
fn nobody_gets_event_files_who_does_not_ask_for_them() {
    let run = tempfile::tempdir().expect("a folder");
    train_sft(model(3), &examples(4), &options(), run.path()).expect("it runs");
    assert_eq!(event_files(run.path()), Vec::<PathBuf>::new());
}
