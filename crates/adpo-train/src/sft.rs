//! Supervised fine-tuning: mean negative log-likelihood of the trained tokens.

use std::path::Path;

use adpo_data::{Batch, Content, Encoded, Layout, ResponseRole, Sequence};
use adpo_model::Llama;
use burn::tensor::{Device, Tensor};
use sha2::{Digest, Sha256};

use crate::metrics::StepMetrics;
use crate::run::{Trained, run};
use crate::scoring::{Scores, score};
use crate::task::{Task, check_ids};
use crate::{TrainError, TrainOptions};

/// An encoded dialogue with the id of its row.
#[derive(Debug, Clone)]
pub struct SftExample {
    /// The row's id, named in errors.
    pub row: String,
    /// Ids, and which of them are trained.
    pub encoded: Encoded,
}

/// Fine-tunes on the trained tokens of `examples`; the loss is their mean NLL in nats over all tokens of a step.
///
/// Files go to `folder`: `metrics.jsonl`, `timings.jsonl`, `checkpoints/`. If a checkpoint is there, the run goes
/// on from it and ends bit-equal to one that was never interrupted.
///
/// # Errors
/// [`TrainError`] for impossible options, no examples, a loss that is not finite, or files that cannot be used.
pub fn train_sft(model: Llama, examples: &[SftExample], options: &TrainOptions, folder: &Path) -> Result<Trained, TrainError> {
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

pub(crate) struct Sft<'a> {
    examples: &'a [SftExample],
    layout: Layout,
}

impl<'a> Sft<'a> {
    /// Dialogues have no prompts to share.
    pub(crate) fn new(examples: &'a [SftExample], options: &TrainOptions) -> Self {
        Self { examples, layout: Layout { packing: options.packing, share_prompts: false } }
    }
}

fn sequence(example: usize, source: &SftExample) -> Sequence<'_> {
    Sequence { example, role: ResponseRole::Sft, content: Content::Dialogue(&source.encoded) }
}

impl Task for Sft<'_> {
    fn examples(&self) -> usize {
        self.examples.len()
    }

    fn row(&self, example: usize) -> &str {
        &self.examples[example].row
    }

    fn weight(&self, example: usize) -> f64 {
        // The first id of a sequence has nothing before it that could predict it.
        self.examples[example].encoded.trained.iter().skip(1).filter(|t| **t).count() as f64
    }

    fn batch(&self, examples: &[usize]) -> Batch {
        let sequences: Vec<Sequence<'_>> = examples.iter().map(|i| sequence(*i, &self.examples[*i])).collect();
        Batch::new(&sequences, self.layout)
    }

    fn loss(&self, scores: Scores, _batch: &Batch, _examples: &[usize], metrics: &mut StepMetrics) -> Result<Tensor<1>, TrainError> {
        metrics.add("entropy", scores.entropy);
        metrics.add("mean_token_accuracy", scores.correct);
        Ok(scores.sums.sum().neg())
    }

    fn check_examples(&self, vocab_size: usize) -> Result<(), TrainError> {
        for (i, SftExample { row, encoded }) in self.examples.iter().enumerate() {
            let problem = if encoded.trained.len() != encoded.ids.len() {
                format!("has {} ids, but `trained` has {} entries; it needs one per id", encoded.ids.len(), encoded.trained.len())
            } else if self.weight(i) == 0.0 {
                "has no trained token after its first; drop the row".to_owned()
            } else {
                check_ids(row, &encoded.ids, vocab_size)?;
                continue;
            };
            return Err(TrainError::Row { row: row.clone(), problem });
        }
        Ok(())
    }

    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(b"sft");
        for example in self.examples {
            hash.update((example.encoded.ids.len() as u64).to_le_bytes());
            example.encoded.ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
            example.encoded.trained.iter().for_each(|t| hash.update([u8::from(*t)]));
        }
        hex::encode(hash.finalize())
    }
}
