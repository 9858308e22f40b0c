//! What the tests of checkpoints share.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use adpo_model::{Llama, LlamaConfig, ParameterVisitor, SaveOptions, TokenInput};
use burn::module::Param;
use burn::tensor::{Device, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

/// Two layers, grouped keys, 32 tokens.
pub(crate) fn config(tied: bool) -> LlamaConfig {
    let json = serde_json::json!({
        "model_type": "llama", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
        "initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": tied,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16},
    });
    LlamaConfig::from_json(&json.to_string(), "test").expect("a supported configuration")
}

pub(crate) fn model(tied: bool) -> Llama {
    Llama::init(&config(tied), 7, &Device::flex())
}

/// A fresh folder that holds `model`.
pub(crate) fn saved(model: &Llama, options: &SaveOptions) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    model.save(folder.path(), options).expect("the model is saved");
    folder
}

pub(crate) fn load_error(folder: &Path) -> String {
    Llama::load(folder, &Device::flex()).expect_err("this should not load").to_string()
}

/// Every parameter by name: shape and numbers.
pub(crate) fn parameters(model: &Llama) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    struct Collect(BTreeMap<String, (Vec<usize>, Vec<f32>)>);
    impl ParameterVisitor for Collect {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            let data = param.val().into_data();
            self.0.insert(name.to_owned(), (data.shape().to_vec(), data.iter::<f32>().collect()));
        }
    }
    let mut collect = Collect(BTreeMap::new());
    model.visit_parameters(&mut collect);
    collect.0
}

/// Logits `[ids, vocab]`, row by row.
pub(crate) fn logits(model: &Llama, ids: &[u32]) -> Vec<f32> {
    let positions: Vec<u32> = (0..ids.len() as u32).collect();
    let input = TokenInput::new(1, ids.len(), ids, &positions, &vec![1; ids.len()], &model.device());
    let hidden = model.hidden(&input);
    let size = hidden.dims()[2];
    model.logits(hidden.reshape([ids.len(), size])).into_data().iter::<f32>().collect()
}

/// A tensor of a safetensors file, as it lies there.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<u8>,
}

pub(crate) fn read_raw(path: &Path) -> BTreeMap<String, Raw> {
    let bytes = std::fs::read(path).expect("readable");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let raw = |view: TensorView<'_>| Raw { dtype: view.dtype(), shape: view.shape().to_vec(), data: view.data().to_vec() };
    file.tensors().into_iter().map(|(name, view)| (name, raw(view))).collect()
}

pub(crate) fn write_raw(path: &Path, tensors: &BTreeMap<String, Raw>) {
    let views =
        tensors.iter().map(|(name, raw)| (name, TensorView::new(raw.dtype, raw.shape.clone(), &raw.data).expect("shape and bytes agree")));
    std::fs::write(path, safetensors::serialize(views, None).expect("serialises")).expect("writable");
}

/// `ADPO_PYTHON` or `python3`, if it has these modules.
pub(crate) fn python_with(modules: &str) -> Option<String> {
    let python = std::env::var("ADPO_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
    if output.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    eprintln!("skipped: `{python} -c 'import {modules}'` fails; set ADPO_PYTHON to an interpreter that has them");
    None
}

/// Runs a script of this folder, which ends with 0 where all is well.
pub(crate) fn run_script(python: &str, script: &str, arguments: &[&Path]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
    let output = Command::new(python).arg(script).args(arguments).output().expect("the interpreter starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    println!("{out}");
}
