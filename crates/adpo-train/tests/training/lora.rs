//! Adapters are trained and nothing else, from where the reference is.

use std::path::Path;

use adpo_data::EncodedTriple;
use adpo_model::{Llama, LoraConfig};
use adpo_objective::{Adpo, Anchor, Link, Objective};
use adpo_train::{Reference, TrainOptions, Trained, train_preference, train_sft};
use burn::tensor::Device;
use safetensors::SafeTensors;

use crate::common::{examples, lora, model, newest_checkpoint, options, triples, weights};

/// No shuffling and one batch size, so that the reference's passes hold the very rows that the policy's do.
fn in_order() -> TrainOptions {
    TrainOptions { num_train_epochs: 10, batch_size: 4, learning_rate: 1e-2, shuffle: false, ..options() }
}

fn adapted(seed: u64) -> Llama {
    model(seed).with_lora(&lora(), 1).expect("it fits")
}

fn train(policy: Llama, reference: &Reference, rows: &[EncodedTriple], folder: &Path) -> Trained {
    let objective = Objective::Adpo(Adpo { link: Link::Pair, anchor: Anchor::Tox, ..Adpo::default() });
    train_preference(policy, Some(reference), rows, &objective, &in_order(), folder).expect("it runs")
}

fn references(of: &Llama, rows: &[EncodedTriple], cache: &Path) -> [Reference; 2] {
    let (device, objective) = (Device::flex(), Objective::Adpo(Adpo { link: Link::Pair, anchor: Anchor::Tox, ..Adpo::default() }));
    let precomputed = Reference::precomputed(of, rows, &objective, &in_order(), &device, cache);
    [Reference::live(of.clone(), &device), precomputed.expect("computed")]
}

#[test]
fn at_the_first_step_every_log_ratio_is_exactly_zero_and_then_the_adapters_learn() {
    let (rows, folder) = (triples(8), tempfile::tempdir().expect("a folder"));
    // Fresh adapters against the base, and adapters of an SFT that are trained on against themselves as they were.
    let examples = examples(8);
    let sft = train_sft(adapted(5), &examples, &in_order(), &folder.path().join("sft")).expect("it runs").model;
    assert!(sft.lora().is_some());
    for (name, policy, start) in [("fresh", adapted(5), model(5)), ("trained on", sft.clone(), sft)] {
        for (kind, reference) in ["live", "precomputed"].iter().zip(references(&start, &rows, &folder.path().join("cache"))) {
            let trained = train(policy.clone(), &reference, &rows, &folder.path().join(format!("{name} {kind}")));
            let first = &trained.history[0];
            for metric in ["kl/chosen", "kl/rejected", "rewards/margins"] {
                assert_eq!(first.get(metric), Some(0.0), "{name}, {kind}: {metric}");
            }
            let loss = |step: usize| trained.history[step].get("loss").expect("reported");
            assert!(loss(19) < loss(0) - 0.3, "{name}, {kind}: {} → {}", loss(0), loss(19));
        }
    }
}

#[test]
fn the_base_does_not_move_and_neither_checkpoint_nor_optimiser_holds_any_of_it() {
    let (rows, folder) = (triples(8), tempfile::tempdir().expect("a folder"));
    let [reference, _] = references(&model(5), &rows, &folder.path().join("cache"));
    let trained = train(adapted(5), &reference, &rows, folder.path());
    let named = |model: &Llama| weights(model).into_iter().collect::<std::collections::BTreeMap<_, _>>();
    let (before, after) = (named(&adapted(5)), named(&trained.model));
    let is_trained = |name: &str| name.contains("lora_") || name.contains("trainable_tokens");
    let mut adapters: Vec<String> = Vec::new();
    for (name, values) in &before {
        assert_eq!(is_trained(name), *values != after[name], "{name}");
        adapters.extend(is_trained(name).then(|| name.clone()));
    }
    assert_eq!(adapters.len(), 2 * 7 * 2 + 2);

    let checkpoint = newest_checkpoint(folder.path());
    let mut files: Vec<String> =
        std::fs::read_dir(&checkpoint).expect("it is there").map(|e| e.expect("readable").file_name().to_string_lossy().into()).collect();
    files.sort();
    assert_eq!(files, ["adapter_config.json", "adapter_model.safetensors", "optimizer.safetensors", "trainer.json"]);
    let bytes = std::fs::read(checkpoint.join("optimizer.safetensors")).expect("readable");
    let mut moments: Vec<String> = SafeTensors::deserialize(&bytes).expect("whole").names().into_iter().map(str::to_owned).collect();
    moments.sort();
    let mut expected: Vec<String> =
        ["first", "second"].iter().flat_map(|m| adapters.iter().map(move |name| format!("{m}.{name}"))).collect();
    expected.sort();
    assert_eq!(moments, expected);
}

#[test]
fn another_scale_is_another_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let sft = |config: &LoraConfig, max_steps: usize| {
        let options = TrainOptions { max_steps: Some(max_steps), save_steps: Some(1), ..in_order() };
        train_sft(model(5).with_lora(config, 1).expect("it fits"), &examples(8), &options, folder.path())
    };
    sft(&lora(), 2).expect("it runs");
    let error = sft(&LoraConfig { use_rslora: true, ..lora() }, 2).expect_err("the same numbers mean something else").to_string();
    assert!(error.contains("another run"), "{error}");
}
