//! The model's shape in the words of `config.json`, whose checks it then goes through.

use serde_json::json;

use super::header::{Tensor, meant};
use super::{Gguf, tokenizer};
use crate::ModelError;
use crate::config::{LlamaConfig, RopeScaling};

/// What each rotary frequency is divided by.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

const EMBEDDING: &str = "token_embd.weight";

/// Keys under `llama.` that are read here, or say nothing of the forward pass. Any other may change it.
const KNOWN: [&str; 16] = [
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "expert_count",
    "expert_used_count",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "tensor_data_layout",
    "vocab_size",
];

pub(super) fn of(gguf: &Gguf<'_>) -> Result<LlamaConfig, ModelError> {
    refuse_unsupported(gguf)?;
    let size = |key: &str| gguf.whole(&format!("llama.{key}"));
    let needed = |key: &str| gguf.required(&format!("llama.{key}"), size(key)?);
    let (hidden_size, heads) = (needed("embedding_length")?, needed("attention.head_count")?);
    let head_dim = match size("attention.key_length")? {
        Some(width) => width,
        None => hidden_size.checked_div(heads).unwrap_or_default(),
    };
    for same in ["attention.value_length", "rope.dimension_count"] {
        if size(same)?.is_some_and(|other| other != head_dim) {
            return Err(gguf.wrong(&format!("llama.{same}"), &format!("is not the width of a head, {head_dim}; that is not supported")));
        }
    }
    let embedding = gguf.required(EMBEDDING, gguf.tensors.get(EMBEDDING))?;
    let theta = gguf.number("llama.rope.freq_base")?.unwrap_or(10_000.0);
    let epsilon = gguf.number("llama.attention.layer_norm_rms_epsilon")?;
    let fields = json!({
        "model_type": "llama",
        "vocab_size": embedding.shape[0],
        "hidden_size": hidden_size,
        "intermediate_size": needed("feed_forward_length")?,
        "num_hidden_layers": needed("block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": size("attention.head_count_kv")?.unwrap_or(heads),
        "head_dim": head_dim,
        "max_position_embeddings": needed("context_length")?,
        "rms_norm_eps": gguf.required("llama.attention.layer_norm_rms_epsilon", epsilon)?,
        "rope_theta": theta,
        "tie_word_embeddings": !gguf.tensors.contains_key("output.weight"),
        "bos_token_id": gguf.whole(tokenizer::BOS)?,
        "eos_token_id": gguf.whole(tokenizer::EOS)?,
    });
    let file = format!("{}, as config.json", gguf.path.display());
    let config = LlamaConfig::from_json(&fields.to_string(), &file)?;
    match gguf.tensors.get(ROPE_FACTORS) {
        None => Ok(config),
        Some(factors) => {
            let scaling = scaling(factors, theta, config.head_dim).map_err(|problem| gguf.wrong(ROPE_FACTORS, problem))?;
            Ok(LlamaConfig { rope_scaling: scaling, ..config })
        }
    }
}

fn refuse_unsupported(gguf: &Gguf<'_>) -> Result<(), ModelError> {
    let is = |key: &str, allowed: &[&str]| match gguf.text(key)? {
        Some(other) if !allowed.contains(&other) => Err(gguf.wrong(key, &format!("is \"{other}\"; supported: {}", allowed.join(", ")))),
        _ => Ok(()),
    };
    let architecture = "general.architecture";
    gguf.required(architecture, gguf.text(architecture)?)?;
    is(architecture, &["llama"])?;
    is("llama.rope.scaling.type", &["none"])?;
    is("llama.tensor_data_layout", &["Meta AI original pth"])?;
    if gguf.whole("llama.expert_count")?.is_some_and(|experts| experts > 0) {
        return Err(gguf.wrong("llama.expert_count", "is not 0; mixtures of experts are not supported"));
    }
    let ours = |key: &str| key.strip_prefix("llama.").map(str::to_owned);
    match gguf.metadata.keys().filter_map(|key| ours(key)).find(|key| !KNOWN.contains(&key.as_str())) {
        Some(key) => Err(gguf.wrong(&format!("llama.{key}"), "is not supported: it may change what the model computes")),
        None => Ok(()),
    }
}

/// Llama 3's rescaling, as `rope_freqs.weight` has it: one factor for each frequency, without the four numbers that they were made of.
/// Three of these are the same in every Llama 3; the fourth, and the context before the stretch, follow from the factors.
fn scaling(factors: &Tensor<'_>, theta: f64, head_dim: usize) -> Result<Option<RopeScaling>, &'static str> {
    const UNKNOWN: &str = "rescales rotary frequencies as no Llama 3 does; that is not supported";
    let mut stored = vec![0.0_f32; head_dim / 2];
    if factors.shape != [stored.len()] {
        return Err(UNKNOWN);
    }
    factors.encoding.dequantise(factors.bytes, &mut stored);
    if stored.iter().all(|factor| *factor == 1.0) {
        return Ok(None);
    }
    let fits = |scaling: &RopeScaling| {
        stored.iter().enumerate().all(|(i, factor)| {
            let frequency = theta.powf(-2.0 * i as f64 / head_dim as f64);
            let wanted = frequency / scaling.apply(frequency);
            (f64::from(*factor) - wanted).abs() <= 1e-5 * wanted
        })
    };
    // The slowest frequency is stretched whole.
    let factor = meant(*stored.last().ok_or(UNKNOWN)?);
    let contexts = std::iter::once(13).chain(5..=20).map(|power| f64::from(1_u32 << power));
    let scaling = |original_max_position_embeddings| RopeScaling {
        factor,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings,
    };
    contexts.map(scaling).find(fits).map(Some).ok_or(UNKNOWN)
}
