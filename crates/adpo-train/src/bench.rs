//! Steps without files, for timing.

use std::time::Instant;

use adpo_data::{EncodedRows, EncodedTriple};
use adpo_model::Llama;
use adpo_objective::Objective;

use crate::optimizer::AdamW;
use crate::order::Order;
use crate::preference::Preferences;
use crate::run::Engine;
use crate::sft::Sft;
use crate::task::{Task, check_examples};
use crate::{Reference, SftExample, TrainError, TrainOptions};

/// What one timed step took.
#[derive(Debug, Clone, Copy)]
pub struct BenchStep {
    /// Wall-clock seconds from the encoded rows to the updated weights.
    pub seconds: f64,
    /// Tokens of the policy's sequences, each with its prompt; padding not counted.
    pub tokens: usize,
    /// Cells that the policy computed for them: more by the padding, fewer where sequences share a prompt.
    pub cells: usize,
    /// The step's loss.
    pub loss: f64,
}

/// Times `steps` optimiser steps of supervised fine-tuning; nothing is written.
///
/// # Errors
/// [`TrainError`] as for training.
pub fn bench_sft(
    model: Llama,
    examples: &(impl EncodedRows<SftExample> + ?Sized),
    options: &TrainOptions,
    steps: usize,
) -> Result<Vec<BenchStep>, TrainError> {
    bench(model, &Sft::new(examples, options), options, steps)
}

/// Times `steps` optimiser steps of preference training; nothing is written. A live reference is part of the step.
///
/// # Errors
/// [`TrainError`] as for training.
pub fn bench_preference(
    policy: Llama,
    reference: &Reference,
    triples: &(impl EncodedRows<EncodedTriple> + ?Sized),
    objective: &Objective,
    options: &TrainOptions,
    steps: usize,
) -> Result<Vec<BenchStep>, TrainError> {
    let task = Preferences { triples, reference: Some(reference), objective, layout: options.layout() };
    bench(policy, &task, options, steps)
}

fn bench(model: Llama, task: &impl Task, options: &TrainOptions, steps: usize) -> Result<Vec<BenchStep>, TrainError> {
    options.check_device(&model.device())?;
    if task.examples() == 0 {
        return Err(TrainError::NoExamples);
    }
    check_examples(task, model.config().vocab_size)?;
    let mut engine = Engine::new(model, AdamW::new(options), options);
    let per_epoch = task.examples().div_ceil(options.examples_per_step()).max(1);
    let mut order = Order::new(options, task.examples());
    (0..steps)
        .map(|step| {
            let started = Instant::now();
            let stepped = engine.step(task, order.of_step(step % per_epoch), options.learning_rate)?;
            let (seconds, metrics) = (started.elapsed().as_secs_f64(), stepped.metrics);
            Ok(BenchStep { seconds, tokens: metrics.tokens, cells: metrics.cells, loss: stepped.loss })
        })
        .collect()
}
