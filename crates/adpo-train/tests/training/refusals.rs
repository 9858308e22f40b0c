//! What cannot work stops with an error that says what and where.

use std::path::{Path, PathBuf};

use adpo_objective::{Dpo, Hinge, Objective};
use adpo_train::{Reference, TrainError, TrainOptions, train_preference, train_sft};
use burn::tensor::Device;

use crate::common::{checkpoints, examples, model, options, triples};

fn six_steps() -> TrainOptions {
    TrainOptions { batch_size: 4, save_steps: Some(2), shuffle: false, ..options() }
}

fn sft(run: &Path, options: &TrainOptions) -> Result<(), TrainError> {
    train_sft(model(1), &examples(24), options, run).map(|_| ())
}

fn assert_names(error: &TrainError, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn an_exploded_run_names_step_rows_and_the_last_good_checkpoint() {
    let run = tempfile::tempdir().expect("a folder");
    let options = TrainOptions { learning_rate: 1e18, save_steps: Some(1), ..six_steps() };
    let error = sft(run.path(), &options).expect_err("1e18 is too much");
    assert!(matches!(error, TrainError::NotFinite { step: 2, .. }), "{error}");
    let checkpoint = run.path().join("checkpoints/step-00000001");
    assert_names(&error, &["step 2", "sft:4", "sft:7", &checkpoint.display().to_string(), "Lower the learning rate"]);
    assert!(!error.to_string().contains("sft:3") && !error.to_string().contains("sft:8"), "only the rows of that step: {error}");
    assert!(checkpoint.join("optimizer.safetensors").exists());
    let metrics = std::fs::read_to_string(run.path().join("metrics.jsonl")).expect("metrics");
    assert_eq!(metrics.lines().count(), 1, "a step that failed is not a step: {metrics}");
    let again = sft(run.path(), &options).expect_err("a resume meets the same step");
    assert_eq!(again.to_string(), error.to_string());
}

#[test]
fn broken_starting_weights_are_told_before_anything_is_written() {
    struct Infinite;
    impl adpo_model::ParameterMap for Infinite {
        fn map<const D: usize>(
            &mut self,
            name: &str,
            param: burn::module::Param<burn::tensor::Tensor<D>>,
        ) -> burn::module::Param<burn::tensor::Tensor<D>> {
            if name == "model.norm.weight" { param.map(|t| t.mul_scalar(f32::INFINITY)) } else { param }
        }
    }
    let run = tempfile::tempdir().expect("a folder");
    let broken = model(1).map_parameters(&mut Infinite);
    let error = train_sft(broken, &examples(8), &six_steps(), run.path()).expect_err("infinite weights");
    assert_names(&error, &["loss", "step 1", "none: no step was saved yet"]);
}

#[test]
fn a_folder_of_another_run_is_refused() {
    let run = tempfile::tempdir().expect("a folder");
    let options = six_steps();
    sft(run.path(), &options).expect("the run finishes");
    let other_options = [
        TrainOptions { learning_rate: 1e-4, ..options.clone() },
        TrainOptions { seed: 7, ..options.clone() },
        TrainOptions { batch_size: 2, ..options.clone() },
    ];
    let mut refused: Vec<Result<(), TrainError>> = other_options.iter().map(|o| sft(run.path(), o)).collect();
    refused.push(train_sft(model(2), &examples(24), &options, run.path()).map(|_| ()));
    let mut rows = examples(24);
    rows[23].encoded.trained[3] = false;
    refused.push(train_sft(model(1), &rows, &options, run.path()).map(|_| ()));
    for result in refused {
        assert_names(&result.expect_err("another run"), &["step-00000006", "another run", "new folder"]);
    }
    let how_often = TrainOptions { save_steps: None, save_total_limit: Some(9), ..options };
    sft(run.path(), &how_often).expect("how often checkpoints are written is not part of a run");
}

#[test]
fn a_folder_of_another_objective_is_refused() {
    let run = tempfile::tempdir().expect("a folder");
    let reference = Reference::live(model(1), &Device::flex());
    let train = |objective| train_preference(model(1), Some(&reference), &triples(8), &objective, &six_steps(), run.path());
    train(Objective::Dpo(Dpo::default())).expect("the run finishes");
    assert_names(&train(Objective::Hinge(Hinge::default())).expect_err("another objective"), &["another run"]);
}

/// What a run leaves: the weights of its last checkpoint, and its metrics.
fn result(run: &Path) -> [Vec<u8>; 2] {
    let read = |path: &Path| std::fs::read(path).expect("is there");
    [read(&newest_checkpoint_of(run).join("model.safetensors")), read(&run.join("metrics.jsonl"))]
}

#[test]
fn a_damaged_checkpoint_is_set_aside_and_training_goes_on_from_the_one_before_it() {
    type Damage = fn(&mut Vec<u8>);
    let flip: Damage = |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    };
    let damages: [(&str, Damage); 10] = [
        ("model.safetensors", flip),
        ("model.safetensors", |bytes| *bytes.last_mut().expect("a byte") ^= 1),
        ("model.safetensors", |bytes| bytes.truncate(bytes.len() - 5)),
        ("optimizer.safetensors", flip),
        ("optimizer.safetensors", |bytes| bytes.clear()),
        ("config.json", |bytes| *bytes = b"[]".to_vec()),
        ("trainer.json", |bytes| *bytes = b"{\"step\": ".to_vec()),
        ("trainer.json", |bytes| *bytes = b"\xff\xfe".to_vec()),
        // Another step or other counts are no less a damage than a broken file.
        ("trainer.json", |bytes| *bytes = String::from_utf8_lossy(bytes).replace("\"step\": 6", "\"step\": 5").into_bytes()),
        ("trainer.json", |bytes| *bytes = String::from_utf8_lossy(bytes).replace("\"num_tokens\": ", "\"num_tokens\": 1").into_bytes()),
    ];
    let run = tempfile::tempdir().expect("a folder");
    sft(run.path(), &six_steps()).expect("the run finishes");
    let expected = result(run.path());
    let aside = run.path().join("checkpoints/damaged-step-00000006");
    for (name, damage) in damages {
        let file = newest_checkpoint_of(run.path()).join(name);
        let whole = std::fs::read(&file).expect("readable");
        let mut bytes = whole.clone();
        damage(&mut bytes);
        assert_ne!(bytes, whole, "{name}");
        std::fs::write(&file, bytes).expect("written");
        sft(run.path(), &six_steps()).expect("it goes on from the one before");
        assert!(aside.join(name).exists(), "{name} is kept");
        assert!(result(run.path()) == expected, "{name}: the same weights and metrics");
    }
    // None is left.
    for step in ["step-00000006", "step-00000004"] {
        std::fs::write(run.path().join("checkpoints").join(step).join("model.safetensors"), "").expect("written");
    }
    sft(run.path(), &six_steps()).expect("it starts anew");
    assert!(result(run.path()) == expected);
}

/// The newest checkpoint that was not set aside.
fn newest_checkpoint_of(run: &Path) -> PathBuf {
    let is_step = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-"));
    checkpoints(run).into_iter().rfind(is_step).expect("there is one")
}

#[test]
fn damaged_metrics_are_written_anew() {
    let run = tempfile::tempdir().expect("a folder");
    sft(run.path(), &six_steps()).expect("the run finishes");
    let (expected, path) = (result(run.path()), run.path().join("metrics.jsonl"));
    let whole = std::fs::read_to_string(&path).expect("readable");
    let digit = whole.find("\"loss\":").expect("a loss") + 9;
    let mut flipped = whole.clone().into_bytes();
    flipped[digit] = if flipped[digit] == b'7' { b'8' } else { b'7' };
    for damaged in [Vec::new(), flipped, whole.as_bytes()[..whole.len() / 2].to_vec(), b"\xff".to_vec()] {
        std::fs::write(&path, damaged).expect("written");
        sft(run.path(), &six_steps()).expect("it goes on from where they are whole, or starts anew");
        assert!(result(run.path()) == expected);
    }
}

#[test]
fn a_damaged_cache_of_the_reference_is_computed_anew() {
    let (run, cache) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let objective = Objective::Dpo(Dpo::default());
    let precomputed =
        || Reference::precomputed(&model(1), &triples(8), &objective, &six_steps(), &Device::flex(), cache.path()).expect("computed");
    let train = |reference: &Reference, run: &Path| {
        train_preference(model(1), Some(reference), &triples(8), &objective, &six_steps(), run).expect("the run finishes");
        result(run)
    };
    let expected = train(&precomputed(), run.path());
    let entries = std::fs::read_dir(cache.path()).expect("is there").map(|entry| entry.expect("readable").path());
    let file = entries.into_iter().find(|path| path.extension().is_some_and(|e| e == "jsonl")).expect("the cache");
    let whole = std::fs::read_to_string(&file).expect("readable");
    std::fs::write(&file, whole.replacen("-1", "-2", 1)).expect("written");
    assert_ne!(std::fs::read_to_string(&file).expect("readable"), whole);
    let again = tempfile::tempdir().expect("a folder");
    assert!(train(&precomputed(), again.path()) == expected);
    assert_eq!(std::fs::read_to_string(&file).expect("readable"), whole);
}

#[test]
fn rows_that_cannot_be_trained_on_are_named() {
    let run = tempfile::tempdir().expect("a folder");
    let broken: [(&str, fn(&mut adpo_data::Encoded)); 3] =
        [("vocabulary", |e| e.ids[2] = 64), ("trained", |e| e.trained.fill(false)), ("trained", |e| e.trained.truncate(2))];
    for (problem, damage) in broken {
        let mut rows = examples(24);
        damage(&mut rows[5].encoded);
        assert_names(&train_sft(model(1), &rows, &six_steps(), run.path()).expect_err(problem), &["sft:5", problem]);
    }
    let reference = Reference::live(model(1), &Device::flex());
    let broken: [(&str, fn(&mut adpo_data::EncodedTriple)); 4] = [
        ("vocabulary", |t| t.rejected[0] = 64),
        ("chosen", |t| t.chosen.clear()),
        ("prompt", |t| t.prompt.clear()),
        ("toxic", |t| t.toxic = None),
    ];
    for (problem, damage) in broken {
        let mut rows = triples(8);
        damage(&mut rows[5]);
        let objective = Objective::Adpo(adpo_objective::Adpo::default());
        let result = train_preference(model(1), Some(&reference), &rows, &objective, &six_steps(), run.path());
        assert_names(&result.expect_err(problem), &["triple:5", problem]);
    }
    assert!(matches!(train_sft(model(1), &examples(0), &six_steps(), run.path()), Err(TrainError::NoExamples)));
}
