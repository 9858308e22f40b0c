//! PEFT's folders: `adapter_config.json` and `adapter_model.safetensors`, without the base.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::index::read_text;
use super::read::{Compare, Fill, Found};
use super::tensors::TensorFile;
use super::write::{Collect, write_text};
use crate::Dtype;
use crate::lora::{LoraConfig, TargetModules, TrainableTokens};
use crate::{Llama, ModelError};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// What PEFT puts before every name: its wrapper, and within it the model.
const PREFIX: &str = "base_model.model.";

/// What says nothing of the forward pass.
const NO_MATTER: [&str; 15] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "inference_mode",
    "init_lora_weights",
    "loftq_config",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
];

pub(super) fn is_there(folder: &Path) -> bool {
    folder.join(CONFIG).exists()
}

pub(super) fn load(model: Llama, folder: &Path) -> Result<Llama, ModelError> {
    let config = config(folder)?;
    let TrainableTokens { embed_tokens, lm_head } = &config.trainable_token_indices;
    // Tokens that the base does not have were added before the adapters were trained; they lie without gaps behind its own.
    let vocab = model.config().vocab_size;
    let listed: HashSet<usize> = embed_tokens.iter().chain(lm_head).map(|id| *id as usize).collect();
    let beyond = (vocab..vocab + listed.len()).take_while(|id| listed.contains(id)).count();
    let model = if model.lora().is_none() && beyond > 0 { model.resize_vocab(vocab + beyond) } else { model };
    let model = model.with_lora(&config, 0).map_err(|error| ModelError::checkpoint(folder, error.to_string()))?;
    let path = folder.join(WEIGHTS);
    let file = TensorFile::open(&path)?;
    let inner = |name: String| name.strip_prefix(PREFIX).map(str::to_owned).unwrap_or(name);
    let found: Found<'_> = file.tensors()?.tensors().into_iter().map(|(name, view)| (inner(name), view)).collect();
    let mut compare = Compare::new(&found);
    model.visit_adapters(&mut compare);
    compare.finish(&path)?;
    let device = model.device();
    let mut fill = Fill::new(found, Dtype::Float32, &device);
    let model = model.map_adapters(&mut fill);
    fill.finish(&path)?;
    Ok(model)
}

pub(super) fn save(model: &Llama, folder: &Path) -> Result<(), ModelError> {
    let Some(config) = model.lora() else {
        return Err(ModelError::Lora("the model has no adapters to be written; write the model itself".into()));
    };
    fs::create_dir_all(folder).map_err(ModelError::io(folder))?;
    let mut stored = Collect { dtype: Dtype::Float32, tensors: Vec::new() };
    model.visit_adapters(&mut stored);
    stored.tensors.iter_mut().for_each(|tensor| tensor.name.insert_str(0, PREFIX));
    TensorFile::write(&folder.join(WEIGHTS), stored.tensors)?;
    write_text(&folder.join(CONFIG), &format!("{:#}\n", to_json(config, model)?))
}

fn to_json(config: &LoraConfig, model: &Llama) -> Result<Value, ModelError> {
    let TrainableTokens { embed_tokens, lm_head } = config.trainable_tokens(model.config())?;
    let rows = [("embed_tokens", embed_tokens), ("lm_head", lm_head)].into_iter().filter(|(_, ids)| !ids.is_empty());
    let rows: Map<String, Value> = rows.map(|(name, ids)| (name.to_owned(), json!(ids))).collect();
    // PEFT knows α as a whole number, wherever it is one.
    let whole = config.lora_alpha.fract() == 0.0 && config.lora_alpha < 1e9;
    Ok(json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": config.base_model_name_or_path,
        "inference_mode": true,
        "r": config.r,
        "lora_alpha": if whole { json!(config.lora_alpha as u64) } else { json!(config.lora_alpha) },
        "use_rslora": config.use_rslora,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "target_modules": config.target_modules,
        "modules_to_save": null,
        "trainable_token_indices": if rows.is_empty() { Value::Null } else { Value::Object(rows) },
    }))
}

pub(super) fn config(folder: &Path) -> Result<LoraConfig, ModelError> {
    let path = folder.join(CONFIG);
    let wrong = |problem: String| ModelError::checkpoint(&path, problem);
    let mut fields: Map<String, Value> = serde_json::from_str(&read_text(&path)?).map_err(|e| wrong(e.to_string()))?;
    let mut take = |field: &str| fields.remove(field).unwrap_or(Value::Null);
    let field = |name: &str, value: &Value, needed: &str| wrong(format!("`{name}` is {value}; {needed}"));

    let kind = take("peft_type");
    if kind != "LORA" {
        return Err(field("peft_type", &kind, "only \"LORA\" is supported"));
    }
    let init = take("init_lora_weights");
    if !matches!(init.as_str(), None | Some("gaussian" | "orthogonal" | "eva")) {
        return Err(field("init_lora_weights", &init, "the base was changed by it; convert the adapters with PEFT first"));
    }
    let (r, alpha, rslora) = (take("r"), take("lora_alpha"), take("use_rslora"));
    let targets = take("target_modules");
    let rows = take("trainable_token_indices");
    let base = take("base_model_name_or_path");
    let config = LoraConfig {
        r: r.as_u64().ok_or_else(|| field("r", &r, "a whole number is needed"))? as usize,
        lora_alpha: alpha.as_f64().ok_or_else(|| field("lora_alpha", &alpha, "a number is needed"))?,
        use_rslora: rslora == true,
        target_modules: TargetModules::deserialize(&targets)
            .map_err(|_| field("target_modules", &targets, "a list of names or a regular expression is needed"))?,
        trainable_token_indices: tokens(&rows)
            .ok_or_else(|| field("trainable_token_indices", &rows, "a list of ids, or one each under `embed_tokens` and `lm_head`"))?,
        base_model_name_or_path: base.as_str().map(str::to_owned),
    };
    // PEFT gains fields with every version; what is off in its own terms does not concern us.
    let off = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty() || text == "none",
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    };
    match fields.iter().find(|(name, value)| !NO_MATTER.contains(&name.as_str()) && !off(value)) {
        Some((name, value)) => Err(field(name, value, "this is not supported; merge the adapters with PEFT and load the merged model")),
        None => Ok(config),
    }
}

fn tokens(value: &Value) -> Option<TrainableTokens> {
    let ids = |value: &Value| -> Option<Vec<u32>> { serde_json::from_value(value.clone()).ok() };
    match value {
        Value::Null => Some(TrainableTokens::default()),
        Value::Object(by_layer) => {
            let mut found = TrainableTokens::default();
            for (layer, list) in by_layer {
                match layer.rsplit('.').next()? {
                    "embed_tokens" => found.embed_tokens = ids(list)?,
                    "lm_head" => found.lm_head = ids(list)?,
                    _ => return None,
                }
            }
            Some(found)
        }
        list => Some(TrainableTokens { embed_tokens: ids(list)?, lm_head: Vec::new() }),
    }
}
