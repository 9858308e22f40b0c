//! Training runs step by step beside TRL and a PyTorch ADPO, from the same weights on the same triples.

use std::collections::BTreeMap;

use adpo_model::Dtype;
use adpo_objective::{Adpo, Anchor, Dpo, Ipo, Link, Objective};
use adpo_tests::{close, fixture, fixture_model, fixture_triples};
use adpo_train::{LrScheduler, Reference, StepRecord, TrainOptions, train_preference};
use burn::tensor::Device;
use serde_json::Value;

/// What every run is compared in. TRL knows no toxic role; what it averages over tokens (`entropy`, `mean_token_accuracy`,
/// `logits/*`) is a mean of the means of its forward passes, ours one over all tokens of the step.
const COMPARED: [&str; 16] = [
    "loss",
    "grad_norm",
    "learning_rate",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "penalties/toxic",
    "logps/chosen",
    "logps/rejected",
    "logps/toxic",
    "kl/chosen",
    "kl/rejected",
    "kl/toxic",
    "num_tokens",
    "epoch",
];

fn options() -> TrainOptions {
    TrainOptions {
        num_train_epochs: 2,
        max_steps: Some(12),
        batch_size: 4,
        gradient_accumulation_steps: 2,
        learning_rate: 1e-3,
        lr_scheduler_type: LrScheduler::Linear,
        warmup_steps: 3,
        weight_decay: 0.01,
        shuffle: false,
        ..TrainOptions::default()
    }
}

struct Run {
    history: Vec<StepRecord>,
    model: adpo_model::Llama,
}

fn train(objective: &Objective, live: bool, share_prompts: bool) -> Run {
    train_with(objective, live, TrainOptions { share_prompts, ..options() })
}

fn train_with(objective: &Objective, live: bool, options: TrainOptions) -> Run {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let device = Device::flex();
    let (model, triples) = (fixture_model(&device), fixture_triples());
    let reference = if live {
        Reference::live(model.clone().with_dtype(options.dtype), &device)
    } else {
        let options = TrainOptions { batch_size: 5, ..options.clone() };
        Reference::precomputed(&model, &triples, objective, &options, &device, &folder.path().join("cache"))
            .expect("the reference is computed")
    };
    let trained = train_preference(model, Some(&reference), &triples, objective, &options, folder.path()).expect("the run finishes");
    Run { history: trained.history, model: trained.model }
}

fn reference_log(file: &str) -> Vec<BTreeMap<String, f64>> {
    let text = std::fs::read_to_string(fixture(file)).expect("the fixture is readable");
    let json: Value = serde_json::from_str(&text).expect("the fixture is JSON");
    let rows = json["log"].as_array().expect("it has a log");
    rows.iter().map(|row| row.as_object().expect("a row").iter().filter_map(|(k, v)| Some((k.clone(), v.as_f64()?))).collect()).collect()
}

fn assert_follows(file: &str, objective: &Objective) {
    let expected = reference_log(file);
    for share_prompts in [false, true] {
        let run = train(objective, true, share_prompts);
        assert_eq!(run.history.len(), expected.len());
        let mut compared = 0;
        for (found, expected) in run.history.iter().zip(&expected) {
            for name in COMPARED {
                let Some(expected) = expected.get(name) else { continue };
                let value = found.get(name).unwrap_or_else(|| panic!("{file}: step {} has no {name}", found.step));
                let near = close(value, *expected, 5e-5, 1e-5);
                assert!(near, "{file}, prompts shared: {share_prompts}, step {}, {name}: {value} instead of {expected}", found.step);
                compared += 1;
            }
        }
        assert!(compared >= 12 * 8, "only {compared} values were compared");
    }
}

fn adpo(link: Link, anchor: Anchor) -> Objective {
    Objective::Adpo(Adpo { link, anchor, ..Adpo::default() })
}

#[test]
fn dpo_follows_trl_for_twelve_steps() {
    assert_follows("trl_dpo_sigmoid.json", &Objective::Dpo(Dpo { beta: 0.1, ..Dpo::default() }));
}

#[test]
fn ipo_follows_trl_for_twelve_steps() {
    assert_follows("trl_dpo_ipo.json", &Objective::Ipo(Ipo { beta: 0.1, ..Ipo::default() }));
}

#[test]
fn adpo_follows_torch_for_every_link_and_anchor() {
    for (name, link) in [("separate", Link::Separate), ("joint", Link::Joint), ("pair", Link::Pair)] {
        for (suffix, anchor) in [("ref", Anchor::Ref), ("tox", Anchor::Tox)] {
            assert_follows(&format!("adpo_{name}_{suffix}.json"), &adpo(link, anchor));
        }
    }
}

/// How far a step's loss in bf16 may be from f32's.
const BF16_BAND: f64 = 0.01;

#[test]
fn losses_in_bf16_stay_within_a_band_around_those_of_f32() {
    let cases = [
        ("trl_dpo_sigmoid.json", Objective::Dpo(Dpo { beta: 0.1, ..Dpo::default() })),
        ("adpo_separate_ref.json", adpo(Link::Separate, Anchor::Ref)),
        ("adpo_joint_ref.json", adpo(Link::Joint, Anchor::Ref)),
        ("adpo_pair_tox.json", adpo(Link::Pair, Anchor::Tox)),
    ];
    for (file, objective) in cases {
        let run = train_with(&objective, true, TrainOptions { dtype: Dtype::Bfloat16, ..options() });
        let expected = reference_log(file);
        let losses = run.history.iter().map(|step| step.get("loss").expect("reported"));
        let off: Vec<f64> = losses.zip(&expected).map(|(found, expected)| (found - expected["loss"]).abs()).collect();
        let moved = (expected[0]["loss"] - expected[11]["loss"]).abs();
        println!("{file}: the loss moves by {moved:.3}; bf16 is off by {off:.4?}");
        assert_eq!(off.len(), 12);
        assert!(moved > 3.0 * BF16_BAND, "{file}: a band of {BF16_BAND} says nothing where the loss moves by {moved}");
        assert!(off.iter().all(|off| *off <= BF16_BAND), "{file}: {off:?}");
    }
}

#[test]
fn the_final_weights_are_those_of_torch() {
    let runs = [false, true].map(|share_prompts| train(&adpo(Link::Separate, Anchor::Ref), true, share_prompts));
    let bytes = std::fs::read(fixture("adpo_separate_ref_final.safetensors")).expect("the fixture is readable");
    let expected = safetensors::SafeTensors::deserialize(&bytes).expect("the fixture is safetensors");
    let floats = |data: &[u8]| -> Vec<f32> { data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect() };
    for run in runs {
        let folder = tempfile::tempdir().expect("a temporary folder");
        run.model.save(folder.path(), &adpo_model::SaveOptions::default()).expect("the model is saved");
        let bytes = std::fs::read(folder.path().join("model.safetensors")).expect("the saved model is readable");
        let found = safetensors::SafeTensors::deserialize(&bytes).expect("what was saved is safetensors");
        assert_eq!(found.len(), expected.len());
        for (name, view) in expected.iter() {
            let (expected, found) = (floats(view.data()), floats(found.tensor(name).expect("same names").data()));
            // AdamW divides a gradient by its own size: where that is all rounding, so is the step, by a few hundredths of the
            // learning rate. That is one weight of the embedding; all others agree to a millionth.
            let off: Vec<f32> = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).filter(|off| *off > 1e-6).collect();
            assert_eq!(expected.len(), found.len());
            assert!(off.len() * 10_000 <= expected.len() && off.iter().all(|off| *off <= 5e-5), "{name} is off by {off:?}");
        }
    }
}

#[test]
fn precomputed_and_live_references_give_the_same_run() {
    let objective = adpo(Link::Pair, Anchor::Tox);
    let (live, precomputed) = (train(&objective, true, true), train(&objective, false, true));
    for (a, b) in live.history.iter().zip(&precomputed.history) {
        for name in ["loss", "grad_norm", "rewards/margins", "penalties/toxic"] {
            let (a, b) = (a.get(name).expect("reported"), b.get(name).expect("reported"));
            assert!(close(a, b, 5e-5, 1e-5), "{name}: live {a}, precomputed {b}");
        }
    }
}
