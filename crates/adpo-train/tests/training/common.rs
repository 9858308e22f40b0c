//! A tiny random model, random rows, and what the tests compare.

use std::path::{Path, PathBuf};

use adpo_data::{Encoded, EncodedTriple};
use adpo_model::{Llama, LlamaConfig, LoraConfig, ParameterVisitor, TargetModules, TrainableTokens};
use adpo_train::{SftExample, TrainOptions};
use burn::module::Param;
use burn::tensor::{Device, Tensor};

pub(crate) const VOCAB: usize = 64;

/// Two layers, grouped queries; weights so large that its predictions are far from uniform.
pub(crate) fn model(seed: u64) -> Llama {
    let config = LlamaConfig::from_json(
        &format!(
            r#"{{"model_type": "llama", "vocab_size": {VOCAB}, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
                "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.2}}"#
        ),
        "the test's config",
    );
    Llama::init(&config.expect("a valid configuration"), seed, &Device::flex())
}

/// Adapters of rank 4 on every linear layer, and the rows of id 63, which ends the prompts of [`triples`] with the token.
pub(crate) fn lora() -> LoraConfig {
    LoraConfig {
        r: 4,
        lora_alpha: 8.0,
        use_rslora: false,
        target_modules: TargetModules::Pattern("all-linear".into()),
        trainable_token_indices: TrainableTokens { embed_tokens: vec![63], lm_head: vec![63] },
        base_model_name_or_path: None,
    }
}

/// Ids that look random, by a linear congruence.
pub(crate) fn ids(seed: usize, length: usize) -> Vec<u32> {
    let mut state = seed as u64 * 7919 + 17;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32 % VOCAB as u32
        })
        .collect()
}

/// Sequences of 4 to 40 ids of which all but the first three are trained: the shortest has 1 target, the longest 37.
pub(crate) fn examples(count: usize) -> Vec<SftExample> {
    let example = |i: usize| {
        let ids = ids(i, [4, 40, 9, 23][i % 4]);
        let trained = (0..ids.len()).map(|at| at >= 3).collect();
        SftExample { row: format!("sft:{i}"), encoded: Encoded { ids, trained } }
    };
    (0..count).map(example).collect()
}

pub(crate) fn triples(count: usize) -> Vec<EncodedTriple> {
    let triple = |i: usize| {
        let prompt = ids(10 * i, 3 + i % 5);
        let toxic_prompt = prompt.iter().copied().chain([63]).collect();
        EncodedTriple {
            row: format!("triple:{i}"),
            prompt,
            chosen: ids(10 * i + 1, [1, 17, 6][i % 3]),
            rejected: ids(10 * i + 2, [12, 2, 5][i % 3]),
            toxic: Some(ids(10 * i + 3, [4, 8, 20][i % 3])),
            toxic_prompt: Some(toxic_prompt),
        }
    };
    (0..count).map(triple).collect()
}

/// ε is far above rounding errors of a gradient, so that comparisons of weights are well conditioned: with torch's
/// 1e-8, a first step moves a weight by the *sign* of its gradient, however small that is.
pub(crate) fn options() -> TrainOptions {
    TrainOptions { learning_rate: 3e-3, adam_epsilon: 1e-4, ..TrainOptions::default() }
}

/// Every parameter by name.
pub(crate) fn weights(model: &Llama) -> Vec<(String, Vec<f32>)> {
    struct Collect(Vec<(String, Vec<f32>)>);
    impl ParameterVisitor for Collect {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            self.0.push((name.to_owned(), param.val().into_data().iter::<f32>().collect()));
        }
    }
    let mut collect = Collect(Vec::new());
    model.visit_parameters(&mut collect);
    collect.0
}

/// The greatest difference between two models' weights.
pub(crate) fn distance(a: &Llama, b: &Llama) -> f32 {
    let (a, b) = (weights(a), weights(b));
    let pairs = a.iter().zip(&b).flat_map(|((_, a), (_, b))| a.iter().zip(b));
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The newest checkpoint of a run.
pub(crate) fn newest_checkpoint(run: &Path) -> PathBuf {
    checkpoints(run).pop().expect("there is a checkpoint")
}

/// Everything in a run's `checkpoints`, leftovers included.
pub(crate) fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(run.join("checkpoints")) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}
