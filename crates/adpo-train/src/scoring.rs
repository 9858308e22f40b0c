//! From sequences to one log-prob each: the only place where the trainer runs the model.

use adpo_data::{Batch, Content, Layout, ResponseRole, Sequence};
use adpo_model::kernels::on_pool;
use adpo_model::{Llama, TokenInput};
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

use crate::optimizer::to_host;

/// What one forward pass says about the sequences of a batch; `s` sequences, `n` targets.
pub(crate) struct SequenceScores {
    /// `[s]`: sum of the log-probs of each sequence's targets, f32, differentiable where the model is.
    pub sums: Tensor<1>,
    /// `[n]`: per-target statistics, detached: entropy in nats, 1 where the argmax is right, mean logit.
    pub entropy: Tensor<1>,
    pub correct: Tensor<1>,
    pub mean_logit: Tensor<1>,
}

/// Runs the model over a batch.
pub(crate) fn score(model: &Llama, batch: &Batch, device: &Device) -> SequenceScores {
    on_pool(|| score_hidden(model, model.hidden(&tokens(batch, device)), batch))
}

/// A batch as the model takes it.
pub(crate) fn tokens(batch: &Batch, device: &Device) -> TokenInput {
    TokenInput::new(batch.rows, batch.width, &batch.ids, &batch.positions, &batch.segments, device).with_branches(&batch.branches)
}

/// What the head says of hidden states `[rows, width, hidden]`. Only positions that predict a target go through it.
pub(crate) fn score_hidden(model: &Llama, hidden: Tensor<3>, batch: &Batch) -> SequenceScores {
    let (device, width) = (&hidden.device(), hidden.dims()[2]);
    let at = ints(batch.targets.iter().map(|t| t.at), device);
    let tokens = ints(batch.targets.iter().map(|t| t.token), device);
    let owner = ints(batch.targets.iter().map(|t| t.sequence), device);
    let rows = hidden.reshape([batch.rows * batch.width, width]).select(0, at);
    let scores = model.token_log_probs(rows, tokens);
    let sums = Tensor::zeros([batch.sequences.len()], device).select_assign(0, owner, scores.log_probs, IndexingUpdateOp::Add);
    SequenceScores { sums, entropy: scores.entropy, correct: scores.correct, mean_logit: scores.mean_logit }
}

/// A prompt with a completion to be scored, as ids.
#[derive(Debug, Clone, Copy)]
pub struct Completion<'a> {
    /// The prompt, at least one id.
    pub prompt: &'a [u32],
    /// What follows it.
    pub completion: &'a [u32],
}

/// log π(completion | prompt) in nats, summed over the completion's tokens in f32: one number each, in order.
pub fn completion_log_probs(model: &Llama, completions: &[Completion<'_>], batch_size: usize, device: &Device) -> Vec<f64> {
    let mut all = Vec::with_capacity(completions.len());
    for chunk in completions.chunks(batch_size.max(1)) {
        let sequences: Vec<Sequence<'_>> = chunk
            .iter()
            .enumerate()
            .map(|(example, Completion { prompt, completion })| Sequence {
                example,
                role: ResponseRole::Sft,
                content: Content::Response { prompt, response: completion },
            })
            .collect();
        let batch = Batch::new(&sequences, Layout { packing: None, share_prompts: true });
        if batch.targets.is_empty() {
            all.extend(chunk.iter().map(|_| 0.0));
        } else {
            all.extend(to_host(score(model, &batch, device).sums).into_iter().map(f64::from));
        }
    }
    all
}

fn ints(values: impl Iterator<Item = u32>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.map(|v| v as i32).collect();
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}
