//! From a batch to one log-prob per sequence: the only place where the trainer runs the model.

use adpo_data::{Batch, Sequence};
use adpo_model::{Llama, TokenInput};
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

/// What one forward pass says about the sequences of a batch; `s` sequences, `n` targets.
pub(crate) struct Scores {
    /// `[s]`: sum of the log-probs of each sequence's targets, f32, differentiable where the model is.
    pub sums: Tensor<1>,
    /// `[n]`: per-target statistics, detached: entropy in nats, 1 where the argmax is right, mean logit.
    pub entropy: Tensor<1>,
    pub correct: Tensor<1>,
    pub mean_logit: Tensor<1>,
}

/// Runs the model over a batch. Only positions that predict a target go through the head.
pub(crate) fn score(model: &Llama, batch: &Batch, device: &Device) -> Scores {
    let input = TokenInput::new(batch.rows, batch.width, &batch.ids, &batch.positions, &batch.segments, device);
    let hidden = model.hidden(&input);
    let width = hidden.dims()[2];
    let at = ints(batch.targets.iter().map(|t| t.at), device);
    let tokens = ints(batch.targets.iter().map(|t| t.token), device);
    let owner = ints(batch.targets.iter().map(|t| t.sequence), device);
    let rows = hidden.reshape([batch.rows * batch.width, width]).select(0, at);
    let scores = model.token_log_probs(rows, tokens);
    let sums = Tensor::zeros([batch.sequences.len()], device).select_assign(0, owner, scores.log_probs, IndexingUpdateOp::Add);
    Scores { sums, entropy: scores.entropy, correct: scores.correct, mean_logit: scores.mean_logit }
}

/// Sequences as batches: one padded batch, or packed rows of a fixed width, still one batch.
pub(crate) fn batch(sequences: &[Sequence], packing: Option<usize>) -> Batch {
    match packing {
        None => Batch::padded(sequences),
        Some(width) => Batch::packed(sequences, width),
    }
}

fn ints(values: impl Iterator<Item = u32>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.map(|v| v as i32).collect();
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}
