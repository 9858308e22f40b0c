//! The peak memory of drawing responses.

use adpo_model::{Dtype, sampled_at_once};
use serde::Serialize;

use super::memory::{F32, MemoryItem, Trainee};

/// Memory of sampling, in bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SampleMemory {
    /// The sum.
    pub peak: u64,
    /// What it is made of.
    pub items: Vec<MemoryItem>,
}

/// What a model is asked for where responses are drawn.
pub(crate) struct Drawing<'a> {
    pub trainee: &'a Trainee,
    /// The type of weights, activations and cache.
    pub dtype: Dtype,
    /// Responses of a batch.
    pub rows: usize,
    /// Whether on the CPU, which draws them in parts.
    pub on_cpu: bool,
    /// Tokens of the longest prompt.
    pub prompt: usize,
    /// Tokens of the longest response.
    pub new: usize,
    /// Whether responses are scored afterwards, each with its prompt.
    pub scores: bool,
}

impl SampleMemory {
    /// `others` are models beside it.
    pub(crate) fn new(drawing: &Drawing<'_>, others: Vec<MemoryItem>) -> Self {
        let Drawing { trainee, dtype, .. } = *drawing;
        let number = dtype.bytes() as u64;
        let [rows, prompt, new] = [drawing.rows, drawing.prompt, drawing.new].map(|count| count as u64);
        let (_, keys) = trainee.widths();
        let at_once = sampled_at_once(drawing.rows, &trainee.config, drawing.on_cpu) as u64;
        // Keys and values of all layers, for the longest prompt and response from the start.
        let cache = 2 * trainee.blocks() as u64 * at_once * (prompt + new) * keys;
        // Logits are f32 where a token is chosen.
        let working = (number * trainee.working_forward(at_once * prompt)).max((number + F32) * at_once * trainee.config.vocab_size as u64);
        // Of the whole batch; then there is no cache.
        let scoring = if drawing.scores { number * trainee.working_forward(rows * (prompt + new)) } else { 0 };
        let item = |what, bytes: u64| MemoryItem { what, bytes };
        let mut items =
            vec![item("weights", number * trainee.base_numbers()), item("KV cache", number * cache), item("working memory", working)];
        if scoring > number * cache + working {
            items.push(item("more to score the responses", scoring - number * cache - working));
        }
        items.extend(others);
        Self { peak: items.iter().map(|item| item.bytes).sum(), items }
    }
}
