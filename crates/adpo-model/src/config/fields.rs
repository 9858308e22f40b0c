//! From JSON to a [`LlamaConfig`]; each error names its field.

use serde_json::{Map, Value};

use super::family::Defaults;
use super::{Family, LlamaConfig, RopeScaling};
use crate::ModelError;

/// Far above any model, and small enough that a product of two cannot overflow.
const LARGEST_SIZE: u64 = 1 << 24;
/// Each layer costs memory before a single number is read.
pub(crate) const MOST_LAYERS: u64 = 4096;
/// What transformers assumes of a model with a window that does not say how long it is.
const ASSUMED_WINDOW: usize = 4096;

/// An object of `file`: the whole of it or a part.
pub(crate) struct Fields<'a> {
    pub(crate) object: &'a Map<String, Value>,
    pub(crate) file: &'a str,
}

impl<'a> Fields<'a> {
    pub(super) fn config(&self) -> Result<LlamaConfig, ModelError> {
        let model_type = self.text("model_type")?.ok_or_else(|| self.wrong("model_type", "is missing"))?;
        let family = Family::ALL.into_iter().find(|family| family.model_type() == model_type).ok_or_else(|| {
            let known = Family::ALL.map(|family| format!("\"{}\"", family.model_type())).join(", ");
            self.wrong("model_type", &format!("is \"{model_type}\"; supported are {known}"))
        })?;
        let defaults = family.defaults();
        self.refuse_unsupported()?;
        let hidden_size = self.size("hidden_size", None)?;
        let (num_attention_heads, num_key_value_heads, head_dim) = self.heads(hidden_size, &defaults)?;
        let max_position_embeddings = self.size("max_position_embeddings", Some(defaults.max_position_embeddings))?;
        self.check_window(family, max_position_embeddings)?;
        let (rope_theta, rope_scaling) = self.rope(max_position_embeddings)?;
        Ok(LlamaConfig {
            family,
            vocab_size: self.size("vocab_size", None)?,
            hidden_size,
            intermediate_size: self.size("intermediate_size", None)?,
            num_hidden_layers: self.whole("num_hidden_layers", None, MOST_LAYERS)?,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            max_position_embeddings,
            rms_norm_eps: self.positive("rms_norm_eps", Some(1e-6))?,
            rope_theta,
            rope_scaling,
            tie_word_embeddings: self.flag("tie_word_embeddings")?,
            bos_token_id: self.ids("bos_token_id")?.first().copied(),
            eos_token_ids: self.ids("eos_token_id")?,
            initializer_range: self.positive("initializer_range", Some(0.02))?,
        })
    }

    fn refuse_unsupported(&self) -> Result<(), ModelError> {
        for bias in ["attention_bias", "mlp_bias"] {
            if self.flag(bias)? {
                return Err(self.wrong(bias, "is true; biases are not supported"));
            }
        }
        if self.get("quantization_config").is_some() {
            return Err(
                self.wrong("quantization_config", "is there; quantised weights are not supported, take the f32, f16 or bf16 checkpoint")
            );
        }
        let rotated = self.part("rope_parameters")?.map_or(Ok(None), |part| part.share("partial_rotary_factor"))?;
        if let Some(share) = rotated.or(self.share("partial_rotary_factor")?).filter(|share| *share != 1.0) {
            return Err(self.wrong("partial_rotary_factor", &format!("is {share}; only models that rotate whole heads are supported")));
        }
        match self.text("hidden_act")? {
            None | Some("silu") => Ok(()),
            Some(other) => Err(self.wrong("hidden_act", &format!("is \"{other}\"; only \"silu\" is supported"))),
        }
    }

    /// Query heads, key and value heads, and their width.
    fn heads(&self, hidden_size: usize, defaults: &Defaults) -> Result<(usize, usize, usize), ModelError> {
        let heads = self.size("num_attention_heads", None)?;
        let kv_heads = self.size("num_key_value_heads", Some(defaults.num_key_value_heads.unwrap_or(heads)))?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(self.wrong("num_key_value_heads", &format!("is {kv_heads}; it must divide num_attention_heads = {heads}")));
        }
        let default_dim = defaults.head_dim;
        if self.get("head_dim").is_none() && default_dim.is_none() && !hidden_size.is_multiple_of(heads) {
            return Err(self.wrong("num_attention_heads", "must divide hidden_size where head_dim is missing"));
        }
        let head_dim = self.size("head_dim", Some(default_dim.unwrap_or(hidden_size / heads)))?;
        if !head_dim.is_multiple_of(2) {
            return Err(self.wrong("head_dim", &format!("is {head_dim}; rotary positions need an even one")));
        }
        Ok((heads, kv_heads, head_dim))
    }

    /// A window as long as the context makes no difference. Mistral's may be stated as none, left out, transformers assumes one; Qwen's has
    /// to be turned on.
    fn check_window(&self, family: Family, max_position_embeddings: usize) -> Result<(), ModelError> {
        let slides = match family {
            Family::Llama => false,
            Family::Mistral => !self.object.get("sliding_window").is_some_and(Value::is_null),
            Family::Qwen2 | Family::Qwen3 => self.flag("use_sliding_window")?,
        };
        if !slides {
            return Ok(());
        }
        let window = self.size("sliding_window", Some(ASSUMED_WINDOW))?;
        if window >= max_position_embeddings {
            return Ok(());
        }
        let problem = format!(
            "is {window}, shorter than max_position_embeddings = {max_position_embeddings}; sliding windows are not supported: \
             lower max_position_embeddings to {window}, where they make no difference"
        );
        Err(self.wrong("sliding_window", &problem))
    }

    /// Base and rescaling of the rotary frequencies, in the newer spelling (`rope_parameters`) or the older one.
    fn rope(&self, max_position_embeddings: usize) -> Result<(f64, Option<RopeScaling>), ModelError> {
        let newer = self.part("rope_parameters")?;
        if newer.is_some() && self.get("rope_scaling").is_some() {
            return Err(self.wrong("rope_scaling", "stands beside rope_parameters, which says the same in a newer way; remove one of them"));
        }
        let theta = match &newer {
            Some(part) if part.get("rope_theta").is_some() => part.positive("rope_theta", None)?,
            _ => self.positive("rope_theta", Some(10_000.0))?,
        };
        let Some(part) = newer.map_or_else(|| self.part("rope_scaling"), |part| Ok(Some(part)))? else { return Ok((theta, None)) };
        let kind = part.text("rope_type")?.map_or_else(|| part.text("type"), |kind| Ok(Some(kind)))?;
        match kind {
            None | Some("default") => Ok((theta, None)),
            Some("llama3") => Ok((theta, Some(part.llama3(max_position_embeddings)?))),
            Some(other) => Err(self.wrong("rope_type", &format!("is \"{other}\"; only \"default\" and \"llama3\" are supported"))),
        }
    }

    fn llama3(&self, max_position_embeddings: usize) -> Result<RopeScaling, ModelError> {
        let scaling = RopeScaling {
            factor: self.positive("factor", None)?,
            low_freq_factor: self.positive("low_freq_factor", None)?,
            high_freq_factor: self.positive("high_freq_factor", None)?,
            original_max_position_embeddings: self.positive("original_max_position_embeddings", Some(max_position_embeddings as f64))?,
        };
        if scaling.high_freq_factor <= scaling.low_freq_factor {
            return Err(self.wrong("high_freq_factor", "must be greater than low_freq_factor"));
        }
        Ok(scaling)
    }

    /// `null` counts as absent.
    fn get(&self, field: &str) -> Option<&'a Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    pub(crate) fn wrong(&self, field: &str, problem: &str) -> ModelError {
        ModelError::config(self.file, field, problem)
    }

    fn part(&self, field: &str) -> Result<Option<Self>, ModelError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let object = value.as_object().ok_or_else(|| self.wrong(field, "must be an object"))?;
        Ok(Some(Self { object, file: self.file }))
    }

    pub(crate) fn text(&self, field: &str) -> Result<Option<&'a str>, ModelError> {
        self.get(field).map(|value| value.as_str().ok_or_else(|| self.wrong(field, "must be a string"))).transpose()
    }

    fn flag(&self, field: &str) -> Result<bool, ModelError> {
        self.get(field).map_or(Ok(false), |value| value.as_bool().ok_or_else(|| self.wrong(field, "must be true or false")))
    }

    pub(crate) fn size(&self, field: &str, default: Option<usize>) -> Result<usize, ModelError> {
        self.whole(field, default, LARGEST_SIZE)
    }

    pub(crate) fn whole(&self, field: &str, default: Option<usize>, most: u64) -> Result<usize, ModelError> {
        match self.get(field) {
            None => default.ok_or_else(|| self.wrong(field, "is missing")),
            Some(value) => value
                .as_u64()
                .filter(|n| (1..=most).contains(n))
                .map(|n| n as usize)
                .ok_or_else(|| self.wrong(field, &format!("must be a whole number from 1 to {most}"))),
        }
    }

    pub(crate) fn positive(&self, field: &str, default: Option<f64>) -> Result<f64, ModelError> {
        match self.get(field) {
            None => default.ok_or_else(|| self.wrong(field, "is missing")),
            Some(value) => {
                value.as_f64().filter(|n| n.is_finite() && *n > 0.0).ok_or_else(|| self.wrong(field, "must be a positive number"))
            }
        }
    }

    fn share(&self, field: &str) -> Result<Option<f64>, ModelError> {
        self.get(field).map(|_| self.positive(field, None)).transpose()
    }

    /// A token id or several; none where the field is missing.
    fn ids(&self, field: &str) -> Result<Vec<u32>, ModelError> {
        let Some(value) = self.get(field) else { return Ok(Vec::new()) };
        let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let ids = list.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect::<Option<Vec<_>>>();
        ids.filter(|ids| !ids.is_empty()).ok_or_else(|| self.wrong(field, "must be a token id or a list of them"))
    }
}
