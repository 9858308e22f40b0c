//! What can be wrong with an objective's options or with the log-probs handed to it.

use burn::tensor::DType;

/// Every message says what is wrong, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectiveError {
    /// A number outside of the range in which the loss is defined.
    #[error("objective.{objective}: {option} = {value} is out of range; set {option} to {allowed}")]
    OutOfRange {
        /// The objective's name in a recipe.
        objective: &'static str,
        /// The option's name in a recipe.
        option: &'static str,
        /// What was given.
        value: f64,
        /// What is allowed, in words.
        allowed: &'static str,
    },
    /// An ADPO option that the chosen link never reads.
    #[error("objective.adpo: {option} has no place in link = \"{link}\"; {fix}")]
    NoPlace {
        /// The option, with its value where the value is the trouble.
        option: &'static str,
        /// The link's name in a recipe.
        link: &'static str,
        /// What to write instead.
        fix: &'static str,
    },
    /// The objective reads log-probs that the batch does not carry.
    #[error("objective.{objective} needs {input}, which this batch does not carry; {fix}")]
    MissingInput {
        /// The objective's name in a recipe.
        objective: &'static str,
        /// The missing field of [`LogProbs`](crate::LogProbs).
        input: &'static str,
        /// How to supply it.
        fix: &'static str,
    },
    /// The tensors of one batch do not speak of the same number of examples.
    #[error("{input} holds {found} examples but policy.chosen holds {expected}; give one value per example in every tensor")]
    Shape {
        /// The offending field of [`LogProbs`](crate::LogProbs).
        input: &'static str,
        /// Examples in `policy.chosen`.
        expected: usize,
        /// Examples in the offending tensor.
        found: usize,
    },
    /// A batch without examples.
    #[error("the batch holds no examples; skip it instead of evaluating an objective on it")]
    Empty,
    /// Log-probs in half precision: near −200 its values lie 1 apart, so every log-ratio is noise.
    #[error("{input} has dtype {found:?}; cast token log-probs to f32 before they are summed over the response")]
    Precision {
        /// The offending field of [`LogProbs`](crate::LogProbs).
        input: &'static str,
        /// The tensor's dtype.
        found: DType,
    },
    /// Tensors of one batch on different devices.
    #[error("{input} lies on another device than policy.chosen; move it there with to_device")]
    OtherDevice {
        /// The offending field of [`LogProbs`](crate::LogProbs).
        input: &'static str,
    },
}

/// Accepts finite numbers above zero.
pub(crate) fn positive(objective: &'static str, option: &'static str, value: f64) -> Result<(), ObjectiveError> {
    within(value.is_finite() && value > 0.0, objective, option, value, "a number above 0")
}

/// Accepts finite numbers from zero up.
pub(crate) fn not_negative(objective: &'static str, option: &'static str, value: f64) -> Result<(), ObjectiveError> {
    within(value.is_finite() && value >= 0.0, objective, option, value, "0 or a number above it")
}

/// Accepts label-flip probabilities: at one half a label says nothing, above it the opposite.
pub(crate) fn flip_probability(objective: &'static str, option: &'static str, value: f64) -> Result<(), ObjectiveError> {
    within((0.0..0.5).contains(&value), objective, option, value, "at least 0 and below 0.5")
}

fn within(ok: bool, objective: &'static str, option: &'static str, value: f64, allowed: &'static str) -> Result<(), ObjectiveError> {
    if ok {
        return Ok(());
    }
    Err(ObjectiveError::OutOfRange { objective, option, value, allowed })
}
