//! `config.json` of a BERT encoder, checked field by field.

use serde_json::Value;

use crate::ModelError;
use crate::config::{Fields, MOST_LAYERS};

/// The shape of a BERT encoder, as `config.json` states it.
#[derive(Debug, Clone, PartialEq)]
pub struct BertConfig {
    /// Rows of the word embedding.
    pub vocab_size: usize,
    /// Width of the residual stream, and of an embedding.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Rows of the embedding that tells a first text from a second.
    pub type_vocab_size: usize,
    /// ε of the norms.
    pub layer_norm_eps: f64,
}

impl BertConfig {
    /// Reads the text of a `config.json`; `file` is used in errors.
    ///
    /// # Errors
    /// [`ModelError::Config`] names the field that is missing, makes no sense, or asks for what is not supported.
    pub fn from_json(text: &str, file: &str) -> Result<Self, ModelError> {
        let value: Value = serde_json::from_str(text).map_err(|e| ModelError::config(file, "", &e.to_string()))?;
        let object = value.as_object().ok_or_else(|| ModelError::config(file, "", "is not a JSON object"))?;
        let fields = Fields { object, file };
        // What transformers assumes where `config.json` is silent stands beside each field.
        for (field, only, assumed) in
            [("model_type", "bert", None), ("hidden_act", "gelu", Some("gelu")), ("position_embedding_type", "absolute", Some("absolute"))]
        {
            match fields.text(field)?.or(assumed) {
                Some(found) if found == only => {}
                Some(found) => return Err(fields.wrong(field, &format!("is \"{found}\"; only \"{only}\" is supported"))),
                None => return Err(fields.wrong(field, "is missing")),
            }
        }
        let config = Self {
            vocab_size: fields.size("vocab_size", Some(30_522))?,
            hidden_size: fields.size("hidden_size", Some(768))?,
            intermediate_size: fields.size("intermediate_size", Some(3072))?,
            num_hidden_layers: fields.whole("num_hidden_layers", Some(12), MOST_LAYERS)?,
            num_attention_heads: fields.size("num_attention_heads", Some(12))?,
            max_position_embeddings: fields.size("max_position_embeddings", Some(512))?,
            type_vocab_size: fields.size("type_vocab_size", Some(2))?,
            layer_norm_eps: fields.positive("layer_norm_eps", Some(1e-12))?,
        };
        if !config.hidden_size.is_multiple_of(config.num_attention_heads) {
            let problem = format!("is {}; it must divide hidden_size = {}", config.num_attention_heads, config.hidden_size);
            return Err(fields.wrong("num_attention_heads", &problem));
        }
        Ok(config)
    }
}
