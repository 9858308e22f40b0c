//! How large the forward passes of a run will be: laid out as the step loop does, without a model.

use adpo_data::{Batch, EncodedTriple};
use adpo_objective::Objective;

use crate::order::Order;
use crate::preference::Preferences;
use crate::sft::Sft;
use crate::task::{Numbered, Task, parts, passes_at_once};
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

/// Passes whose tensors are in memory at the same time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SideBySide {
    /// How large each of them is.
    pub passes: Vec<PassSize>,
    /// Whether gradients of other passes of the step are waiting.
    pub after_others: bool,
}

/// Steps that are laid out where there are more; one epoch at least. A million more find no larger pass, and take minutes.
const LOOKED_AT: usize = 100_000;

/// The policy's passes of supervised fine-tuning over its steps, as they run side by side; of more than 100,000 steps, these and at least
/// one epoch.
pub fn sft_passes<'a>(examples: &'a [SftExample], options: &'a TrainOptions, on_cpu: bool) -> impl Iterator<Item = SideBySide> + 'a {
    passes(Sft::new(examples, options), options, on_cpu)
}

/// The same for preference training.
pub fn preference_passes<'a>(
    triples: &'a [EncodedTriple],
    objective: &'a Objective,
    options: &'a TrainOptions,
    on_cpu: bool,
) -> impl Iterator<Item = SideBySide> + 'a {
    passes(Preferences { triples, reference: None, objective, layout: options.layout() }, options, on_cpu)
}

fn passes<'a, T: Task + 'a>(task: T, options: &'a TrainOptions, on_cpu: bool) -> impl Iterator<Item = SideBySide> + 'a {
    let examples = task.examples();
    let epoch = examples.div_ceil(options.examples_per_step());
    let steps = if examples == 0 { 0 } else { options.total_steps(examples).min(epoch.max(LOOKED_AT)) };
    let mut order = Order::new(options, examples);
    (0..steps).flat_map(move |step| {
        let mut all = Vec::new();
        for micro in order.of_step(step).chunks(options.batch_size) {
            let rows: Vec<Numbered<'_, T::Row>> =
                micro.iter().map(|i| task.row(*i).expect("rows that lie in memory can be read")).collect();
            for side_by_side in parts(&rows, T::tokens, on_cpu).chunks(passes_at_once(on_cpu)) {
                let passes = side_by_side.iter().map(|part| PassSize::of(&task.batch(part))).collect();
                all.push(SideBySide { passes, after_others: !all.is_empty() });
            }
        }
        all
    })
}
