//! Which examples a step sees.

use adpo_data::epoch_order;

use crate::TrainOptions;

/// Hands out the examples step by step, and keeps the order of the epoch at hand: 8 bytes per example.
pub(crate) struct Order<'a> {
    options: &'a TrainOptions,
    examples: usize,
    epoch: Option<(usize, Vec<usize>)>,
}

impl<'a> Order<'a> {
    pub(crate) fn new(options: &'a TrainOptions, examples: usize) -> Self {
        Self { options, examples, epoch: None }
    }

    /// The examples of a step, counted from 0: a window of its epoch's order, which depends on seed and epoch alone, so that a run
    /// can go on anywhere.
    pub(crate) fn of_step(&mut self, step: usize) -> &[usize] {
        let size = self.options.examples_per_step();
        let per_epoch = self.examples.div_ceil(size).max(1);
        let (epoch, start) = (step / per_epoch, step % per_epoch * size);
        let known = self.epoch.take().filter(|(known, _)| *known == epoch);
        let (_, order) = self.epoch.insert(known.unwrap_or_else(|| (epoch, self.of_epoch(epoch))));
        &order[start..self.examples.min(start + size)]
    }

    fn of_epoch(&self, epoch: usize) -> Vec<usize> {
        if self.options.shuffle { epoch_order(self.examples, self.options.seed, epoch as u64) } else { (0..self.examples).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_has_an_order_of_its_own_wherever_the_run_begins() {
        let options = TrainOptions { batch_size: 4, gradient_accumulation_steps: 1, shuffle: true, ..TrainOptions::default() };
        let mut order = Order::new(&options, 10);
        let steps: Vec<Vec<usize>> = (0..6).map(|step| order.of_step(step).to_vec()).collect();
        assert_eq!(steps[..3].concat(), epoch_order(10, options.seed, 0));
        assert_eq!(steps[3..].concat(), epoch_order(10, options.seed, 1));
        assert_eq!(steps[5].len(), 2, "an epoch's last step has the rest");
        for step in [4, 1, 5, 0] {
            assert_eq!(order.of_step(step), steps[step]);
            assert_eq!(Order::new(&options, 10).of_step(step), steps[step]);
        }
    }
}
