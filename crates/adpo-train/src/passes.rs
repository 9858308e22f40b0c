//! How large the forward passes of a run will be: laid out as the step loop does, without a model.

use adpo_data::{Batch, EncodedTriple};
use adpo_objective::Objective;

use crate::order::Order;
use crate::preference::Preferences;
use crate::sft::Sft;
use crate::task::Task;
use crate::{SftExample, TrainOptions};

/// The size of one forward pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PassSize {
    /// Sequences of it.
    pub sequences: usize,
    /// Tokens of its sequences, each with its own prompt.
    pub tokens: usize,
    /// Cells that the model computes, padding included.
    pub cells: usize,
    /// Cells that predict a target, once for each: what goes through the head.
    pub targets: usize,
    /// Pairs of a cell and one that it attends to.
    pub pairs: usize,
}

impl PassSize {
    /// Of a batch as it is laid out.
    pub fn of(batch: &Batch) -> Self {
        Self {
            sequences: batch.sequences.len(),
            tokens: batch.sequences.iter().map(|sequence| sequence.tokens).sum(),
            cells: batch.ids.len(),
            targets: batch.targets.len(),
            // A cell sees one token at each position up to its own.
            pairs: batch.segments.iter().zip(&batch.positions).filter(|(segment, _)| **segment > 0).map(|(_, at)| *at as usize + 1).sum(),
        }
    }
}

/// How many passes of a micro-batch run at the same time. On the CPU each thread takes examples of its own, which keeps it busy
/// also where a kernel is too small to be shared; in training it costs one more set of gradients per thread.
pub fn passes_at_once(on_cpu: bool) -> usize {
    const SETS_OF_GRADIENTS: usize = 4;
    if on_cpu { rayon::current_num_threads().clamp(1, SETS_OF_GRADIENTS) } else { 1 }
}

const IN_MEMORY: &str = "rows that lie in memory can be read";

/// The policy's passes of supervised fine-tuning, micro-batch by micro-batch, over all its steps; of each micro-batch those that
/// run `at_once`.
pub fn sft_passes<'a>(examples: &'a [SftExample], options: &'a TrainOptions, at_once: usize) -> impl Iterator<Item = Vec<PassSize>> + 'a {
    let task = Sft::new(examples, options);
    micro_batches(examples.len(), options, at_once, move |part| batch(&task, part))
}

/// The same for preference training.
pub fn preference_passes<'a>(
    triples: &'a [EncodedTriple],
    objective: &'a Objective,
    options: &'a TrainOptions,
    at_once: usize,
) -> impl Iterator<Item = Vec<PassSize>> + 'a {
    let task = Preferences { triples, reference: None, objective, layout: options.layout() };
    micro_batches(triples.len(), options, at_once, move |part| batch(&task, part))
}

fn batch(task: &impl Task, examples: &[usize]) -> Batch {
    task.batch(&examples.iter().map(|i| task.row(*i).expect(IN_MEMORY)).collect::<Vec<_>>())
}

fn micro_batches<'a>(
    examples: usize,
    options: &'a TrainOptions,
    at_once: usize,
    batch: impl Fn(&[usize]) -> Batch + 'a,
) -> impl Iterator<Item = Vec<PassSize>> + 'a {
    let steps = if examples == 0 { 0 } else { options.total_steps(examples) };
    let mut order = Order::new(options, examples);
    let micro = (0..steps).flat_map(move |step| {
        let examples = order.of_step(step);
        examples.chunks(options.batch_size).map(<[usize]>::to_vec).collect::<Vec<_>>()
    });
    micro.map(move |micro| micro.chunks(micro.len().div_ceil(at_once)).map(|part| PassSize::of(&batch(part))).collect())
}
