//! Supervised fine-tuning: mean negative log-likelihood of the trained tokens.

use std::path::Path;

use adpo_data::{Batch, Content, Encoded, EncodedRows, Layout, ResponseRole, Sequence};
use adpo_model::Llama;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::metrics::StepMetrics;
use crate::run::{Trained, run};
use crate::scoring::{SequenceScores, score};
use crate::task::{Numbered, Task, check_ids};
use crate::{TrainError, TrainOptions};

/// An encoded dialogue with the id of its row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SftExample {
    /// The row's id, named in errors.
    pub row: String,
    /// Ids, and which of them are trained.
    pub encoded: Encoded,
}

/// Fine-tunes on the trained tokens of `examples`; the loss is their mean NLL in nats over all tokens of a step.
///
/// Files go to `folder`: `metrics.jsonl`, `timings.jsonl`, `checkpoints/`. If a checkpoint is there, the run goes
/// on from it and ends bit-equal to one that was never interrupted. Examples are asked for when a step comes to them, so
/// that those of a [`adpo_data::TokenCache`] stay in their file.
///
/// # Errors
/// [`TrainError`] for impossible options, no examples, a loss that is not finite, or files that cannot be used.
pub fn train_sft(
    model: Llama,
    examples: &(impl EncodedRows<SftExample> + ?Sized),
    options: &TrainOptions,
    folder: &Path,
) -> Result<Trained, TrainError> {
    run(model, &Sft::new(examples, options), options, folder)
}

/// Mean NLL in nats over the trained tokens of `examples`, and their number; perplexity is its exponential.
pub fn mean_nll(model: &Llama, examples: &[SftExample], batch_size: usize, device: &Device) -> (f64, usize) {
    let mut total = (0.0, 0);
    for chunk in examples.chunks(batch_size.max(1)) {
        let sequences: Vec<Sequence<'_>> = chunk.iter().enumerate().map(|(i, e)| sequence(i, e)).collect();
        let batch = Batch::new(&sequences, Layout::default());
        if batch.targets.is_empty() {
            continue;
        }
        total.1 += batch.targets.len();
        let sums = score(model, &batch, device).sums;
        total.0 -= crate::optimizer::to_host(sums).into_iter().map(f64::from).sum::<f64>();
    }
    (total.0 / total.1.max(1) as f64, total.1)
}

pub(crate) struct Sft<'a, R: ?Sized> {
    examples: &'a R,
    layout: Layout,
}

impl<'a, R: EncodedRows<SftExample> + ?Sized> Sft<'a, R> {
    /// Dialogues have no prompts to share.
    pub(crate) fn new(examples: &'a R, options: &TrainOptions) -> Self {
        Self { examples, layout: Layout { packing: options.packing, share_prompts: false } }
    }
}

fn sequence(example: usize, source: &SftExample) -> Sequence<'_> {
    Sequence { example, role: ResponseRole::Sft, content: Content::Dialogue(&source.encoded) }
}

fn targets(encoded: &Encoded) -> usize {
    // The first id of a sequence has nothing before it that could predict it.
    encoded.trained.iter().skip(1).filter(|t| **t).count()
}

impl<R: EncodedRows<SftExample> + ?Sized> Task for Sft<'_, R> {
    type Row = SftExample;

    fn examples(&self) -> usize {
        self.examples.len()
    }

    fn row(&self, example: usize) -> Result<Numbered<'_, SftExample>, TrainError> {
        Ok((example, self.examples.row(example)?))
    }

    fn id(row: &SftExample) -> &str {
        &row.row
    }

    fn tokens(row: &SftExample) -> usize {
        row.encoded.ids.len()
    }

    fn weight(row: &SftExample) -> f64 {
        targets(&row.encoded) as f64
    }

    fn batch(&self, rows: &[Numbered<'_, SftExample>]) -> Batch {
        let sequences: Vec<Sequence<'_>> = rows.iter().map(|(i, row)| sequence(*i, row)).collect();
        Batch::new(&sequences, self.layout)
    }

    fn loss(
        &self,
        scores: SequenceScores,
        _batch: &Batch,
        _rows: &[Numbered<'_, SftExample>],
        metrics: &mut StepMetrics,
    ) -> Result<Tensor<1>, TrainError> {
        metrics.add("entropy", scores.entropy);
        metrics.add("mean_token_accuracy", scores.correct);
        Ok(scores.sums.sum().neg())
    }

    fn check_row(&self, row: &SftExample, vocab_size: usize) -> Result<(), TrainError> {
        let SftExample { row, encoded } = row;
        let problem = if encoded.trained.len() != encoded.ids.len() {
            format!("has {} ids, but `trained` has {} entries; it needs one per id", encoded.ids.len(), encoded.trained.len())
        } else if targets(encoded) == 0 {
            "has no trained token after its first; drop the row".to_owned()
        } else {
            return check_ids(row, &encoded.ids, vocab_size);
        };
        Err(TrainError::Row { row: row.clone(), problem })
    }

    fn fingerprint(&self) -> Result<String, TrainError> {
        Ok(format!("sft {}", self.examples.digest()?))
    }
}
