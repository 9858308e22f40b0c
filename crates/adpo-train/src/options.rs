use adpo_data::Layout;
use adpo_model::Dtype;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// How the learning rate moves after the warm-up, which is always linear from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrScheduler {
    /// Stays at `learning_rate`.
    Constant,
    /// Falls linearly to 0 at the last step, as in transformers (the default of TRL).
    #[default]
    Linear,
    /// Falls to 0 along half a cosine, as in transformers.
    Cosine,
}

/// The options of a training run; names and defaults are TRL's where TRL has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option that people switch on and off")]
pub struct TrainOptions {
    /// Passes over the examples, unless `max_steps` says how long to train.
    pub num_train_epochs: usize,
    /// Trains for this many optimiser steps, whatever the epochs say: fewer, or more.
    pub max_steps: Option<usize>,
    /// Examples in one forward pass. Costs memory, not steps.
    pub batch_size: usize,
    /// Forward passes per optimiser step; the mean is over all their tokens or examples.
    pub gradient_accumulation_steps: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Shape of the schedule after the warm-up.
    pub lr_scheduler_type: LrScheduler,
    /// Steps of linear warm-up from 0; the first step then has learning rate 0, as in transformers.
    pub warmup_steps: usize,
    /// Decoupled weight decay; never applied to norms.
    pub weight_decay: f64,
    /// Decay of the first moment.
    pub adam_beta1: f64,
    /// Decay of the second moment.
    pub adam_beta2: f64,
    /// Added to the root of the second moment.
    pub adam_epsilon: f64,
    /// The gradient's global L2 norm is clipped to this; 0 turns clipping off.
    pub max_grad_norm: f64,
    /// Draws a new order of the examples for each epoch; otherwise file order.
    pub shuffle: bool,
    /// Seed of the order of the examples, the only randomness there is. Set by the caller, never by a recipe's
    /// training table: one seed rules a run.
    #[serde(skip)]
    pub seed: u64,
    /// Several examples per row of this many tokens, kept apart by segment ids. Saves padding.
    pub packing: Option<usize>,
    /// Preference training computes a prompt once for all of its responses, and packs prompts with their responses into rows
    /// of `packing` tokens, or of 2048. The same numbers within rounding; saves most where prompts are long. Dialogues of
    /// supervised fine-tuning have no prompt in common.
    pub share_prompts: bool,
    /// The type of weights and activations: `float32`, or `bfloat16` as TRL's `bf16 = true`. Weights in float32 (their masters),
    /// moments, norms, softmax, log-probs and sums over several passes are float32 in any case, and so are adapters.
    pub dtype: Dtype,
    /// Keeps of each forward pass only what each block got, and computes the rest again when going back: one block's
    /// activations in memory instead of all, for a forward pass more. Changes no number.
    pub gradient_checkpointing: bool,
    /// A checkpoint every n steps (and always one at the end).
    pub save_steps: Option<usize>,
    /// How many checkpoints are kept, the newest ones. `None`: two, and none once a stage of a pipeline is finished, whose model is kept in
    /// any case.
    pub save_total_limit: Option<usize>,
    /// Work of the whole run that follows this training, as a multiple of it, for the time left that people are told. Set by the caller,
    /// as the seed is.
    #[serde(skip)]
    pub rest_of_run: f64,
    /// Writes the metrics into an event file for TensorBoard as well, beside `metrics.jsonl`. Set by the caller, never by a recipe's
    /// training table: it changes nothing that is trained.
    #[serde(skip)]
    pub tensorboard: bool,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            num_train_epochs: 1,
            max_steps: None,
            batch_size: 8,
            gradient_accumulation_steps: 1,
            learning_rate: 1e-6,
            lr_scheduler_type: LrScheduler::Linear,
            warmup_steps: 0,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: 1.0,
            shuffle: true,
            seed: 42,
            packing: None,
            share_prompts: true,
            dtype: Dtype::Float32,
            gradient_checkpointing: false,
            save_steps: None,
            save_total_limit: None,
            rest_of_run: 0.0,
            tensorboard: false,
        }
    }
}

impl TrainOptions {
    /// Checks every option.
    ///
    /// # Errors
    /// [`TrainError::Options`] names the first option that cannot work.
    pub fn validate(&self) -> Result<(), TrainError> {
        let unit = 0.0..1.0;
        let ranges = [
            ("num_train_epochs", Some(self.num_train_epochs), 100_000),
            ("max_steps", self.max_steps, 10_000_000),
            ("batch_size", Some(self.batch_size), 65_536),
            ("gradient_accumulation_steps", Some(self.gradient_accumulation_steps), 65_536),
            ("warmup_steps", Some(self.warmup_steps), 10_000_000),
            ("packing", self.packing, 1 << 20),
            ("save_steps", self.save_steps, 10_000_000),
            ("save_total_limit", self.save_total_limit, 10_000_000),
        ];
        // Far above any run, and so far below what a machine counts to that no product of two overflows.
        if let Some((field, _, most)) = ranges.into_iter().find(|(_, value, most)| value.is_some_and(|value| value > *most)) {
            return Err(TrainError::Options { field, problem: format!("must be at most {most}") });
        }
        let checks: [(&'static str, bool, &str); 12] = [
            (
                "dtype",
                self.dtype != Dtype::Float16,
                "must be float32 or bfloat16: the gradients of float16 need loss scaling, which is not there",
            ),
            ("num_train_epochs", self.num_train_epochs > 0, "must be at least 1"),
            ("max_steps", self.max_steps != Some(0), "must be at least 1; leave it out to train all epochs"),
            ("batch_size", self.batch_size > 0, "must be at least 1"),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps > 0, "must be at least 1"),
            ("learning_rate", self.learning_rate.is_finite() && self.learning_rate >= 0.0, "must be a finite number ≥ 0"),
            ("weight_decay", self.weight_decay.is_finite() && self.weight_decay >= 0.0, "must be a finite number ≥ 0"),
            ("adam_beta1", unit.contains(&self.adam_beta1), "must lie in [0, 1)"),
            ("adam_beta2", unit.contains(&self.adam_beta2), "must lie in [0, 1)"),
            ("adam_epsilon", self.adam_epsilon.is_finite() && self.adam_epsilon > 0.0, "must be a finite number > 0"),
            (
                "max_grad_norm",
                self.max_grad_norm.is_finite() && self.max_grad_norm >= 0.0,
                "must be a finite number ≥ 0 (0 turns clipping off)",
            ),
            (
                "save_total_limit",
                self.save_total_limit != Some(0),
                "must be at least 1: training goes on from the last checkpoint; leave it out to keep none of a finished training",
            ),
        ];
        let positive = |field, value| match value {
            Some(0) => Err(TrainError::Options { field, problem: "must be at least 1; leave it out to turn it off".into() }),
            _ => Ok(()),
        };
        positive("save_steps", self.save_steps)?;
        positive("packing", self.packing)?;
        checks
            .into_iter()
            .find(|(_, ok, _)| !ok)
            .map_or(Ok(()), |(field, _, problem)| Err(TrainError::Options { field, problem: problem.into() }))
    }

    /// Refuses a type that the device does not compute in.
    pub(crate) fn check_device(&self, device: &Device) -> Result<(), TrainError> {
        self.dtype.check_device(device).map_err(|error| TrainError::Options { field: "dtype", problem: error.to_string() })
    }

    /// The options that the result depends on: how often and how many checkpoints are written does not change it, nor does what is
    /// computed twice.
    #[must_use]
    pub fn deciding(&self) -> Self {
        Self { save_steps: None, save_total_limit: Some(1), gradient_checkpointing: false, ..self.clone() }
    }

    /// Checkpoints on disk while it trains: of two the older one stays until the newer one is known to be good.
    pub(crate) fn checkpoints_kept(&self) -> usize {
        self.save_total_limit.unwrap_or(2)
    }

    /// How the sequences of preference training are laid out.
    pub(crate) fn layout(&self) -> Layout {
        Layout { packing: self.packing, share_prompts: self.share_prompts }
    }

    /// Examples that one optimiser step consumes.
    pub fn examples_per_step(&self) -> usize {
        self.batch_size * self.gradient_accumulation_steps
    }

    /// Optimiser steps for this many examples: `max_steps`, with as many passes as that takes, or all epochs. An epoch's
    /// last step may be smaller.
    pub fn total_steps(&self, examples: usize) -> usize {
        self.max_steps.unwrap_or(examples.div_ceil(self.examples_per_step()) * self.num_train_epochs)
    }

    /// The learning rate of a step, counted from 0, as transformers' schedulers give it.
    pub fn learning_rate_at(&self, step: usize, total_steps: usize) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * step as f64 / self.warmup_steps as f64;
        }
        let left = total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = ((step - self.warmup_steps) as f64 / left).min(1.0);
        self.learning_rate
            * match self.lr_scheduler_type {
                LrScheduler::Constant => 1.0,
                LrScheduler::Linear => 1.0 - progress,
                LrScheduler::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linear_schedule_is_that_of_transformers() {
        let options = TrainOptions { learning_rate: 1e-3, warmup_steps: 3, ..TrainOptions::default() };
        let rates: Vec<f64> = (0..12).map(|step| options.learning_rate_at(step, 12)).collect();
        assert_eq!(rates[0], 0.0);
        assert!((rates[1] - 1e-3 / 3.0).abs() < 1e-12);
        assert_eq!(rates[3], 1e-3);
        assert!((rates[11] - 1e-3 / 9.0).abs() < 1e-12);
    }

    #[test]
    fn a_cosine_ends_at_zero_and_is_half_way_down_in_the_middle() {
        let options = TrainOptions { learning_rate: 2.0, lr_scheduler_type: LrScheduler::Cosine, ..TrainOptions::default() };
        assert!((options.learning_rate_at(5, 10) - 1.0).abs() < 1e-12);
        assert!(options.learning_rate_at(10, 10).abs() < 1e-12);
    }

    #[test]
    fn max_steps_rules_over_epochs_as_in_trl() {
        let options = |max_steps| TrainOptions {
            num_train_epochs: 2,
            batch_size: 4,
            gradient_accumulation_steps: 1,
            max_steps,
            ..TrainOptions::default()
        };
        assert_eq!([options(None), options(Some(3)), options(Some(9))].map(|o| o.total_steps(10)), [6, 3, 9]);
    }

    #[test]
    fn an_option_that_cannot_work_is_named() {
        let wrong = TrainOptions { adam_beta2: 1.0, ..TrainOptions::default() };
        let message = wrong.validate().expect_err("beta2 = 1 never forgets").to_string();
        assert!(message.contains("adam_beta2"), "{message}");
    }

    #[test]
    fn a_number_that_no_run_can_have_is_out_of_range() {
        for field in [
            "num_train_epochs",
            "max_steps",
            "batch_size",
            "gradient_accumulation_steps",
            "warmup_steps",
            "packing",
            "save_steps",
            "save_total_limit",
        ] {
            for value in [u64::MAX, i64::MAX as u64, 1 << 31, 1 << 24] {
                let options: TrainOptions = serde_json::from_value(serde_json::json!({ field: value })).expect("a whole number");
                let message = options.validate().expect_err("is too large").to_string();
                assert!(message.contains(field) && message.contains("at most"), "{message}");
            }
        }
    }

    #[test]
    fn an_unknown_option_is_refused() {
        let wrong: Result<TrainOptions, _> = serde_json::from_str(r#"{"learning_rat": 1e-3}"#);
        assert!(wrong.expect_err("misspelt").to_string().contains("learning_rat"));
    }
}
