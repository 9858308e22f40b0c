//! How a step is cut into forward passes changes nothing but memory.

use adpo_objective::{Adpo, Anchor, Link, Objective};
use adpo_train::{Reference, TrainOptions, Trained, mean_nll, train_preference, train_sft};
use burn::tensor::Device;

use crate::common::{distance, examples, model, options, triples, weights};

fn sft(options: &TrainOptions) -> Trained {
    let folder = tempfile::tempdir().expect("a temporary folder");
    train_sft(model(1), &examples(24), options, folder.path()).expect("the run finishes")
}

fn adpo(options: &TrainOptions) -> Trained {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let objective = Objective::Adpo(Adpo { link: Link::Pair, anchor: Anchor::Tox, nll_weight: 0.5, ..Adpo::default() });
    let reference = Reference::live(model(1), &Device::flex());
    train_preference(model(1), Some(&reference), &triples(24), &objective, options, folder.path()).expect("the run finishes")
}

fn assert_same(a: &Trained, b: &Trained, names: &[&str]) {
    assert_eq!((a.history.len(), b.history.len()), (6, 6));
    for (a, b) in a.history.iter().zip(&b.history) {
        for name in names {
            let (x, y) = (a.get(name).expect("reported"), b.get(name).expect("reported"));
            assert!((x - y).abs() <= 1e-5 * x.abs().max(1.0), "step {}, {name}: {x} and {y}", a.step);
        }
    }
    let apart = distance(&a.model, &b.model);
    assert!(apart <= 1e-5, "weights are {apart} apart");
    assert!(distance(&a.model, &model(1)) > 1e-3, "the weights did not move: nothing was compared");
}

fn two_epochs(batch_size: usize, gradient_accumulation_steps: usize) -> TrainOptions {
    TrainOptions { num_train_epochs: 2, batch_size, gradient_accumulation_steps, ..options() }
}

#[test]
fn eight_forward_passes_of_one_sequence_equal_one_of_eight() {
    let (once, often) = (sft(&two_epochs(8, 1)), sft(&two_epochs(1, 8)));
    assert_same(&once, &often, &["loss", "grad_norm", "entropy", "mean_token_accuracy", "num_tokens"]);
}

#[test]
fn a_step_averages_over_tokens_not_over_sequences() {
    let (model, examples) = (model(1), examples(24));
    let options = TrainOptions { shuffle: false, max_steps: Some(1), ..two_epochs(3, 8) };
    let loss = sft(&options).history[0].get("loss").expect("reported");
    let (by_token, _) = mean_nll(&model, &examples, 5, &Device::flex());
    let by_sequence = examples.chunks(1).map(|one| mean_nll(&model, one, 1, &Device::flex()).0).sum::<f64>() / 24.0;
    assert!((loss - by_token).abs() < 1e-5, "{loss} instead of {by_token}");
    assert!((by_sequence - by_token).abs() > 1e-3, "these rows cannot tell the two apart");
}

#[test]
fn eight_forward_passes_of_one_triple_equal_one_of_eight() {
    let (once, often) = (adpo(&two_epochs(8, 1)), adpo(&two_epochs(1, 8)));
    assert_same(&once, &often, &["loss", "grad_norm", "rewards/margins", "kl/toxic", "logits/chosen", "entropy"]);
}

#[test]
fn packing_and_shared_prompts_give_the_losses_of_padding() {
    let laid_out =
        |run: fn(&TrainOptions) -> Trained, packing, share_prompts| run(&TrainOptions { packing, share_prompts, ..two_epochs(8, 1) });
    for run in [sft, adpo] {
        let padded = laid_out(run, None, false);
        for (packing, share_prompts) in [(Some(48), false), (None, true), (Some(120), true)] {
            let names = ["loss", "grad_norm", "num_tokens", "entropy", "mean_token_accuracy"];
            assert_same(&padded, &laid_out(run, packing, share_prompts), &names);
        }
    }
}

#[test]
fn blocks_that_are_computed_twice_change_no_bit_of_a_run() {
    for run in [sft, adpo] {
        let kept = run(&two_epochs(4, 2));
        let recomputed = run(&TrainOptions { gradient_checkpointing: true, ..two_epochs(4, 2) });
        assert_eq!(weights(&kept.model), weights(&recomputed.model));
        assert!(distance(&kept.model, &model(1)) > 1e-3, "the weights did not move: nothing was compared");
        for (kept, recomputed) in kept.history.iter().zip(&recomputed.history) {
            assert_eq!(kept.values, recomputed.values, "step {}", kept.step);
        }
    }
}
