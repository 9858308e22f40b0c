//! The configuration of adapters, in PEFT's terms.

use std::collections::HashSet;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::{LlamaConfig, ModelError};

/// Which weights get adapters, and how large; names and meaning are PEFT's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// The rank: rows of A, columns of B.
    pub r: usize,
    /// s = `lora_alpha` / r.
    pub lora_alpha: f64,
    /// s = `lora_alpha` / √r instead (rsLoRA, arXiv 2312.03732).
    pub use_rslora: bool,
    /// The linear layers that get one.
    pub target_modules: TargetModules,
    /// Tokens whose own rows are trained beside the adapters.
    pub trainable_token_indices: TrainableTokens,
    /// The folder or hub name of the base, for whoever loads the adapters alone.
    pub base_model_name_or_path: Option<String>,
}

/// Linear layers by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetModules {
    /// `all-linear`, or a regular expression that the whole of a layer's name has to match.
    Pattern(String),
    /// Names, or what they end with: `q_proj` is the query projection of every block.
    Names(Vec<String>),
}

/// The ids whose rows of embedding and head are trained; where the head is the embedding, `lm_head` is empty or the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainableTokens {
    /// Rows of the embedding.
    pub embed_tokens: Vec<u32>,
    /// Rows of the head.
    pub lm_head: Vec<u32>,
}

/// Below `model.layers.<i>.`; the head and the embedding cannot have adapters.
pub(crate) const LINEAR_LAYERS: [&str; 7] =
    ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];

/// Adapters have a scale about 1; one above this leaves nothing of the base.
const LARGEST_SCALE: f64 = 1e6;

impl LoraConfig {
    /// s.
    pub fn scaling(&self) -> f64 {
        self.lora_alpha / if self.use_rslora { (self.r as f64).sqrt() } else { self.r as f64 }
    }

    /// The layers that get adapters, by their whole names, in the order of the model.
    ///
    /// # Errors
    /// [`ModelError::Lora`] for a rank or α that cannot be, a pattern that is none, or a target that names no layer: the error
    /// lists those that exist.
    pub fn modules(&self, config: &LlamaConfig) -> Result<Vec<String>, ModelError> {
        let wrong = |problem: String| Err(ModelError::Lora(problem));
        if self.r == 0 || !(self.lora_alpha.is_finite() && self.lora_alpha > 0.0) {
            return wrong(format!("`r` is {} and `lora_alpha` {}; both must be above 0", self.r, self.lora_alpha));
        }
        if self.scaling() > LARGEST_SCALE {
            return wrong(format!(
                "`lora_alpha` is {}, which makes a scale of {:e}; it is at most {LARGEST_SCALE:e}",
                self.lora_alpha,
                self.scaling()
            ));
        }
        if self.r > config.hidden_size {
            return wrong(format!("`r` is {}, more than the model is wide ({}); train all weights instead", self.r, config.hidden_size));
        }
        let all: Vec<String> =
            (0..config.num_hidden_layers).flat_map(|block| LINEAR_LAYERS.map(|layer| format!("model.layers.{block}.{layer}"))).collect();
        let unknown = |target: &str| {
            let last: Vec<&str> = LINEAR_LAYERS.iter().filter_map(|layer| layer.rsplit('.').next()).collect();
            let (first, last_block) = (all.first().map_or("", String::as_str), config.num_hidden_layers.saturating_sub(1));
            wrong(format!(
                "`target_modules`: `{target}` names none of the linear layers: {} of the blocks 0 to {last_block}, such as `{first}`",
                last.join(", ")
            ))
        };
        let chosen: Vec<String> = match &self.target_modules {
            TargetModules::Pattern(all_linear) if all_linear == "all-linear" => all,
            TargetModules::Pattern(pattern) => {
                let whole = match Regex::new(&format!("^(?:{pattern})$")) {
                    Ok(whole) => whole,
                    Err(error) => return wrong(format!("`target_modules` is no regular expression: {error}")),
                };
                let chosen: Vec<String> = all.iter().filter(|name| whole.is_match(name)).cloned().collect();
                if chosen.is_empty() {
                    return unknown(pattern);
                }
                chosen
            }
            TargetModules::Names(targets) => {
                let is = |name: &str, target: &str| name.strip_suffix(target).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                if let Some(target) = targets.iter().find(|target| target.is_empty() || !all.iter().any(|name| is(name, target))) {
                    return unknown(target);
                }
                if targets.is_empty() {
                    return wrong("`target_modules` is empty; name layers such as q_proj, or \"all-linear\"".into());
                }
                all.iter().filter(|name| targets.iter().any(|target| is(name, target))).cloned().collect()
            }
        };
        Ok(chosen)
    }

    /// The rows to train, as the model has them: a tied head has none of its own.
    pub(crate) fn trainable_tokens(&self, config: &LlamaConfig) -> Result<TrainableTokens, ModelError> {
        let TrainableTokens { embed_tokens, lm_head } = &self.trainable_token_indices;
        let wrong = |problem: String| Err(ModelError::Lora(format!("`trainable_token_indices`: {problem}")));
        for ids in [embed_tokens, lm_head] {
            if let Some(id) = ids.iter().find(|id| **id as usize >= config.vocab_size) {
                return wrong(format!("{id} lies outside the vocabulary of {}", config.vocab_size));
            }
            let mut seen = HashSet::with_capacity(ids.len());
            if let Some(id) = ids.iter().find(|id| !seen.insert(**id)) {
                return wrong(format!("{id} is listed twice"));
            }
        }
        if !config.tie_word_embeddings {
            return Ok(self.trainable_token_indices.clone());
        }
        if lm_head.is_empty() || lm_head == embed_tokens {
            return Ok(TrainableTokens { embed_tokens: embed_tokens.clone(), lm_head: Vec::new() });
        }
        wrong("the head is the embedding (`tie_word_embeddings`), so `lm_head` must list what `embed_tokens` lists, or nothing".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> LlamaConfig {
        let json = r#"{"model_type": "llama", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3,
            "num_attention_heads": 4, "max_position_embeddings": 64}"#;
        LlamaConfig::from_json(json, "test").expect("a supported configuration")
    }

    fn targeting(target_modules: TargetModules) -> LoraConfig {
        LoraConfig {
            r: 16,
            lora_alpha: 32.0,
            use_rslora: false,
            target_modules,
            trainable_token_indices: TrainableTokens::default(),
            base_model_name_or_path: None,
        }
    }

    fn names(names: &[&str]) -> TargetModules {
        TargetModules::Names(names.iter().map(ToString::to_string).collect())
    }

    fn pattern(pattern: &str) -> TargetModules {
        TargetModules::Pattern(pattern.to_owned())
    }

    #[test]
    fn targets_are_suffixes_whole_names_a_pattern_or_all() {
        let count = |target| targeting(target).modules(&shape()).expect("it names layers").len();
        assert_eq!(count(pattern("all-linear")), 21);
        assert_eq!(count(names(&["q_proj", "v_proj"])), 6);
        assert_eq!(count(names(&["self_attn.q_proj", "model.layers.1.mlp.up_proj"])), 4);
        assert_eq!(count(pattern(r".*\.[02]\.self_attn\.(q|v)_proj")), 4);
        let once = targeting(names(&["v_proj", "q_proj", "self_attn.q_proj"])).modules(&shape()).expect("it names layers");
        assert_eq!(once[..2], ["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj"], "each once, in the model's order");
        assert_eq!(once.len(), 6);
    }

    #[test]
    fn an_unknown_target_is_refused_with_the_layers_that_exist() {
        // `proj` ends a name but is no part of it between dots; a pattern has to match the whole name.
        for target in [names(&["q_proj", "query"]), names(&["proj"]), names(&["lm_head"]), names(&[""]), pattern("q_proj")] {
            let message = targeting(target.clone()).modules(&shape()).expect_err("it names nothing").to_string();
            for part in ["target_modules", "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj", "blocks 0 to 2"] {
                assert!(message.contains(part), "{target:?}: {message}");
            }
        }
        for target in [names(&[]), pattern("(")] {
            assert!(targeting(target).modules(&shape()).expect_err("no target").to_string().contains("target_modules"));
        }
    }

    #[test]
    fn the_scale_is_alpha_by_r_or_by_its_root() {
        let config = targeting(pattern("all-linear"));
        assert_eq!(config.scaling(), 2.0);
        assert_eq!(LoraConfig { use_rslora: true, ..config.clone() }.scaling(), 8.0);
        for (r, lora_alpha) in [(0, 1.0), (17, 1.0), (4, 0.0), (4, f64::NAN)] {
            assert!(LoraConfig { r, lora_alpha, ..config.clone() }.modules(&shape()).is_err());
        }
    }
}
