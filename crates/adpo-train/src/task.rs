//! What the step loop needs to know of the thing it trains on.

use std::borrow::Cow;

use adpo_data::Batch;
use adpo_model::Llama;
use adpo_model::kernels::PARTS;
use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use crate::TrainError;
use crate::metrics::StepMetrics;
use crate::scoring::SequenceScores;

/// Refuses ids that the model has no embedding for.
pub(crate) fn check_ids(row: &str, ids: &[u32], vocab_size: usize) -> Result<(), TrainError> {
    match ids.iter().find(|id| **id as usize >= vocab_size) {
        None => Ok(()),
        Some(id) => Err(TrainError::Row {
            row: row.to_owned(),
            problem: format!("holds the id {id}, but the model's vocabulary has {vocab_size}; use the tokenizer that belongs to the model"),
        }),
    }
}

/// An example with its number.
pub(crate) type Numbered<'a, R> = (usize, Cow<'a, R>);

/// Whether a device is the CPU, with gradients or without.
pub(crate) fn on_cpu(device: &Device) -> bool {
    device.clone().inner() == Device::flex()
}

/// A micro-batch as the parts of it that go through a model together: on the CPU several, for as many threads, as far as their
/// kernels are long enough to pay for another graph. Nothing but the rows decides how many, so that no sum depends on the threads.
pub(crate) fn parts<'r, 'a, R: Clone>(rows: &'r [Numbered<'a, R>], tokens: fn(&R) -> usize, on_cpu: bool) -> Vec<&'r [Numbered<'a, R>]> {
    /// Tokens of a part of more than two.
    const ENOUGH: usize = 512;
    let parts = if on_cpu { (rows.iter().map(|(_, row)| tokens(row)).sum::<usize>() / ENOUGH).clamp(2, PARTS) } else { 1 };
    rows.chunks(rows.len().div_ceil(parts).max(1)).collect()
}

/// How many passes of a micro-batch run at the same time. On the CPU each thread takes examples of its own, which keeps it busy
/// also where a kernel is too small to be shared; in training it costs one more set of gradients per thread.
pub fn passes_at_once(on_cpu: bool) -> usize {
    if on_cpu { rayon::current_num_threads().min(PARTS) } else { 1 }
}

/// A set of examples and the loss over some of them.
pub(crate) trait Task: Sync {
    /// An example, wherever it lies.
    type Row: Clone + Send + Sync;
    /// How many examples there are.
    fn examples(&self) -> usize;
    /// The example with this number. It may have to be decoded: a step asks once for each of its own.
    fn row(&self, example: usize) -> Result<Numbered<'_, Self::Row>, TrainError>;
    /// The row id of an example, for messages.
    fn id(row: &Self::Row) -> &str;
    /// How many tokens an example has, its prompt once.
    fn tokens(row: &Self::Row) -> usize;
    /// An example's share of a step's mean: its target tokens for SFT, 1 for preferences. The step's loss is
    /// Σ loss / Σ weight over *all* its forward passes, so that 8 × 1 equals 1 × 8.
    fn weight(row: &Self::Row) -> f64;
    /// The sequences that the loss over some examples looks at.
    fn batch(&self, rows: &[Numbered<'_, Self::Row>]) -> Batch;
    /// Summed loss `[1]` over the examples of `batch`, differentiable, from what the model says of it; metrics are added to
    /// `metrics`.
    fn loss(
        &self,
        scores: SequenceScores,
        batch: &Batch,
        rows: &[Numbered<'_, Self::Row>],
        metrics: &mut StepMetrics,
    ) -> Result<Tensor<1>, TrainError>;
    /// Refuses an example that cannot be trained on: a forward pass may take the rest for granted.
    fn check_row(&self, row: &Self::Row, vocab_size: usize) -> Result<(), TrainError>;
    /// Refuses examples that do not belong to what else the task has.
    fn check_rows(&self) -> Result<(), TrainError> {
        Ok(())
    }
    /// Everything that the result depends on besides model and options, hashed: a resume checks it.
    fn fingerprint(&self) -> Result<String, TrainError>;
    /// Checks at step 0, before anything is trained.
    fn check_start(&self, _model: &Llama, _device: &Device) -> Result<(), TrainError> {
        Ok(())
    }
}

/// Checks all examples, on all threads: of several bad ones the first is the error.
pub(crate) fn check_examples<T: Task>(task: &T, vocab_size: usize) -> Result<(), TrainError> {
    let check = |example| task.row(example).and_then(|(_, row)| task.check_row(&row, vocab_size)).err();
    (0..task.examples()).into_par_iter().find_map_first(check).map_or_else(|| task.check_rows(), Err)
}
