//! How completions are drawn, in a recipe.

use adpo_model::Dtype;
use serde::{Deserialize, Serialize};

/// How completions are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Draw {
    /// Longest completion in tokens.
    pub max_new_tokens: usize,
    /// Only the k likeliest tokens.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that together reach this probability.
    pub top_p: Option<f64>,
    /// Completions drawn at once.
    pub batch_size: usize,
    /// The type of weights, activations and key/value cache. `bfloat16` takes half the memory, and on a GPU half the time of a token.
    #[serde(skip_serializing_if = "Dtype::is_float32")]
    pub dtype: Dtype,
}

impl Default for Draw {
    fn default() -> Self {
        Self { max_new_tokens: 128, top_k: None, top_p: None, batch_size: 64, dtype: Dtype::Float32 }
    }
}
