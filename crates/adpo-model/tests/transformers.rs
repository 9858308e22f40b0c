//! transformers loads what is saved here; runs only where a Python with transformers and torch is at hand.

mod common;

use std::path::Path;
use std::process::Command;

use adpo_model::{Llama, SaveOptions, Storage};
use burn::tensor::Device;
use common::{config, logits, saved};

/// `ADPO_PYTHON` or `python3`, if it can do the comparison.
fn python() -> Option<String> {
    let python = std::env::var("ADPO_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(&python).args(["-c", "import transformers, torch"]).output();
    if output.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    eprintln!("skipped: `{python} -c 'import transformers, torch'` fails; set ADPO_PYTHON to an interpreter that has both");
    None
}

fn compare(python: &str, folder: &Path, dtype: &str) {
    let ids: Vec<u32> = (0..30).map(|i| i * 7 % 32).collect();
    let model = Llama::load(folder, &Device::flex()).expect("we load it");
    let rows: Vec<Vec<f32>> = logits(&model, &ids).chunks_exact(model.config().vocab_size).map(<[f32]>::to_vec).collect();
    let expected = folder.join("expected-by-us.txt");
    std::fs::write(&expected, serde_json::json!({"ids": ids, "logits": rows}).to_string()).expect("writable");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transformers_loads_it.py");
    let output = Command::new(python).arg(script).arg(folder).arg(&expected).arg(dtype).output().expect("the interpreter starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    println!("{out}");
}

#[test]
fn transformers_loads_what_we_save_and_computes_the_same_logits() {
    let Some(python) = python() else { return };
    let single = SaveOptions::default();
    let sharded = SaveOptions { storage: Storage::BF16, max_shard_bytes: Some(2500) };
    let mut mistral = config(false);
    mistral.model_type = "mistral".into();
    mistral.rope_scaling = None;
    for config in [config(false), config(true), mistral] {
        let model = Llama::init(&config, 7, &Device::flex());
        compare(&python, saved(&model, &single).path(), "float32");
        compare(&python, saved(&model, &sharded).path(), "bfloat16");
    }
}
