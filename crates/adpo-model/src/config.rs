//! `config.json` of a checkpoint of the Llama family or a relative, checked field by field.

mod family;
mod fields;

use serde_json::{Value, json};

use crate::ModelError;
pub use family::Family;
pub(crate) use fields::{Fields, MOST_LAYERS};

/// The shape of a Llama-family model, as `config.json` states it.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    /// Which family it belongs to.
    pub family: Family,
    /// Rows of embedding and head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; fewer than query heads is grouped-query attention.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// ε of the norms.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Rescaled frequencies for long contexts.
    pub rope_scaling: Option<RopeScaling>,
    /// Whether the embedding is the head as well.
    pub tie_word_embeddings: bool,
    /// Beginning of a sequence.
    pub bos_token_id: Option<u32>,
    /// What ends a sequence; several ids may do so, and `generate` of transformers stops at any of them.
    pub eos_token_ids: Vec<u32>,
    /// Standard deviation of fresh weights.
    pub initializer_range: f64,
}

/// Llama 3's rescaling of rotary frequencies (`rope_type` `llama3`): long wavelengths are stretched by `factor`,
/// short ones stay, those between are blended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeScaling {
    /// How far long wavelengths are stretched.
    pub factor: f64,
    /// Wavelengths above context / this are long.
    pub low_freq_factor: f64,
    /// Wavelengths below context / this are short.
    pub high_freq_factor: f64,
    /// The context length before the stretch.
    pub original_max_position_embeddings: f64,
}

impl RopeScaling {
    /// The frequency, in radians per position, that stands in for `frequency`.
    pub(crate) fn apply(&self, frequency: f64) -> f64 {
        let turns = self.original_max_position_embeddings * frequency / (2.0 * std::f64::consts::PI);
        if turns > self.high_freq_factor {
            return frequency;
        }
        if turns < self.low_freq_factor {
            return frequency / self.factor;
        }
        let kept = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor);
        (1.0 - kept) * frequency / self.factor + kept * frequency
    }
}

impl LlamaConfig {
    /// Reads the text of a `config.json`; `file` is used in errors.
    ///
    /// Both spellings of rotary options are read: `rope_theta` with `rope_scaling`, and `rope_parameters`.
    ///
    /// # Errors
    /// [`ModelError::Config`] names the field that is missing, makes no sense, or asks for what is not supported.
    pub fn from_json(text: &str, file: &str) -> Result<Self, ModelError> {
        let value: Value = serde_json::from_str(text).map_err(|e| ModelError::config(file, "", &e.to_string()))?;
        let object = value.as_object().ok_or_else(|| ModelError::config(file, "", "is not a JSON object"))?;
        Fields { object, file }.config()
    }

    /// How many weights a model of this shape has; tied ones count once.
    pub fn num_parameters(&self) -> usize {
        let Self { hidden_size: d, intermediate_size: f, head_dim, .. } = *self;
        let (queries, keys) = (self.num_attention_heads * head_dim, self.num_key_value_heads * head_dim);
        let biases = if self.family.has_bias() { queries + 2 * keys } else { 0 };
        let head_norms = if self.family.norms_heads() { 2 * head_dim } else { 0 };
        let block = 2 * d * queries + 2 * d * keys + 3 * d * f + 2 * d + biases + head_norms;
        let embeddings = if self.tie_word_embeddings { 1 } else { 2 } * self.vocab_size * d;
        embeddings + self.num_hidden_layers * block + d
    }

    /// The text of a `config.json` that transformers reads.
    pub fn to_json(&self) -> String {
        format!("{:#}\n", self.to_value())
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut value = json!({
            "architectures": [self.family.architecture()],
            "model_type": self.family.model_type(),
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tie_word_embeddings,
            "hidden_act": "silu",
            "initializer_range": self.initializer_range,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": match self.eos_token_ids.as_slice() {
                [] => Value::Null,
                [one] => json!(one),
                several => json!(several),
            },
        });
        if let Some(scaling) = &self.rope_scaling {
            value["rope_scaling"] = json!({
                "rope_type": "llama3",
                "factor": scaling.factor,
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                "original_max_position_embeddings": scaling.original_max_position_embeddings as u64,
            });
        }
        match self.family {
            Family::Llama => {
                value["attention_bias"] = json!(false);
                value["mlp_bias"] = json!(false);
            }
            // Left out, transformers would take it for 4096.
            Family::Mistral => value["sliding_window"] = Value::Null,
            Family::Qwen2 => value["use_sliding_window"] = json!(false),
            Family::Qwen3 => {
                value["attention_bias"] = json!(false);
                value["use_sliding_window"] = json!(false);
            }
        }
        value
    }
}
