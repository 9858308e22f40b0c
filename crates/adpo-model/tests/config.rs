//! What `config.json` may say, and that every refusal names its field.

use adpo_model::{Llama, LlamaConfig, ModelError};
use burn::tensor::Device;
use serde_json::{Value, json};

fn plain() -> Value {
    json!({
        "model_type": "llama", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    })
}

fn with(changes: &Value) -> Value {
    let mut config = plain();
    for (field, value) in changes.as_object().expect("an object of changes") {
        config[field] = value.clone();
    }
    config
}

fn read(config: &Value) -> Result<LlamaConfig, ModelError> {
    LlamaConfig::from_json(&config.to_string(), "some/config.json")
}

#[test]
fn every_refusal_names_its_field_and_file() {
    let llama3 = |field: &str, value: Value| {
        let mut rope = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0});
        rope[field] = value;
        json!({ "rope_scaling": rope })
    };
    let cases = [
        ("model_type", json!({"model_type": "gpt2"})),
        ("model_type", json!({"model_type": null})),
        ("model_type", json!({"model_type": 3})),
        ("attention_bias", json!({"attention_bias": true})),
        ("mlp_bias", json!({"mlp_bias": true})),
        ("hidden_act", json!({"hidden_act": "gelu"})),
        ("hidden_act", json!({"hidden_act": 1})),
        ("vocab_size", json!({"vocab_size": null})),
        ("vocab_size", json!({"vocab_size": 0})),
        ("hidden_size", json!({"hidden_size": -16})),
        ("hidden_size", json!({"hidden_size": 1_000_000_000_000_u64})),
        ("intermediate_size", json!({"intermediate_size": 2.5})),
        ("num_hidden_layers", json!({"num_hidden_layers": 16_000_000})),
        ("num_attention_heads", json!({"num_attention_heads": 3, "num_key_value_heads": 3})),
        ("num_key_value_heads", json!({"num_key_value_heads": 3})),
        ("head_dim", json!({"head_dim": 5})),
        ("max_position_embeddings", json!({"max_position_embeddings": "64"})),
        ("rms_norm_eps", json!({"rms_norm_eps": 0})),
        ("initializer_range", json!({"initializer_range": -1.0})),
        ("tie_word_embeddings", json!({"tie_word_embeddings": "yes"})),
        ("bos_token_id", json!({"bos_token_id": -1})),
        ("eos_token_id", json!({"eos_token_id": []})),
        ("quantization_config", json!({"quantization_config": {"bits": 4}})),
        ("partial_rotary_factor", json!({"partial_rotary_factor": 0.5})),
        ("rope_scaling", json!({"rope_parameters": {"rope_type": "default"}, "rope_scaling": {"rope_type": "llama3"}})),
        ("sliding_window", json!({"model_type": "mistral", "sliding_window": 32})),
        ("sliding_window", json!({"model_type": "qwen2", "use_sliding_window": true, "sliding_window": 32})),
        ("use_sliding_window", json!({"model_type": "qwen3", "use_sliding_window": "no"})),
        ("attention_bias", json!({"model_type": "qwen3", "attention_bias": true})),
        ("sliding_window", json!({"model_type": "mistral", "max_position_embeddings": 8192})),
        ("rope_theta", json!({"rope_theta": "big"})),
        ("rope_theta", json!({"rope_parameters": {"rope_theta": 0}})),
        ("rope_type", json!({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}})),
        ("rope_type", json!({"rope_scaling": {"type": "linear", "factor": 2.0}})),
        ("rope_type", json!({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4}})),
        ("rope_type", json!({"rope_parameters": {"rope_type": 4}})),
        ("rope_scaling", json!({"rope_scaling": "llama3"})),
        ("rope_parameters", json!({"rope_parameters": [1]})),
        ("factor", llama3("factor", Value::Null)),
        ("high_freq_factor", llama3("high_freq_factor", json!(0.5))),
    ];
    for (expected, changes) in cases {
        match read(&with(&changes)) {
            Err(ModelError::Config { file, field, .. }) => assert_eq!((field.as_str(), file.as_str()), (expected, "some/config.json")),
            other => panic!("{changes} should be refused because of {expected}, and gave {other:?}"),
        }
    }
}

#[test]
fn text_that_is_not_a_json_object_is_an_error_that_names_the_file() {
    for text in ["", "{", "[]", "null", "{\"model_type\": \"llama\"", "\u{0}"] {
        let error = LlamaConfig::from_json(text, "some/config.json").expect_err("not a configuration");
        assert!(error.to_string().contains("some/config.json"), "{error}");
    }
}

#[test]
fn both_spellings_of_rotary_options_say_the_same() {
    let scaling = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32
    });
    let mut newer = scaling.clone();
    newer["rope_theta"] = json!(500_000.0);
    let older = read(&with(&json!({"rope_theta": 500_000.0, "rope_scaling": scaling}))).expect("the older spelling");
    let newer = read(&with(&json!({"rope_parameters": newer}))).expect("the newer spelling");
    assert_eq!(older, newer);
    assert_eq!(older.rope_theta, 500_000.0);
    assert_eq!(older.rope_scaling.expect("scaled").factor, 8.0);
    let plain = read(&with(&json!({"rope_parameters": {"rope_theta": 7.0, "rope_type": "default"}}))).expect("no scaling");
    assert_eq!((plain.rope_theta, plain.rope_scaling), (7.0, None));
}

#[test]
fn what_is_left_out_is_what_transformers_assumes() {
    let mut config = plain();
    for field in ["num_key_value_heads", "max_position_embeddings", "rms_norm_eps"] {
        config[field] = Value::Null;
    }
    let config = read(&config).expect("these fields have defaults");
    assert_eq!((config.num_key_value_heads, config.head_dim, config.max_position_embeddings), (4, 4, 2048));
    assert_eq!((config.rms_norm_eps, config.rope_theta, config.initializer_range), (1e-6, 10_000.0, 0.02));
    assert!(!config.tie_word_embeddings);
}

#[test]
fn the_first_of_several_end_tokens_is_taken() {
    let config = read(&with(&json!({"bos_token_id": 1, "eos_token_id": [9, 10]}))).expect("lists are fine");
    assert_eq!((config.bos_token_id, config.eos_token_ids.as_slice()), (Some(1), [9, 10].as_slice()));
    assert_eq!(LlamaConfig::from_json(&config.to_json(), "own").expect("its own form"), config);
}

#[test]
fn what_is_written_reads_back_as_the_same() {
    let scaled = json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32}, "tie_word_embeddings": true, "eos_token_id": 2});
    let mistral = json!({"model_type": "mistral", "max_position_embeddings": 8192, "sliding_window": null});
    for changes in [json!({}), scaled, mistral] {
        let config = read(&with(&changes)).expect("supported");
        assert_eq!(LlamaConfig::from_json(&config.to_json(), "written").expect("reads back"), config);
    }
}

#[test]
fn a_mistral_checkpoint_loads_where_its_window_makes_no_difference() {
    let device = Device::flex();
    for window in [json!(null), json!(64), json!(4096)] {
        let config = read(&with(&json!({"model_type": "mistral", "sliding_window": window}))).expect("the window reaches everywhere");
        let folder = tempfile::tempdir().expect("a folder");
        let model = Llama::init(&config, 1, &device);
        model.save(folder.path(), &adpo_model::SaveOptions::default()).expect("saves");
        let loaded = Llama::load(folder.path(), &device).expect("loads");
        assert_eq!(loaded.config(), &config);
        assert!(config.to_json().contains("MistralForCausalLM"));
    }
}
