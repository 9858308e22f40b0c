//! What cannot work stops with an error that says what and where.

use std::path::Path;

use adpo_objective::{Dpo, Hinge, Objective};
use adpo_train::{Reference, TrainError, TrainOptions, train_preference, train_sft};
use burn::tensor::Device;

use crate::common::{examples, model, newest_checkpoint, options, triples};

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

#[test]
fn damaged_files_of_a_checkpoint_are_named() {
    type Damage = fn(&[u8]) -> Vec<u8>;
    let damages: [(&str, Damage); 6] = [
        ("optimizer.safetensors", |bytes| bytes[..bytes.len() / 2].to_vec()),
        ("optimizer.safetensors", |_| Vec::new()),
        ("model.safetensors", |bytes| bytes[..bytes.len() - 5].to_vec()),
        ("trainer.json", |_| b"{\"step\": ".to_vec()),
        ("trainer.json", |_| b"\xff\xfe".to_vec()),
        ("config.json", |_| b"[]".to_vec()),
    ];
    let run = tempfile::tempdir().expect("a folder");
    sft(run.path(), &six_steps()).expect("the run finishes");
    for (name, damage) in damages {
        let file = newest_checkpoint(run.path()).join(name);
        let whole = std::fs::read(&file).expect("readable");
        std::fs::write(&file, damage(&whole)).expect("written");
        let fix = "delete this checkpoint's folder, and the run goes on from the one before it";
        assert_names(&sft(run.path(), &six_steps()).expect_err(name), &[&file.display().to_string(), fix]);
        std::fs::write(&file, whole).expect("written");
    }
    sft(run.path(), &six_steps()).expect("the files are whole again");
}

#[test]
fn moments_of_another_shape_and_missing_ones_are_named() {
    use safetensors::tensor::{Dtype, SafeTensors, TensorView};
    let run = tempfile::tempdir().expect("a folder");
    sft(run.path(), &six_steps()).expect("the run finishes");
    let file = newest_checkpoint(run.path()).join("optimizer.safetensors");
    let whole = std::fs::read(&file).expect("readable");
    let tensors = SafeTensors::deserialize(&whole).expect("whole").tensors();
    let victim = "second.model.norm.weight";
    let short = TensorView::new(Dtype::F32, vec![1], &[0; 4]).expect("a view");
    for replacement in [None, Some(short)] {
        let rest = tensors.iter().filter(|(name, _)| name != victim).cloned();
        let all = rest.chain(replacement.map(|view| (victim.to_owned(), view)));
        std::fs::write(&file, safetensors::serialize(all, None).expect("serialised")).expect("written");
        assert_names(&sft(run.path(), &six_steps()).expect_err("damaged"), &["optimizer.safetensors", victim]);
    }
}

#[test]
fn metrics_that_lack_steps_are_named() {
    let run = tempfile::tempdir().expect("a folder");
    sft(run.path(), &six_steps()).expect("the run finishes");
    std::fs::write(run.path().join("metrics.jsonl"), "").expect("written");
    assert_names(&sft(run.path(), &six_steps()).expect_err("no metrics"), &["metrics.jsonl", "0 of the 6 steps"]);
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
