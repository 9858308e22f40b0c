//! Rows in a mapped file train as rows in memory do.

use std::path::Path;

use adpo_data::{EncodedRows, EncodedTriple, TokenCache};
use adpo_objective::{Adpo, Objective};
use adpo_train::{Reference, SftExample, TrainOptions, Trained, train_preference, train_sft};
use burn::tensor::Device;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::common::{distance, examples, model, newest_checkpoint, options, triples};

fn cached<T: Serialize + DeserializeOwned>(folder: &Path, rows: &[T]) -> TokenCache<T> {
    let made = TokenCache::open_or_make(folder, "rows", &rows.len(), |cache| {
        rows.iter().try_for_each(|row| cache.push(row))?;
        Ok::<_, adpo_data::DataError>(serde_json::Value::Null)
    });
    made.expect("it is made")
}

fn metrics(run: &Path) -> String {
    std::fs::read_to_string(run.join("metrics.jsonl")).expect("metrics")
}

fn train(rows: &(impl EncodedRows<EncodedTriple> + ?Sized), objective: &Objective, options: &TrainOptions, run: &Path) -> Trained {
    let reference = Reference::precomputed(&model(3), rows, objective, options, &Device::flex(), &run.join("reference"));
    train_preference(model(3), Some(&reference.expect("computed")), rows, objective, options, run).expect("it runs")
}

#[test]
fn a_run_from_a_cache_stopped_within_an_epoch_ends_bit_equal_to_one_from_memory() {
    let (memory, mapped) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let rows = triples(26);
    let cache = cached(mapped.path(), &rows);
    // Epochs of 7 steps; checkpoints after 3, 6, 9 and 12.
    let options = TrainOptions { num_train_epochs: 2, batch_size: 4, save_steps: Some(3), save_total_limit: Some(9), ..options() };
    let objective = Objective::Adpo(Adpo::default());
    let expected = train(&rows, &objective, &options, memory.path());
    train(&cache, &objective, &options, mapped.path());
    while !newest_checkpoint(mapped.path()).ends_with("step-00000003") {
        std::fs::remove_dir_all(newest_checkpoint(mapped.path())).expect("removed");
    }
    let resumed = train(&cache, &objective, &options, mapped.path());
    assert_eq!(metrics(mapped.path()), metrics(memory.path()));
    assert_eq!(distance(&resumed.model, &expected.model), 0.0);
    // The other way round: rows in memory go on with what rows in a file began.
    let finished = train(&rows, &objective, &options, mapped.path());
    assert_eq!(distance(&finished.model, &expected.model), 0.0);
}

#[test]
fn dialogues_train_from_a_cache_too_and_one_that_cannot_be_trained_on_is_named() {
    let (memory, mapped) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let rows = examples(12);
    let options = TrainOptions { batch_size: 4, ..options() };
    let expected = train_sft(model(3), &rows, &options, memory.path()).expect("it runs");
    let found = train_sft(model(3), &cached(mapped.path(), &rows), &options, mapped.path()).expect("it runs");
    assert_eq!(metrics(mapped.path()), metrics(memory.path()));
    assert_eq!(distance(&found.model, &expected.model), 0.0);

    let mut wrong: Vec<SftExample> = examples(5);
    wrong[3].encoded.ids[1] = 9999;
    let error = train_sft(model(3), &cached(mapped.path(), &wrong), &options, &mapped.path().join("wrong")).expect_err("no such id");
    assert!(error.to_string().contains("sft:3") && error.to_string().contains("9999"), "{error}");
}
