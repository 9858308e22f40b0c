//! That training trains, and what it leaves alone.

use adpo_train::{TrainOptions, Trained, train_sft};

use crate::common::{checkpoints, examples, model, options, weights};

fn train(options: &TrainOptions) -> Trained {
    let folder = tempfile::tempdir().expect("a folder");
    train_sft(model(1), &examples(4), options, folder.path()).expect("the run finishes")
}

#[test]
fn four_sequences_are_learnt_by_heart() {
    let trained = train(&TrainOptions { num_train_epochs: 80, batch_size: 4, learning_rate: 1e-2, ..options() });
    let at = |step: usize, name: &str| trained.history[step].get(name).expect("reported");
    assert!(at(0, "loss") > 3.0 && at(79, "loss") < 0.1, "{} → {}", at(0, "loss"), at(79, "loss"));
    assert!(at(79, "mean_token_accuracy") > 0.98);
    assert!(at(79, "entropy") < at(0, "entropy"));
}

#[test]
fn weight_decay_leaves_norms_alone() {
    let one_step = |weight_decay| {
        let options = TrainOptions {
            max_steps: Some(1),
            batch_size: 4,
            weight_decay,
            lr_scheduler_type: adpo_train::LrScheduler::Constant,
            ..options()
        };
        weights(&train(&options).model)
    };
    let (without, with) = (one_step(0.0), one_step(0.5));
    for ((name, without), (_, with)) in without.iter().zip(&with) {
        assert_eq!(without == with, name.ends_with("norm.weight"), "{name}");
    }
}

#[test]
fn clipping_bounds_the_step_and_zero_turns_it_off() {
    // With ε far above the gradient, Adam's first step is proportional to the gradient.
    let moved = |max_grad_norm| {
        let options = TrainOptions { max_steps: Some(1), batch_size: 4, adam_epsilon: 1e3, learning_rate: 1e3, max_grad_norm, ..options() };
        let trained = train(&options);
        (crate::common::distance(&trained.model, &model(1)), trained.history[0].get("grad_norm").expect("reported"))
    };
    let ((free, norm), (clipped, same_norm)) = (moved(0.0), moved(0.01));
    assert_eq!(norm, same_norm, "the norm is reported before clipping");
    let expected = f64::from(free) * 0.01 / norm;
    assert!((f64::from(clipped) / expected - 1.0).abs() < 0.02, "{clipped} instead of {expected}");
}

#[test]
fn only_the_newest_checkpoints_are_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = TrainOptions { num_train_epochs: 7, batch_size: 4, save_steps: Some(2), save_total_limit: Some(3), ..options() };
    train_sft(model(1), &examples(4), &options, folder.path()).expect("the run finishes");
    let kept: Vec<String> = checkpoints(folder.path()).iter().filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned())).collect();
    assert_eq!(kept, ["step-00000004", "step-00000006", "step-00000007"]);
}
