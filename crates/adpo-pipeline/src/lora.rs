//! Low-rank adapters in a recipe.

use std::path::Path;

use adpo_data::ControlToken;
use adpo_model::{Llama, LlamaConfig, LoraConfig, ModelError, TargetModules, TrainableTokens};
use serde::{Deserialize, Serialize};

/// A stage that trains adapters beside frozen weights, and the control token's rows of embedding and head; nothing else. Names
/// and defaults are TRL's where it has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lora {
    /// The rank.
    pub r: usize,
    /// What adapters add is scaled by `lora_alpha` / r.
    pub lora_alpha: f64,
    /// By `lora_alpha` / √r instead.
    pub use_rslora: bool,
    /// The linear layers that get one: `"all-linear"`, names or what they end with, or a regular expression.
    pub target_modules: TargetModules,
    /// The stage's model is written whole, the adapters merged into it, instead of as a PEFT folder beside its base.
    pub merge: bool,
}

impl Default for Lora {
    fn default() -> Self {
        let target_modules = TargetModules::Pattern("all-linear".into());
        Self { r: 16, lora_alpha: 32.0, use_rslora: false, target_modules, merge: false }
    }
}

impl Lora {
    /// Whether a base of this shape can have them.
    pub(crate) fn check(&self, base: &LlamaConfig) -> Result<(), ModelError> {
        self.config(&[], "").modules(base).map(drop)
    }

    /// What a stage trains: `model`, whose folder or name is `base`, with fresh adapters where its table asks for them.
    pub(crate) fn beside(
        table: Option<&Self>,
        model: Llama,
        base: &str,
        control: Option<&ControlToken>,
        seed: u64,
    ) -> Result<Llama, ModelError> {
        match table {
            None => Ok(model),
            Some(lora) => model.with_lora(&lora.config(&control.map(|control| control.id).into_iter().collect::<Vec<_>>(), base), seed),
        }
    }

    /// What a stage writes.
    pub(crate) fn finish(table: Option<&Self>, model: Llama) -> Llama {
        if table.is_some_and(|lora| lora.merge) { model.merge_lora() } else { model }
    }

    /// PEFT's terms of it, with the rows of these tokens.
    pub(crate) fn config(&self, tokens: &[u32], base: &str) -> LoraConfig {
        LoraConfig {
            r: self.r,
            lora_alpha: self.lora_alpha,
            use_rslora: self.use_rslora,
            target_modules: self.target_modules.clone(),
            trainable_token_indices: TrainableTokens { embed_tokens: tokens.to_vec(), lm_head: tokens.to_vec() },
            base_model_name_or_path: Some(from_anywhere(base)),
        }
    }
}

/// A base as its adapters name it. PEFT looks for a relative path from wherever it is started, not from the adapters.
fn from_anywhere(base: &str) -> String {
    let path = Path::new(base);
    match std::path::absolute(path) {
        Ok(absolute) if path.exists() => absolute.to_string_lossy().into_owned(),
        _ => base.to_owned(),
    }
}
