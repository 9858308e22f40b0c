//! `config.json` of a Llama-family checkpoint, checked field by field.

use serde_json::{Map, Value};

use crate::ModelError;

/// The shape of a Llama-family model, as `config.json` states it.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    /// `llama` or `mistral`; both are this architecture.
    pub model_type: String,
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
    /// End of a sequence; the first, where there are several.
    pub eos_token_id: Option<u32>,
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
    pub(crate) fn apply(&self, frequency: f64) -> f64 {
        let wavelength = 2.0 * std::f64::consts::PI / frequency;
        let (low, high) =
            (self.original_max_position_embeddings / self.low_freq_factor, self.original_max_position_embeddings / self.high_freq_factor);
        if wavelength < high {
            return frequency;
        }
        if wavelength > low {
            return frequency / self.factor;
        }
        let smooth =
            (self.original_max_position_embeddings / wavelength - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor);
        (1.0 - smooth) * frequency / self.factor + smooth * frequency
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
        let Value::Object(object) = value else { return Err(ModelError::config(file, "", "is not a JSON object")) };
        Fields { object: &object, file }.read()
    }

    /// The text of a `config.json` that transformers reads.
    pub fn to_json(&self) -> String {
        let mut o = serde_json::json!({
            "architectures": [if self.model_type == "mistral" { "MistralForCausalLM" } else { "LlamaForCausalLM" }],
            "model_type": self.model_type, "vocab_size": self.vocab_size, "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size, "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads, "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim, "max_position_embeddings": self.max_position_embeddings, "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta, "tie_word_embeddings": self.tie_word_embeddings, "hidden_act": "silu",
            "attention_bias": false, "mlp_bias": false, "initializer_range": self.initializer_range,
            "bos_token_id": self.bos_token_id, "eos_token_id": self.eos_token_id,
        });
        if let Some(s) = &self.rope_scaling {
            o["rope_scaling"] = serde_json::json!({"rope_type": "llama3", "factor": s.factor, "low_freq_factor": s.low_freq_factor,
                "high_freq_factor": s.high_freq_factor, "original_max_position_embeddings": s.original_max_position_embeddings as u64});
        }
        serde_json::to_string_pretty(&o).unwrap_or_default() + "\n"
    }
}

struct Fields<'a> {
    object: &'a Map<String, Value>,
    file: &'a str,
}

impl Fields<'_> {
    fn get(&self, field: &str) -> Option<&Value> {
        self.object.get(field).filter(|v| !v.is_null())
    }
    fn wrong(&self, field: &str, problem: &str) -> ModelError {
        ModelError::config(self.file, field, problem)
    }
    fn size_or(&self, field: &str, default: Option<usize>) -> Result<usize, ModelError> {
        match (self.get(field), default) {
            (None, Some(d)) => Ok(d),
            (None, None) => Err(self.wrong(field, "is missing")),
            (Some(v), _) => v
                .as_u64()
                .and_then(|n| usize::try_from(n).ok())
                .filter(|n| (1..=1 << 24).contains(n))
                .ok_or_else(|| self.wrong(field, "must be a whole number from 1 to 16777216")),
        }
    }
    fn number(&self, from: &Map<String, Value>, field: &str, default: Option<f64>) -> Result<f64, ModelError> {
        match (from.get(field).filter(|v| !v.is_null()), default) {
            (None, Some(d)) => Ok(d),
            (None, None) => Err(self.wrong(field, "is missing")),
            (Some(v), _) => v.as_f64().filter(|n| n.is_finite() && *n > 0.0).ok_or_else(|| self.wrong(field, "must be a positive number")),
        }
    }
    fn flag(&self, field: &str) -> Result<bool, ModelError> {
        self.get(field).map_or(Ok(false), |v| v.as_bool().ok_or_else(|| self.wrong(field, "must be true or false")))
    }
    fn id(&self, field: &str) -> Option<u32> {
        let v = self.get(field)?;
        let v = v.as_array().and_then(|a| a.first()).unwrap_or(v);
        v.as_u64().and_then(|n| u32::try_from(n).ok())
    }
    fn read(&self) -> Result<LlamaConfig, ModelError> {
        let model_type = self.get("model_type").and_then(Value::as_str).ok_or_else(|| self.wrong("model_type", "is missing"))?.to_owned();
        if !["llama", "mistral"].contains(&model_type.as_str()) {
            return Err(self.wrong("model_type", &format!("is \"{model_type}\"; only \"llama\" and \"mistral\" are supported")));
        }
        for bias in ["attention_bias", "mlp_bias"] {
            if self.flag(bias)? {
                return Err(self.wrong(bias, "is true; biases are not supported"));
            }
        }
        if let Some(act) = self.get("hidden_act").and_then(Value::as_str)
            && act != "silu"
        {
            return Err(self.wrong("hidden_act", &format!("is \"{act}\"; only \"silu\" is supported")));
        }
        let hidden_size = self.size_or("hidden_size", None)?;
        let heads = self.size_or("num_attention_heads", None)?;
        let kv = self.size_or("num_key_value_heads", Some(heads))?;
        if heads % kv != 0 {
            return Err(self.wrong("num_key_value_heads", "must divide num_attention_heads"));
        }
        if self.get("head_dim").is_none() && hidden_size % heads != 0 {
            return Err(self.wrong("num_attention_heads", "must divide hidden_size where head_dim is missing"));
        }
        let head_dim = self.size_or("head_dim", Some(hidden_size / heads))?;
        if head_dim % 2 != 0 {
            return Err(self.wrong("head_dim", "must be even for rotary positions"));
        }
        let max = self.size_or("max_position_embeddings", Some(2048))?;
        if model_type == "mistral" && self.get("sliding_window").is_some() && self.size_or("sliding_window", None)? < max {
            return Err(self.wrong("sliding_window", "is shorter than max_position_embeddings; sliding windows are not supported"));
        }
        let (rope_theta, rope_scaling) = self.rope(max)?;
        Ok(LlamaConfig {
            model_type,
            vocab_size: self.size_or("vocab_size", None)?,
            hidden_size,
            intermediate_size: self.size_or("intermediate_size", None)?,
            num_hidden_layers: self.size_or("num_hidden_layers", None)?,
            num_attention_heads: heads,
            num_key_value_heads: kv,
            head_dim,
            max_position_embeddings: max,
            rms_norm_eps: self.number(self.object, "rms_norm_eps", Some(1e-6))?,
            rope_theta,
            rope_scaling,
            tie_word_embeddings: self.flag("tie_word_embeddings")?,
            bos_token_id: self.id("bos_token_id"),
            eos_token_id: self.id("eos_token_id"),
            initializer_range: self.number(self.object, "initializer_range", Some(0.02))?,
        })
    }
    fn rope(&self, max: usize) -> Result<(f64, Option<RopeScaling>), ModelError> {
        let empty = Map::new();
        let newer = self.get("rope_parameters").and_then(Value::as_object);
        let scaling = newer.or_else(|| self.get("rope_scaling").and_then(Value::as_object)).unwrap_or(&empty);
        let theta = match newer {
            Some(p) if p.contains_key("rope_theta") => self.number(p, "rope_theta", None)?,
            _ => self.number(self.object, "rope_theta", Some(10000.0))?,
        };
        let kind = scaling.get("rope_type").or_else(|| scaling.get("type")).and_then(Value::as_str).unwrap_or("default");
        match kind {
            "default" => Ok((theta, None)),
            "llama3" => Ok((
                theta,
                Some(RopeScaling {
                    factor: self.number(scaling, "factor", None)?,
                    low_freq_factor: self.number(scaling, "low_freq_factor", None)?,
                    high_freq_factor: self.number(scaling, "high_freq_factor", None)?,
                    original_max_position_embeddings: self.number(scaling, "original_max_position_embeddings", Some(max as f64))?,
                }),
            )),
            other => Err(self.wrong("rope_type", &format!("is \"{other}\"; only \"default\" and \"llama3\" are supported"))),
        }
    }
}
