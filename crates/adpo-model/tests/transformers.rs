//! transformers loads what is saved here; runs only where a Python with transformers and torch is at hand.

mod common;

use std::path::Path;

use adpo_model::{Dtype, Family, Llama, SaveOptions};
use burn::tensor::Device;
use common::{config, logits, python_with, run_script, saved};

fn compare(python: &str, folder: &Path, dtype: &str) {
    let ids: Vec<u32> = (0..30).map(|i| i * 7 % 32).collect();
    let model = Llama::load(folder, &Device::flex()).expect("we load it");
    let rows: Vec<Vec<f32>> = logits(&model, &ids).chunks_exact(model.config().vocab_size).map(<[f32]>::to_vec).collect();
    let expected = folder.join("expected-by-us.txt");
    std::fs::write(&expected, serde_json::json!({"ids": ids, "logits": rows}).to_string()).expect("writable");
    run_script(python, "transformers_loads_it.py", &[folder, &expected, Path::new(dtype)]);
}

#[test]
fn transformers_loads_what_we_save_and_computes_the_same_logits() {
    let Some(python) = python_with("transformers, torch") else { return };
    let single = SaveOptions::default();
    let sharded = SaveOptions { dtype: Dtype::Bfloat16, max_shard_bytes: Some(2500) };
    let relatives = [Family::Mistral, Family::Qwen2, Family::Qwen3].map(|family| {
        let mut config = config(false);
        (config.family, config.rope_scaling) = (family, None);
        config
    });
    for config in [config(false), config(true)].into_iter().chain(relatives) {
        let model = Llama::init(&config, 7, &Device::flex());
        compare(&python, saved(&model, &single).path(), "float32");
        compare(&python, saved(&model, &sharded).path(), "bfloat16");
    }
}
