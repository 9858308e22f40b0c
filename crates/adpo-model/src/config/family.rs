//! What sets the families apart; everything else about them is the same architecture.

/// A family of models, by its `model_type` in `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Llama 1 to 3.x, and what is built like them.
    Llama,
    /// Llama with a sliding window, which has to be as long as the context here.
    Mistral,
    /// Qwen2 and 2.5: queries, keys and values have a bias.
    Qwen2,
    /// Qwen3: every head of queries and keys is normed before it is rotated.
    Qwen3,
}

/// What transformers assumes where `config.json` is silent.
pub(super) struct Defaults {
    pub(super) max_position_embeddings: usize,
    /// `None`: as many as query heads.
    pub(super) num_key_value_heads: Option<usize>,
    /// `None`: hidden size by heads.
    pub(super) head_dim: Option<usize>,
}

impl Family {
    pub(super) const ALL: [Self; 4] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3];

    /// `model_type` in `config.json`.
    pub const fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The class of transformers that loads it.
    pub(super) const fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    /// Whether queries, keys and values have a bias.
    pub(crate) const fn has_bias(self) -> bool {
        matches!(self, Self::Qwen2)
    }

    /// Whether every head of queries and keys is normed.
    pub(crate) const fn norms_heads(self) -> bool {
        matches!(self, Self::Qwen3)
    }

    pub(super) const fn defaults(self) -> Defaults {
        match self {
            Self::Llama => Defaults { max_position_embeddings: 2048, num_key_value_heads: None, head_dim: None },
            Self::Mistral => Defaults { max_position_embeddings: 131_072, num_key_value_heads: Some(8), head_dim: None },
            Self::Qwen2 => Defaults { max_position_embeddings: 32_768, num_key_value_heads: Some(32), head_dim: None },
            Self::Qwen3 => Defaults { max_position_embeddings: 32_768, num_key_value_heads: Some(32), head_dim: Some(128) },
        }
    }
}
