//! The frozen reference is the starting point, and computed once.

use adpo_data::{EncodedTriple, read_jsonl};
use adpo_objective::{Adpo, Dpo, Npo, Objective, Orpo, Simpo};
use adpo_train::{Completion, Reference, ReferenceLogProbs, TrainError, TrainOptions, Trained, completion_log_probs, train_preference};
use burn::tensor::Device;
use sha2::{Digest, Sha256};

use crate::common::{model, options, triples};

fn train(objective: &Objective, reference: Option<&Reference>, triples: &[EncodedTriple]) -> Result<Trained, TrainError> {
    let folder = tempfile::tempdir().expect("a folder");
    let options = TrainOptions { num_train_epochs: 10, learning_rate: 1e-2, ..options() };
    train_preference(model(5), reference, triples, objective, &options, folder.path())
}

fn batches_of(batch_size: usize) -> TrainOptions {
    TrainOptions { batch_size, ..options() }
}

#[test]
fn a_reference_that_is_another_model_is_refused() {
    let other = Reference::live(model(6), &Device::flex());
    let error = train(&Objective::Dpo(Dpo::default()), Some(&other), &triples(8)).expect_err("another model");
    assert!(matches!(error, TrainError::Identity { .. }), "{error}");
    let message = error.to_string();
    for part in ["triple:0", "log-ratio", "instead of 0", "must be the checkpoint that the policy starts from"] {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn the_policy_itself_passes_and_the_first_step_starts_at_zero() {
    let reference = Reference::live(model(5), &Device::flex());
    let trained = train(&Objective::Adpo(Adpo::default()), Some(&reference), &triples(8)).expect("it passes");
    for name in ["kl/chosen", "kl/rejected", "kl/toxic", "rewards/margins"] {
        let at_start = trained.history[0].get(name).expect("reported");
        assert!(at_start.abs() < 1e-4, "{name} starts at {at_start}");
    }
    let loss = trained.history[0].get("loss").expect("reported");
    assert!((loss - 2.0 * std::f64::consts::LN_2).abs() < 1e-4, "−2·log σ(0) is 2 log 2, not {loss}");
    assert!(trained.history[9].get("loss").expect("reported") < loss - 0.3, "ADPO does not learn");
}

#[test]
fn objectives_without_a_reference_or_without_a_pair_learn_too() {
    let rows = triples(8);
    let reference = Reference::live(model(5), &Device::flex());
    for objective in [Objective::Simpo(Simpo::default()), Objective::Orpo(Orpo::default()), Objective::Npo(Npo::default())] {
        let trained = train(&objective, objective.needs_reference().then_some(&reference), &rows).expect("it runs");
        let loss = |step: usize| trained.history[step].get("loss").expect("reported");
        assert!(loss(9) < loss(0), "{}: {} → {}", objective.name(), loss(0), loss(9));
    }
}

#[test]
fn an_objective_that_compares_asks_for_its_reference() {
    let error = train(&Objective::Dpo(Dpo::default()), None, &triples(8)).expect_err("no reference").to_string();
    assert!(error.contains("reference"), "{error}");
}

#[test]
fn cached_log_probs_are_read_back_and_a_changed_triple_gets_a_file_of_its_own() {
    let cache = tempfile::tempdir().expect("a folder");
    let objective = Objective::Adpo(Adpo::default());
    let compute =
        |rows: &[EncodedTriple]| Reference::precomputed(&model(5), rows, &objective, &batches_of(3), &Device::flex(), cache.path());
    let files = || {
        let all = std::fs::read_dir(cache.path()).expect("the cache").map(|e| e.expect("an entry").path());
        all.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).collect::<Vec<_>>()
    };

    let mut rows = triples(8);
    compute(&rows).expect("computed");
    let [file] = &files()[..] else { panic!("one file: {:?}", files()) };
    let written = std::fs::metadata(file).and_then(|m| m.modified()).expect("a time");
    let reused = compute(&rows).expect("read back");
    assert_eq!(std::fs::metadata(file).and_then(|m| m.modified()).expect("a time"), written);
    train(&objective, Some(&reused), &rows).expect("a reference read back is the reference");

    // Only the file can be the source of a wrong number.
    let text = std::fs::read_to_string(file).expect("readable");
    let (line, rest) = text.split_once('\n').expect("lines");
    let mut first: serde_json::Value = serde_json::from_str(line).expect("JSON");
    first["chosen"] = (-1.5).into();
    let stale = format!("{first}\n{rest}");
    std::fs::write(file, &stale).expect("written");
    std::fs::write(file.with_extension("sha256"), hex::encode(Sha256::digest(&stale))).expect("written");
    let stale = compute(&rows).expect("read back");
    assert!(matches!(train(&objective, Some(&stale), &rows), Err(TrainError::Identity { .. })));

    rows[7].rejected.push(9);
    compute(&rows).expect("computed");
    assert_eq!(files().len(), 2);
}

#[test]
fn a_completion_scored_alone_has_the_log_prob_that_training_sees() {
    let cache = tempfile::tempdir().expect("a folder");
    let rows = triples(8);
    Reference::precomputed(&model(5), &rows, &Objective::Dpo(Dpo::default()), &batches_of(3), &Device::flex(), cache.path())
        .expect("computed");
    let file = std::fs::read_dir(cache.path()).expect("the cache").next().expect("one file").expect("an entry").path();
    let cached: Vec<ReferenceLogProbs> = read_jsonl(file).expect("readable");
    let completions: Vec<Completion<'_>> = rows
        .iter()
        .map(|row| Completion { prompt: &row.prompt, completion: &row.rejected })
        .chain([Completion { prompt: &[3], completion: &[] }])
        .collect();
    let alone = completion_log_probs(&model(5), &completions, 3, &Device::flex());
    assert_eq!((alone.len(), alone[8]), (9, 0.0), "nothing said has probability one");
    for (alone, cached) in alone.iter().zip(&cached) {
        assert!((alone - f64::from(cached.rejected)).abs() < 1e-4, "{alone} is not {}", cached.rejected);
    }
}

#[test]
fn log_probs_of_other_rows_are_refused() {
    let cache = tempfile::tempdir().expect("a folder");
    let objective = Objective::Dpo(Dpo::default());
    let mut rows = triples(12);
    let reference = Reference::precomputed(&model(5), &rows, &objective, &batches_of(4), &Device::flex(), cache.path()).expect("computed");
    // Beyond the rows that the step-0 identity looks at.
    rows.swap(10, 11);
    let error = train(&objective, Some(&reference), &rows).expect_err("other rows").to_string();
    assert!(error.contains("rows"), "{error}");
}
