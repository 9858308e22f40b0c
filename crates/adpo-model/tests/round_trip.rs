//! What is saved is what is loaded.

mod common;

use std::path::Path;

use adpo_model::{Dtype, Llama, SaveOptions};
use burn::tensor::Device;
use common::{config, logits, model, parameters, read_raw, saved, write_raw};

fn stored_as(dtype: Dtype) -> SaveOptions {
    SaveOptions { dtype, ..SaveOptions::default() }
}

fn load(folder: &Path) -> Llama {
    Llama::load(folder, &Device::flex()).expect("loads")
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("readable");
    let mut names: Vec<String> = entries.map(|e| e.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn f32_comes_back_bit_for_bit() {
    for tied in [false, true] {
        let model = model(tied);
        let folder = saved(&model, &SaveOptions::default());
        assert_eq!(files(folder.path()), ["config.json", "model.safetensors"]);
        let loaded = load(folder.path());
        assert_eq!(parameters(&loaded), parameters(&model));
        assert_eq!(loaded.config(), model.config());
        assert_eq!(logits(&loaded, &[1, 5, 9]), logits(&model, &[1, 5, 9]));
    }
}

#[test]
fn half_precision_comes_back_rounded_to_nearest() {
    let model = model(false);
    let round: [(Dtype, fn(f32) -> f32); 2] =
        [(Dtype::Float16, |x| half::f16::from_f32(x).to_f32()), (Dtype::Bfloat16, |x| half::bf16::from_f32(x).to_f32())];
    for (dtype, round) in round {
        let loaded = parameters(&load(saved(&model, &stored_as(dtype)).path()));
        for (name, (shape, values)) in parameters(&model) {
            let rounded: Vec<f32> = values.iter().copied().map(round).collect();
            assert_eq!(loaded[&name], (shape, rounded), "{name} as {dtype:?}");
        }
        assert_ne!(loaded, parameters(&model));
    }
}

#[test]
fn shards_stay_below_their_limit_and_load_as_one_model() {
    let model = model(false);
    let limit = 2500;
    let folder = saved(&model, &SaveOptions { dtype: Dtype::Float32, max_shard_bytes: Some(limit) });
    let shards: Vec<String> = files(folder.path()).into_iter().filter(|name| name.starts_with("model-")).collect();
    assert!(shards.len() > 3 && !folder.path().join("model.safetensors").exists());
    for shard in &shards {
        let bytes: usize = read_raw(&folder.path().join(shard)).values().map(|raw| raw.data.len()).sum();
        assert!(bytes as u64 <= limit, "{shard} holds {bytes} bytes");
    }
    assert_eq!(parameters(&load(folder.path())), parameters(&model));
    let index = std::fs::read_to_string(folder.path().join("model.safetensors.index.json")).expect("readable");
    let index: serde_json::Value = serde_json::from_str(&index).expect("JSON");
    assert_eq!(index["metadata"]["total_size"], model.num_parameters() * 4);
    assert_eq!(index["weight_map"].as_object().expect("a map").len(), parameters(&model).len());
}

#[test]
fn a_tensor_larger_than_the_limit_gets_a_shard_of_its_own() {
    let model = model(false);
    let folder = saved(&model, &SaveOptions { dtype: Dtype::Float32, max_shard_bytes: Some(1) });
    assert_eq!(files(folder.path()).len(), parameters(&model).len() + 2);
    assert_eq!(parameters(&load(folder.path())), parameters(&model));
}

#[test]
fn saving_in_the_other_form_leaves_no_old_weights_to_be_loaded() {
    let (old, new) = (model(false), Llama::init(&config(false), 8, &Device::flex()));
    let sharded = SaveOptions { dtype: Dtype::Float32, max_shard_bytes: Some(2500) };
    for (first, second) in [(sharded, SaveOptions::default()), (SaveOptions::default(), sharded)] {
        let folder = saved(&old, &first);
        new.save(folder.path(), &second).expect("saves over it");
        assert_eq!(parameters(&load(folder.path())), parameters(&new));
        let both = ["model.safetensors", "model.safetensors.index.json"].map(|name| folder.path().join(name).exists());
        assert_ne!(both[0], both[1], "exactly one form is there");
    }
}

#[test]
fn an_embedded_model_is_the_one_in_the_folder() {
    let model = model(true);
    let folder = saved(&model, &stored_as(Dtype::Float32));
    let config = std::fs::read_to_string(folder.path().join("config.json")).expect("readable");
    let weights = std::fs::read(folder.path().join("model.safetensors")).expect("readable");
    let embedded = Llama::load_bytes(&config, &weights, &Device::flex()).expect("loads");
    assert_eq!(parameters(&embedded), parameters(&model));
    assert!(Llama::load_bytes(&config, &weights[..weights.len() - 1], &Device::flex()).is_err());
}

#[test]
fn a_tied_head_is_the_embedding_and_is_stored_once() {
    let (tied, untied) = (model(true), model(false));
    assert_eq!(untied.num_parameters() - tied.num_parameters(), 32 * 16);
    let folder = saved(&tied, &SaveOptions::default());
    let path = folder.path().join("model.safetensors");
    let mut raw = read_raw(&path);
    assert!(!raw.contains_key("lm_head.weight"));

    // An untied model with the embedding as its head says the same.
    raw.insert("lm_head.weight".into(), raw["model.embed_tokens.weight"].clone());
    write_raw(&path, &raw);
    let with_copy = load(folder.path());
    assert_eq!(parameters(&with_copy), parameters(&tied), "the stored copy of a tied head is passed over");
    std::fs::write(folder.path().join("config.json"), config(false).to_json()).expect("writable");
    let as_untied = load(folder.path());
    assert_eq!(as_untied.num_parameters(), untied.num_parameters());
    assert_eq!(logits(&as_untied, &[1, 5, 9]), logits(&tied, &[1, 5, 9]));
}

#[test]
fn stored_rotary_frequencies_of_old_checkpoints_are_passed_over() {
    let model = model(false);
    let folder = saved(&model, &SaveOptions::default());
    let path = folder.path().join("model.safetensors");
    let mut raw = read_raw(&path);
    raw.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), raw["model.norm.weight"].clone());
    write_raw(&path, &raw);
    assert_eq!(parameters(&load(folder.path())), parameters(&model));
}

#[test]
fn fresh_weights_depend_on_seed_and_names_alone() {
    let device = Device::flex();
    let first = parameters(&model(false));
    assert_eq!(first, parameters(&model(false)));
    let other = parameters(&Llama::init(&config(false), 8, &device));
    let tied = parameters(&model(true));
    for (name, parameter) in &first {
        let norm = name.ends_with("norm.weight");
        assert_eq!(norm, parameter == &other[name], "{name}: another seed changes all but the norms");
        assert_eq!(norm, parameter.1.iter().all(|x| *x == 1.0), "{name}");
        assert!(tied.get(name).is_none_or(|same| same == parameter), "{name} does not depend on its neighbours");
    }
    let values = &first["model.layers.1.mlp.up_proj.weight"].1;
    let deviation = (values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32).sqrt();
    assert!((deviation - 0.3).abs() < 0.05, "{deviation} instead of initializer_range = 0.3");
}

#[test]
fn a_larger_vocabulary_keeps_old_rows_and_starts_new_ones_at_their_mean() {
    for tied in [false, true] {
        let old = model(tied);
        let before = parameters(&old);
        let old_logits = logits(&old, &[1, 5, 9]);
        let grown = old.resize_vocab(35);
        let after = parameters(&grown);
        for name in ["model.embed_tokens.weight", "lm_head.weight"] {
            assert_eq!(before.contains_key(name), after.contains_key(name));
            let (Some((_, old)), Some((shape, new))) = (before.get(name), after.get(name)) else { continue };
            assert_eq!((shape.as_slice(), &new[..32 * 16]), ([35, 16].as_slice(), old.as_slice()));
            for (i, value) in new[32 * 16..].iter().enumerate() {
                let mean = (0..32).map(|row| old[row * 16 + i % 16]).sum::<f32>() / 32.0;
                assert!((value - mean).abs() < 1e-6, "{name}: {value} instead of {mean}");
            }
        }
        for (row, old) in logits(&grown, &[1, 5, 9]).chunks_exact(35).zip(old_logits.chunks_exact(32)) {
            assert!(row[..32].iter().zip(old).all(|(a, b)| (a - b).abs() < 1e-5), "old tokens keep their logits");
            let mean = old.iter().sum::<f32>() / 32.0;
            assert!(row[32..].iter().all(|x| (x - mean).abs() < 1e-4), "new tokens are as likely as an average one");
        }
        let reloaded = load(saved(&grown, &SaveOptions::default()).path());
        assert_eq!((reloaded.config().vocab_size, parameters(&reloaded)), (35, after));
        assert_eq!(parameters(&grown.resize_vocab(32)), before, "cut back it is the old one");
    }
}

#[test]
fn a_new_token_starts_at_the_mean_of_the_others_also_in_a_spare_row_and_can_be_taken_out_again() {
    const EMBEDDING: &str = "model.embed_tokens.weight";
    let mean_without = |numbers: &[f32], row: usize, width: usize| -> Vec<f32> {
        let others: Vec<&[f32]> = numbers.chunks_exact(width).enumerate().filter(|(i, _)| *i != row).map(|(_, r)| r).collect();
        (0..width).map(|column| others.iter().map(|r| r[column]).sum::<f32>() / others.len() as f32).collect()
    };
    for tied in [false, true] {
        let old = model(tied);
        let before = parameters(&old);
        // Row 9 of 32 is spare: the tokenizer has no such id yet.
        let filled = parameters(&old.clone().with_new_token(9));
        let (shape, numbers) = &filled[EMBEDDING];
        let width = shape[1];
        let expected = mean_without(&before[EMBEDDING].1, 9, width);
        let worst = numbers[9 * width..10 * width].iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-6, "off by {worst}");
        assert_eq!(numbers[..9 * width], before[EMBEDDING].1[..9 * width]);
        assert_eq!(numbers[10 * width..], before[EMBEDDING].1[10 * width..]);

        let grown = old.with_new_token(32);
        assert_eq!(grown.config().vocab_size, 33);
        assert_eq!(parameters(&grown.without_token(32)), before);
    }
}

#[test]
fn every_id_that_ends_a_sequence_is_written_back() {
    let model = model(false).ending_at(7).ending_at(2);
    assert_eq!(load(saved(&model, &SaveOptions::default()).path()).config().eos_token_ids, [2, 7]);
}
