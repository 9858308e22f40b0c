//! What the step loop needs to know of the thing it trains on.

use adpo_model::Llama;
use burn::tensor::{Device, Tensor};

use crate::TrainError;
use crate::metrics::StepMetrics;

/// A set of examples and the loss over some of them.
pub(crate) trait Task {
    /// How many examples there are.
    fn examples(&self) -> usize;
    /// The row id of an example, for messages.
    fn row(&self, example: usize) -> &str;
    /// An example's share of a step's mean: its target tokens for SFT, 1 for preferences. The step's loss is
    /// Σ loss / Σ weight over *all* its forward passes, so that 8 × 1 equals 1 × 8.
    fn weight(&self, example: usize) -> f64;
    /// Summed loss `[1]` over the examples, differentiable; metrics are added to `metrics`.
    fn forward(&self, model: &Llama, examples: &[usize], device: &Device, metrics: &mut StepMetrics) -> Result<Tensor<1>, TrainError>;
    /// Everything that the result depends on besides model and options, hashed: a resume checks it.
    fn fingerprint(&self) -> String;
    /// Checks at step 0, before anything is trained.
    fn check_start(&self, _model: &Llama, _device: &Device) -> Result<(), TrainError> {
        Ok(())
    }
}
