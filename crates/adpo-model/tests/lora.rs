//! Adapters beside PEFT's own numbers, beside the whole model's gradients, and merged.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use adpo_model::{
    Llama, LoraConfig, ParameterMap, ParameterVisitor, SampleRequest, SamplingOptions, SaveOptions, TargetModules, TokenInput,
    TrainableTokens, sample,
};
use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use common::{logits, model, parameters, python_with, read_raw, run_script, write_raw};
use safetensors::SafeTensors;

const NEW: u32 = 31;

/// Two kinds of layers and the rows of one token.
fn lora() -> LoraConfig {
    LoraConfig {
        r: 3,
        lora_alpha: 6.0,
        use_rslora: false,
        target_modules: TargetModules::Names(vec!["q_proj".into(), "v_proj".into(), "down_proj".into()]),
        trainable_token_indices: TrainableTokens { embed_tokens: vec![NEW], lm_head: vec![NEW] },
        base_model_name_or_path: None,
    }
}

/// As if it had been trained: every adapter and row moved.
fn moved(model: Llama) -> Llama {
    struct Move;
    impl ParameterMap for Move {
        fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if !name.contains("lora_") && !name.contains("trainable_tokens") {
                return param;
            }
            param.map(|tensor| {
                let by: Vec<f32> = (0..tensor.shape().num_elements()).map(|i| 0.3 * (7.0 * i as f32 + name.len() as f32).sin()).collect();
                let by = TensorData::new(by, tensor.shape());
                tensor.clone() + Tensor::from_data(by, &tensor.device())
            })
        }
    }
    model.map_parameters(&mut Move)
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

const IDS: [u32; 9] = [1, 5, NEW, 9, 20, NEW, 3, 3, 11];

/// Log-probs of each id given those before it.
fn log_probs(model: &Llama, device: &Device) -> Tensor<1> {
    let n = IDS.len() - 1;
    let positions: Vec<u32> = (0..n as u32).collect();
    let hidden = model.hidden(&TokenInput::new(1, n, &IDS[..n], &positions, &vec![1; n], device));
    let targets: Vec<i32> = IDS[1..].iter().map(|id| *id as i32).collect();
    let size = hidden.dims()[2];
    let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [n]), device);
    model.token_log_probs(hidden.reshape([n, size]), targets).log_probs
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// No two alike.
fn weights() -> Vec<f32> {
    (1..IDS.len()).map(|i| i as f32 / 4.0).collect()
}

/// The gradients of Σ weight · log-prob, by parameter; frozen ones have none.
fn gradients(model: &Llama, weights: &[f32]) -> BTreeMap<String, Vec<f32>> {
    struct Collect(GradientsParams, BTreeMap<String, Vec<f32>>);
    impl ParameterVisitor for Collect {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            self.1.extend(self.0.get::<D>(param.id).map(|gradient| (name.to_owned(), floats(gradient))));
        }
    }
    let device = model.device().autodiff();
    let model = model.clone().train();
    let scores = log_probs(&model, &device);
    let loss = (scores * Tensor::from_data(TensorData::new(weights.to_vec(), [weights.len()]), &device)).sum();
    let mut collect = Collect(GradientsParams::from_grads(loss.backward(), &model), BTreeMap::new());
    model.visit_parameters(&mut collect);
    collect.1
}

#[test]
fn logits_and_log_probs_of_a_peft_folder_are_those_of_peft() {
    let device = Device::flex();
    let base = Llama::load(&fixture("llama2-mha"), &device).expect("the base loads");
    let model = base.load_adapter(&fixture("llama2-mha-lora")).expect("the adapters load");
    let read = |folder: &str| std::fs::read(fixture(folder).join("expected.safetensors")).expect("readable");
    let (inputs, expected) = (read("llama2-mha"), read("llama2-mha-lora"));
    let (inputs, expected) = (SafeTensors::deserialize(&inputs).expect("whole"), SafeTensors::deserialize(&expected).expect("whole"));
    let words = |file: &SafeTensors<'_>, name: &str| -> Vec<[u8; 4]> {
        file.tensor(name).expect("it is there").data().chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect()
    };
    let ints = |name: &str| -> Vec<u32> { words(&inputs, name).into_iter().map(u32::from_le_bytes).collect() };
    let expected: Vec<f32> = words(&expected, "logits").into_iter().map(f32::from_le_bytes).collect();
    let (ids, mask, width, vocab) = (ints("input_ids"), ints("attention_mask"), 40, model.config().vocab_size);
    let mut compared = 0;
    for merged in [false, true] {
        let model = if merged { model.clone().merge_lora() } else { model.clone() };
        for (row, (ids, mask)) in ids.chunks(width).zip(mask.chunks(width)).enumerate() {
            let length = mask.iter().filter(|there| **there == 1).count();
            let expected = &expected[row * width * vocab..][..length * vocab];
            let off = furthest(&logits(&model, &ids[..length]), expected);
            assert!(off <= 1e-4, "row {row}, merged: {merged}: a logit is off by {off}");

            let positions: Vec<u32> = (0..length as u32).collect();
            let hidden = model.hidden(&TokenInput::new(1, length, &ids[..length], &positions, &mask[..length], &device));
            let size = hidden.dims()[2];
            let targets: Vec<i32> = ids[1..length].iter().map(|id| *id as i32).collect();
            let hidden = hidden.reshape([length, size]).slice(0..length - 1);
            let found = model.token_log_probs(hidden, Tensor::from_data(TensorData::new(targets, [length - 1]), &device)).log_probs;
            for (at, found) in floats(found).into_iter().enumerate() {
                let logits = &expected[at * vocab..][..vocab];
                let log_sum = logits.iter().map(|l| f64::from(*l).exp()).sum::<f64>().ln();
                let expected = f64::from(logits[ids[at + 1] as usize]) - log_sum;
                assert!((f64::from(found) - expected).abs() <= 1e-4, "row {row}, {at}: {found} instead of {expected}");
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "only {compared} log-probs were compared");
}

#[test]
fn fresh_adapters_change_no_log_prob_by_a_single_bit() {
    for tied in [false, true] {
        let base = model(tied);
        let fresh = base.clone().with_lora(&lora(), 1).expect("it fits");
        assert_eq!(floats(log_probs(&fresh, &Device::flex())), floats(log_probs(&base, &Device::flex())));
        let device = Device::flex().autodiff();
        let (trained, frozen) = (fresh.clone().train(), base.clone().train().no_grad());
        assert_eq!(floats(log_probs(&trained, &device).inner()), floats(log_probs(&frozen, &device).inner()));
        assert_eq!(logits(&fresh, &IDS), logits(&base, &IDS));
        assert_eq!(parameters(&fresh.without_lora()), parameters(&base));
    }
}

#[test]
fn only_adapters_and_rows_have_gradients_and_they_follow_from_those_of_the_merged_model() {
    for (tied, use_rslora) in [(false, false), (true, true)] {
        let config = LoraConfig { use_rslora, ..lora() };
        let adapted = moved(model(tied).with_lora(&config, 1).expect("it fits"));
        let (found, whole) = (gradients(&adapted, &weights()), gradients(&adapted.clone().merge_lora(), &weights()));
        let values = parameters(&adapted);
        let names: Vec<&String> = values.keys().filter(|name| name.contains("lora_") || name.contains("trainable_tokens")).collect();
        assert_eq!(found.keys().collect::<Vec<_>>(), names, "nothing else has a gradient");
        assert_eq!(names.len(), 2 * 3 * 2 + if tied { 1 } else { 2 });
        let close = |name: &str, expected: &[f32]| {
            let scale = expected.iter().map(|x| x.abs()).fold(0.0, f32::max);
            let off = furthest(&found[name], expected);
            assert!(scale > 0.0 && off <= 2e-5 * scale.max(1.0), "{name}: off by {off} of {scale}");
        };
        let matrix = |shape: &[usize], values: &[f32]| {
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), [shape[0], shape[1]]), &Device::flex())
        };
        let parameter = |name: &str| matrix(&values[name].0, &values[name].1);
        for layer in ["0.self_attn.q_proj", "1.self_attn.v_proj", "1.mlp.down_proj"].map(|layer| format!("model.layers.{layer}")) {
            // W' = W + s·B·A, so dB = s·dW'·Aᵀ and dA = s·Bᵀ·dW'.
            let [a, b] = ["A", "B"].map(|side| format!("{layer}.lora_{side}.weight"));
            let weight = format!("{layer}.weight");
            let slope = matrix(&values[&weight].0, &whole[&weight]) * config.scaling();
            close(&b, &floats(slope.clone().matmul(parameter(&a).transpose())));
            close(&a, &floats(parameter(&b).transpose().matmul(slope)));
        }
        for matrix in ["model.embed_tokens", "lm_head"].iter().take(if tied { 1 } else { 2 }) {
            let row = &whole[&format!("{matrix}.weight")][NEW as usize * 16..][..16];
            close(&format!("{matrix}.token_adapter.trainable_tokens_delta"), row);
        }
    }
}

#[test]
fn peft_loads_what_we_save_and_computes_the_same_logits_and_gradients() {
    let Some(python) = python_with("transformers, torch, peft") else { return };
    for (tied, config) in [
        (false, lora()),
        (true, LoraConfig { use_rslora: true, target_modules: TargetModules::Pattern("all-linear".into()), ..lora() }),
        (false, LoraConfig { trainable_token_indices: TrainableTokens::default(), lora_alpha: 2.5, ..lora() }),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let (base, adapters) = (folder.path().join("base"), folder.path().join("adapters"));
        model(tied).save(&base, &SaveOptions::default()).expect("saved");
        let adapted = moved(model(tied).with_lora(&config, 1).expect("it fits"));
        adapted.save_adapter(&adapters).expect("saved");
        let rows: Vec<Vec<f32>> = logits(&adapted, &IDS).chunks_exact(32).map(<[f32]>::to_vec).collect();
        let weights = vec![1.0 / (IDS.len() - 1) as f32; IDS.len() - 1];
        let gradients: BTreeMap<String, Vec<f32>> =
            gradients(&adapted, &weights).into_iter().map(|(name, values)| (format!("base_model.model.{name}"), values)).collect();
        let expected = folder.path().join("expected.json");
        let json = serde_json::json!({"ids": IDS, "logits": rows, "gradients": gradients});
        std::fs::write(&expected, json.to_string()).expect("writable");
        run_script(&python, "peft_loads_it.py", &[&base, &adapters, &expected]);
    }
}

#[test]
fn a_merged_model_is_a_plain_one_with_the_same_logits() {
    for tied in [false, true] {
        let adapted = moved(model(tied).with_lora(&lora(), 1).expect("it fits"));
        let merged = adapted.clone().merge_lora();
        assert!(merged.lora().is_none());
        assert_eq!(parameters(&merged).keys().collect::<Vec<_>>(), parameters(&model(tied)).keys().collect::<Vec<_>>());
        let (before, after) = (logits(&adapted, &IDS), logits(&merged, &IDS));
        assert!(furthest(&before, &after) <= 1e-5, "off by {}", furthest(&before, &after));
        assert!(furthest(&logits(&model(tied), &IDS), &after) > 0.1, "the adapters say nothing");
        assert_eq!(gradients(&merged, &weights()).len(), parameters(&merged).len(), "all of it is trained again");

        let request = [SampleRequest { prompt: &IDS, row: 0 }];
        let options = SamplingOptions { temperature: 0.0, max_new_tokens: 20, ..SamplingOptions::default() };
        let completions = [adapted, merged].map(|model| sample(&model, &request, &options).expect("sampled").completions);
        assert_eq!(completions[0], completions[1]);
    }
}

#[test]
fn adapters_come_back_bit_for_bit_from_a_folder_in_pefts_names() {
    for tied in [false, true] {
        let config = LoraConfig { base_model_name_or_path: Some("somewhere".into()), use_rslora: true, ..lora() };
        let adapted = moved(model(tied).with_lora(&config, 1).expect("it fits"));
        let folder = tempfile::tempdir().expect("a folder");
        adapted.save_adapter(folder.path()).expect("saved");
        let names: Vec<String> = read_raw(&folder.path().join("adapter_model.safetensors")).into_keys().collect();
        assert!(names.iter().all(|name| name.starts_with("base_model.model.")), "{names:?}");
        assert!(names.contains(&"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight".to_owned()));
        assert!(names.contains(&"base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta".to_owned()));
        let loaded = model(tied).load_adapter(folder.path()).expect("loaded");
        assert_eq!(parameters(&loaded), parameters(&adapted));
        let read = LoraConfig::from_folder(folder.path()).expect("readable").expect("adapters are there");
        assert_eq!((read.scaling(), read.base_model_name_or_path.as_deref()), (config.scaling(), Some("somewhere")));
        assert_eq!(gradients(&loaded, &weights()).keys().collect::<Vec<_>>(), gradients(&adapted, &weights()).keys().collect::<Vec<_>>());

        // A base that lacks the token grows for it.
        let short = model(tied).resize_vocab(NEW as usize).load_adapter(folder.path()).expect("loaded");
        assert!(furthest(&logits(&short, &IDS), &logits(&adapted, &IDS)) <= 1e-5);
    }
}

#[test]
fn adapters_are_never_stacked_nor_lost() {
    let adapted = model(false).with_lora(&lora(), 1).expect("it fits");
    let folder = tempfile::tempdir().expect("a folder");
    adapted.save_adapter(folder.path()).expect("saved");
    let stacked = [adapted.clone().with_lora(&lora(), 2), adapted.clone().load_adapter(folder.path())];
    for error in stacked.map(|result| result.expect_err("it has adapters").to_string()) {
        assert!(error.contains("merge"), "{error}");
    }
    let error = adapted.save(&folder.path().join("model"), &SaveOptions::default()).expect_err("adapters would be lost").to_string();
    assert!(error.contains("merge"), "{error}");
    let error = model(false).save_adapter(folder.path()).expect_err("there are none").to_string();
    assert!(error.contains("no adapters"), "{error}");
    let error = Llama::load(folder.path(), &Device::flex()).expect_err("no model").to_string();
    assert!(error.contains("without their base"), "{error}");
}

#[test]
fn what_peft_can_do_and_this_cannot_is_refused_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    model(false).with_lora(&lora(), 1).and_then(|model| model.save_adapter(folder.path())).expect("saved");
    let path = folder.path().join("adapter_config.json");
    let good: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).expect("readable")).expect("JSON");
    let load_with = |field: &str, value: serde_json::Value| {
        let mut config = good.clone();
        config[field] = value;
        std::fs::write(&path, config.to_string()).expect("written");
        model(false).load_adapter(folder.path())
    };
    for (field, value) in [
        ("peft_type", serde_json::json!("IA3")),
        ("use_dora", true.into()),
        ("bias", "all".into()),
        ("modules_to_save", serde_json::json!(["lm_head"])),
        ("rank_pattern", serde_json::json!({"q_proj": 8})),
        ("layers_to_transform", serde_json::json!([0])),
        ("init_lora_weights", "pissa".into()),
        ("something_new", 3.into()),
        ("r", "four".into()),
        ("r", 1_000_000_000_000_u64.into()),
        ("trainable_token_indices", serde_json::json!([4_000_000_000_u32])),
        ("lora_alpha", 0.into()),
        ("target_modules", serde_json::json!(["query_key_value"])),
        ("trainable_token_indices", serde_json::json!({"wte": [1]})),
    ] {
        let error = load_with(field, value).expect_err("unsupported").to_string();
        assert!(error.contains(&format!("`{field}`")), "{field}: {error}");
    }
    load_with("use_dora", false.into()).expect("what is off does not matter");
    load_with("lora_dropout", 0.1.into()).expect("nor does dropout, once it is trained");

    std::fs::write(&path, good.to_string()).expect("written");
    let path = folder.path().join("adapter_model.safetensors");
    let mut raw = read_raw(&path);
    let name = "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight";
    let other = raw.remove(name).expect("it is there");
    raw.insert(name.replace("down_proj", "up_proj"), other);
    write_raw(&path, &raw);
    let error = model(false).load_adapter(folder.path()).expect_err("damaged").to_string();
    for part in ["`model.layers.1.mlp.down_proj.lora_B.weight` is missing", "`model.layers.1.mlp.up_proj.lora_B.weight` is unexpected"] {
        assert!(error.contains(part), "{error}");
    }
    for ids in [vec![40], vec![3, 3]] {
        let trainable_token_indices = TrainableTokens { embed_tokens: ids, lm_head: Vec::new() };
        let error = model(false).with_lora(&LoraConfig { trainable_token_indices, ..lora() }, 1).expect_err("impossible").to_string();
        assert!(error.contains("trainable_token_indices"), "{error}");
    }
}

#[test]
fn a_scale_that_leaves_nothing_of_the_base_is_refused() {
    for lora_alpha in [1e308, 1e30, 1e8, f64::INFINITY, f64::NAN] {
        let error = model(false).with_lora(&LoraConfig { lora_alpha, ..lora() }, 1).expect_err("not finite any more").to_string();
        assert!(error.contains("lora_alpha"), "{error}");
    }
}

#[test]
fn adapters_are_read_and_merged_in_linear_time() {
    let vocab = 200_000;
    let base = model(false).resize_vocab(vocab as usize);
    let config = LoraConfig {
        trainable_token_indices: TrainableTokens { embed_tokens: (0..vocab).collect(), lm_head: (0..vocab).rev().collect() },
        ..lora()
    };
    let folder = tempfile::tempdir().expect("a folder");
    let began = std::time::Instant::now();
    let adapted = moved(base.clone().with_lora(&config, 1).expect("it fits"));
    adapted.save_adapter(folder.path()).expect("saved");
    let merged = base.load_adapter(folder.path()).expect("loaded").merge_lora();
    let seconds = began.elapsed().as_secs_f64();
    assert!(seconds < 10.0, "{seconds} s for {vocab} tokens");
    // Every row is in its place: few of them are written one by one, many at once.
    let few = LoraConfig { trainable_token_indices: TrainableTokens { embed_tokens: vec![5, 7], lm_head: vec![9] }, ..lora() };
    let few = moved(model(false).with_lora(&few, 1).expect("it fits"));
    let ids = (0..32).collect::<Vec<u32>>();
    let many = LoraConfig { trainable_token_indices: TrainableTokens { embed_tokens: ids.clone(), lm_head: ids }, ..lora() };
    let many = moved(model(false).with_lora(&many, 1).expect("it fits"));
    for adapted in [few, many] {
        assert!(furthest(&logits(&adapted.clone().merge_lora(), &IDS), &logits(&adapted, &IDS)) <= 1e-5);
    }
    assert_eq!(merged.config().vocab_size, vocab as usize);
}
